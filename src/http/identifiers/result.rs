//! A DID resolution result (W3C DID Resolution, section 9), and the errors that it may hold
//! (section 11), with their statuses (section 12.1).

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use chrono::SecondsFormat;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::form::Form;
use crate::domain::Timestamp;
use crate::http::problem::Problem;
use crate::http::words::JsonObject;
use crate::resolvers::Unusable;
use crate::services::ResolvedDid;

/// A DID resolution result.
#[derive(Serialize, ToSchema)]
#[schema(as = DidResolutionResult, example = json!({
    "didDocument": {
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": "did:web:client.example",
        "verificationMethod": [{
            "id": "did:web:client.example#key-1",
            "type": "Multikey",
            "controller": "did:web:client.example",
            "publicKeyMultibase": "z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw",
        }],
        "authentication": ["did:web:client.example#key-1"],
        "assertionMethod": ["did:web:client.example#key-1"],
    },
    "didResolutionMetadata": { "contentType": "application/did" },
    "didDocumentMetadata": { "created": "2026-01-01T00:00:00Z" },
}))]
#[serde(rename_all = "camelCase")]
pub(super) struct View<'a> {
    /// In `application/ld+json` alone.
    #[serde(rename = "@context", skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    context: Option<&'static str>,
    /// Null with an error, and when the DID is deactivated.
    #[schema(value_type = Option<JsonObject>, required = true)]
    did_document: Option<&'a Map<String, Value>>,
    did_resolution_metadata: ResolutionMetadata<'a>,
    did_document_metadata: DocumentMetadata,
}

/// What is said of the resolution.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = DidResolutionMetadata)]
#[serde(rename_all = "camelCase")]
struct ResolutionMetadata<'a> {
    /// The media type of the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    content_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<ErrorView<'a>>,
    /// The error's detail, in `application/ld+json` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error_message: Option<&'a str>,
}

/// What is said of the document.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = DidDocumentMetadata)]
#[serde(rename_all = "camelCase")]
struct DocumentMetadata {
    /// When the DID was stored here; of a DID that lives elsewhere this is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    created: Option<String>,
    /// When it was stored here anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    updated: Option<String>,
    /// The block at which it was read, where there are blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    version_id: Option<String>,
    /// True for a DID that was revoked here, or that its home has taken out of use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    deactivated: Option<bool>,
}

/// An error of the resolution: a problem (RFC 9457); in `application/ld+json` its name alone.
#[derive(Serialize, ToSchema)]
#[schema(as = DidResolutionError)]
#[serde(untagged)]
enum ErrorView<'a> {
    Problem {
        #[serde(rename = "type")]
        #[schema(example = "https://www.w3.org/ns/did#NOT_FOUND")]
        kind: String,
        title: &'static str,
        detail: &'a str,
    },
    Name(&'static str),
}

/// Why a DID is not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Error {
    InvalidDid,
    InvalidOptions,
    NotFound,
    RepresentationNotSupported,
    InvalidDidDocument,
    MethodNotSupported,
    UnsupportedPublicKeyType,
    FeatureNotSupported,
}

/// What is said about an error.
struct Meaning {
    status: StatusCode,
    /// The fragment of its type.
    name: &'static str,
    /// What it was before errors had types.
    legacy_name: &'static str,
    title: &'static str,
}

impl Error {
    pub(super) const fn of(unusable: &Unusable) -> Self {
        match unusable {
            Unusable::Did(_) => Self::InvalidDid,
            Unusable::KeyType(_) => Self::UnsupportedPublicKeyType,
            Unusable::Method(_) => Self::MethodNotSupported,
            Unusable::Representation(_) => Self::RepresentationNotSupported,
            Unusable::Document(_) => Self::InvalidDidDocument,
        }
    }

    const fn meaning(self) -> Meaning {
        let (status, name, legacy_name, title) = match self {
            Self::InvalidDid => {
                (StatusCode::BAD_REQUEST, "INVALID_DID", "invalidDid", "Invalid DID")
            }
            Self::InvalidOptions => {
                (StatusCode::BAD_REQUEST, "INVALID_OPTIONS", "invalidOptions", "Invalid options")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND", "notFound", "Not found"),
            Self::RepresentationNotSupported => (
                StatusCode::NOT_ACCEPTABLE,
                "REPRESENTATION_NOT_SUPPORTED",
                "representationNotSupported",
                "Representation not supported",
            ),
            Self::InvalidDidDocument => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "INVALID_DID_DOCUMENT",
                "invalidDidDocument",
                "Invalid DID document",
            ),
            Self::MethodNotSupported => (
                StatusCode::NOT_IMPLEMENTED,
                "METHOD_NOT_SUPPORTED",
                "methodNotSupported",
                "DID method not supported",
            ),
            // Of the did:key method. The binding has 500 for errors that are not its own; but
            // nothing has failed here.
            Self::UnsupportedPublicKeyType => (
                StatusCode::NOT_IMPLEMENTED,
                "UNSUPPORTED_PUBLIC_KEY_TYPE",
                "unsupportedPublicKeyType",
                "Key type not supported",
            ),
            Self::FeatureNotSupported => (
                StatusCode::NOT_IMPLEMENTED,
                "FEATURE_NOT_SUPPORTED",
                "featureNotSupported",
                "Feature not supported",
            ),
        };
        Meaning { status, name, legacy_name, title }
    }
}

/// The answer with a DID's document.
pub(super) fn found(
    resolved: &ResolvedDid,
    document: &Map<String, Value>,
    form: Form,
) -> Result<HttpResponse, Problem> {
    let of_document = match form {
        Form::Document | Form::JsonLdDocument | Form::JsonDocument => {
            return written(StatusCode::OK, form, document);
        }
        Form::Result => Form::Document,
        Form::LegacyResult if document.contains_key("@context") => Form::JsonLdDocument,
        Form::LegacyResult => Form::JsonDocument,
    };
    let metadata =
        ResolutionMetadata { content_type: Some(of_document.media_type()), ..Default::default() };
    whole(StatusCode::OK, form, Some(document), metadata, document_metadata(resolved))
}

/// The answer for a DID that was revoked here, or that its home has taken out of use. It is a
/// whole result, whatever was asked for: the document is given to nobody any more.
pub(super) fn deactivated(resolved: &ResolvedDid, form: Form) -> Result<HttpResponse, Problem> {
    let metadata = DocumentMetadata { deactivated: Some(true), ..document_metadata(resolved) };
    whole(StatusCode::GONE, form, None, ResolutionMetadata::default(), metadata)
}

/// The answer without a document. It is a whole result, whatever was asked for.
pub(super) fn refused(error: Error, detail: &str, form: Form) -> Result<HttpResponse, Problem> {
    let Meaning { status, name, legacy_name, title } = error.meaning();
    let metadata = if form == Form::LegacyResult {
        ResolutionMetadata {
            error: Some(ErrorView::Name(legacy_name)),
            error_message: Some(detail),
            ..Default::default()
        }
    } else {
        let kind = format!("https://www.w3.org/ns/did#{name}");
        let error = ErrorView::Problem { kind, title, detail };
        ResolutionMetadata { error: Some(error), ..Default::default() }
    };
    whole(status, form, None, metadata, DocumentMetadata::default())
}

fn document_metadata(resolved: &ResolvedDid) -> DocumentMetadata {
    let version_id = resolved.version.map(|version| version.to_string());
    // Of others we know when we first saw them, which says nothing of their documents.
    if resolved.source != "stored" {
        return DocumentMetadata { version_id, ..Default::default() };
    }
    let updated = resolved.updated_at.filter(|_| resolved.updated_at != resolved.created_at);
    DocumentMetadata {
        created: resolved.created_at.map(datetime),
        updated: updated.map(datetime),
        version_id,
        deactivated: None,
    }
}

/// XML Schema's dateTime in UTC without fractions of a second (section 3.1).
fn datetime(time: Timestamp) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn whole(
    status: StatusCode,
    form: Form,
    did_document: Option<&Map<String, Value>>,
    did_resolution_metadata: ResolutionMetadata<'_>,
    did_document_metadata: DocumentMetadata,
) -> Result<HttpResponse, Problem> {
    let form = if form == Form::LegacyResult { form } else { Form::Result };
    let context = (form == Form::LegacyResult).then_some("https://w3id.org/did-resolution/v1");
    let view = View { context, did_document, did_resolution_metadata, did_document_metadata };
    written(status, form, &view)
}

fn written(status: StatusCode, form: Form, body: &impl Serialize) -> Result<HttpResponse, Problem> {
    let bytes = serde_json::to_vec(body)
        .map_err(|error| Problem::internal(format!("an answer cannot be written: {error}")))?;
    Ok(HttpResponse::build(status)
        .content_type(form.media_type())
        .insert_header((header::VARY, "Accept"))
        .body(bytes))
}
