//! DIDs as W3C DID Resolution has them (section 12.1: the HTTP(S) binding, with `GET`), for the
//! clients of a Universal Resolver.
//!
//! What can be said of a DID is a resolution result. What keeps us from saying anything, such as
//! a missing credential or a home that is down, is a problem as everywhere in this API; clients
//! of the binding take that for an internal error of the resolver.

mod form;
mod readers;
mod result;

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{FromRequest as _, HttpRequest, HttpResponse, web};
use url::form_urlencoded;

use super::auth::Access;
use super::body::{Incoming, MAX_BODY};
use super::dids::set_age;
use super::exchange::Exchange;
use super::input::Input;
use super::problem::Problem;
use super::{State, call, credentials, peer};
use crate::domain::InvalidDid;
use crate::services::{Asker, Lookup, ResolvedDid, ServiceError};

use form::Form;
pub(super) use readers::{__path_methods, __path_properties, methods, properties};
use result::{Error, View};

/// Resolve a DID, as W3C DID Resolution has it.
///
/// An error is a whole result, whatever was asked for, unless it is none of the DID's: then it is
/// a problem.
#[utoipa::path(
    get, path = "/1.0/identifiers/{did}", operation_id = "resolve_did", tag = "dids",
    params(
        ("did" = String, Path, description = "As it stands, or percent-encoded once with its colons.",
            example = "did:web:client.example"),
        ("noCache" = Option<bool>, Query, description = "Whether to read the DID from where it lives, now.", example = false),
    ),
    responses(
        (status = 200, description = "The DID's document, with or without a resolution result, by `Accept`.",
            content(
                (View = "application/did-resolution"),
                (View = "application/ld+json;profile=\"https://w3id.org/did-resolution\""),
                (Object = "application/did"),
                (Object = "application/did+ld+json"),
                (Object = "application/did+json"),
            ),
            headers(
                ("Age" = u32, description = "How many seconds ago it was read."),
                ("Cache-Control" = String, description = "private, and for how long it is fresh from when it was read."),
                ("Vary" = String, description = "Accept."),
            )),
        (status = 400, description = "`INVALID_DID`, `INVALID_OPTIONS`.", body = View,
            content_type = "application/did-resolution", example = json!({
                "didDocument": null,
                "didResolutionMetadata": {"error": {
                    "type": "https://www.w3.org/ns/did#INVALID_DID",
                    "title": "Invalid DID",
                    "detail": "the key is not `z` followed by base58btc, or `u` followed by base64url (multibase)",
                }},
                "didDocumentMetadata": {},
            })),
        (status = 404, description = "`NOT_FOUND`.", body = View,
            content_type = "application/did-resolution", example = json!({
                "didDocument": null,
                "didResolutionMetadata": {"error": {
                    "type": "https://www.w3.org/ns/did#NOT_FOUND",
                    "title": "Not found",
                    "detail": "nothing is known of this DID",
                }},
                "didDocumentMetadata": {},
            })),
        (status = 406, description = "`REPRESENTATION_NOT_SUPPORTED`.", body = View,
            content_type = "application/did-resolution", example = json!({
                "didDocument": null,
                "didResolutionMetadata": {"error": {
                    "type": "https://www.w3.org/ns/did#REPRESENTATION_NOT_SUPPORTED",
                    "title": "Representation not supported",
                    "detail": "Accept has none of application/did-resolution, application/did, application/did+ld+json, application/did+json, application/ld+json and application/json",
                }},
                "didDocumentMetadata": {},
            })),
        (status = 410, description = "The DID was revoked, or its home has taken it out of use.", body = View,
            content_type = "application/did-resolution", example = json!({
                "didDocument": null,
                "didResolutionMetadata": {},
                "didDocumentMetadata": {"deactivated": true},
            })),
        (status = 500, description = "`INVALID_DID_DOCUMENT`.", body = View,
            content_type = "application/did-resolution", example = json!({
                "didDocument": null,
                "didResolutionMetadata": {"error": {
                    "type": "https://www.w3.org/ns/did#INVALID_DID_DOCUMENT",
                    "title": "Invalid DID document",
                    "detail": "the document's id is not the DID",
                }},
                "didDocumentMetadata": {},
            })),
        (status = 501, description = "`METHOD_NOT_SUPPORTED`, `UNSUPPORTED_PUBLIC_KEY_TYPE`, `FEATURE_NOT_SUPPORTED`.", body = View,
            content_type = "application/did-resolution", example = json!({
                "didDocument": null,
                "didResolutionMetadata": {"error": {
                    "type": "https://www.w3.org/ns/did#METHOD_NOT_SUPPORTED",
                    "title": "DID method not supported",
                    "detail": "no resolver reads did:example",
                }},
                "didDocumentMetadata": {},
            })),
    ),
    extensions(("x-all-errors" = json!([
        "unauthenticated", "forbidden", "payload_too_large", "internal_error", "upstream_unavailable",
        "storage_unavailable", "storage_went_back",
    ]))),
)]
pub(super) async fn resolve(request: HttpRequest, access: Access) -> Result<HttpResponse, Problem> {
    let (state, asker) = admit(&request, access).await?;
    let Some(form) = Form::asked_for(&request) else {
        let detail = "Accept has none of application/did-resolution, application/did, \
                      application/did+ld+json, application/did+json, application/ld+json and \
                      application/json";
        return result::refused(Error::RepresentationNotSupported, detail, Form::Result);
    };
    let resolved = match look_up(&request, &state, asker).await? {
        Ok(resolved) => resolved,
        Err((error, detail)) => return result::refused(error, &detail, form),
    };
    if resolved.is_revoked() {
        return result::deactivated(&resolved, form);
    }
    let Some(document) = resolved.document() else {
        return Err(Problem::internal(format!("{} has neither document nor end", resolved.did)));
    };
    let mut response = result::found(&resolved, &document, form)?;
    set_age(&mut response, &resolved);
    Ok(response)
}

/// Lets in who may resolve DIDs: with `identifiers.public`, those who do not say who they are, too.
async fn admit(
    request: &HttpRequest,
    access: Access,
) -> Result<(web::Data<State>, Asker), Problem> {
    let state = call::state_of(request)?;
    let server = &state.config.server;
    if state.config.identifiers.public && credentials::is_nobody(request) {
        let asker = Asker::Stranger(peer::of(request, server));
        return Ok((state, asker));
    }
    let caller = if credentials::is_signed(request) {
        // Refused in any case, before its body would be read: with what is wrong with it.
        let payload = web::Payload::from_request(request, &mut Payload::None).await;
        let payload = payload.map_err(|error| Problem::internal(error.to_string()))?;
        let mut body = Incoming::of(request, payload, MAX_BODY)?;
        Box::pin(credentials::by_signature(request, &mut body, access.into(), &state)).await?.0
    } else {
        credentials::by_token(request, &state).await?
    };
    Exchange::of(request).set_caller(caller.clone());
    let asker = Asker::Trusted(caller.peer(request, server));
    access.admits(&caller, request)?;
    Ok((state, asker))
}

/// What is known of the DID, or why it is not resolved.
async fn look_up(
    request: &HttpRequest,
    state: &State,
    asker: Asker,
) -> Result<Result<Arc<ResolvedDid>, (Error, String)>, Problem> {
    let refused = |error, detail: &str| Ok(Err((error, detail.to_owned())));
    let Some(did) = Input::without_body(request).path_did("did") else {
        return refused(Error::InvalidDid, &InvalidDid.to_string());
    };
    let no_cache = match no_cache(request.query_string()) {
        Ok(no_cache) => no_cache,
        Err((error, detail)) => return refused(error, detail),
    };
    let dids = &state.dids;
    let lookup = match dids.get(&did, no_cache.then_some(Duration::ZERO), asker).await {
        Err(ServiceError::RateLimited) => {
            let detail = "noCache is not permitted so soon after the DID was read; try without";
            return refused(Error::FeatureNotSupported, detail);
        }
        lookup => lookup?,
    };
    match lookup {
        Lookup::Found(resolved) => Ok(Ok(resolved)),
        Lookup::NotFound if dids.reads_method_of(&did) => {
            refused(Error::NotFound, "nothing is known of this DID")
        }
        Lookup::NotFound => {
            refused(Error::MethodNotSupported, &format!("no resolver reads did:{}", did.method()))
        }
        Lookup::Unresolvable(why) => refused(Error::of(&why), &why.to_string()),
    }
}

/// The one resolution option that we know (section 13.2).
fn no_cache(query: &str) -> Result<bool, (Error, &'static str)> {
    let mut no_cache = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "noCache" {
            let detail = "of the resolution options, noCache alone is supported; DID URLs are \
                          not dereferenced";
            return Err((Error::FeatureNotSupported, detail));
        }
        no_cache = match (&*value, no_cache) {
            ("true", None) => Some(true),
            ("false", None) => Some(false),
            _ => return Err((Error::InvalidOptions, "noCache must be true or false, once")),
        };
    }
    Ok(no_cache.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_no_cache_alone() {
        for (query, expected) in [("", false), ("noCache=true", true), ("noCache=false", false)] {
            assert_eq!(no_cache(query), Ok(expected), "{query}");
        }
        for query in ["noCache", "noCache=1", "noCache=TRUE", "noCache=true&noCache=true"] {
            let error = no_cache(query).map_err(|(error, _)| error);
            assert_eq!(error, Err(Error::InvalidOptions), "{query}");
        }
        for query in [
            "versionId=1",
            "versionTime=2026-01-01T00:00:00Z",
            "expandRelativeUrls=true",
            "nocache=true",
            "noCache=true&versionId=1",
            "versionId=1&noCache=x",
            "service=files&relativeRef=/resume.pdf",
        ] {
            let error = no_cache(query).map_err(|(error, _)| error);
            assert_eq!(error, Err(Error::FeatureNotSupported), "{query}");
        }
    }
}
