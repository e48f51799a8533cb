//! `/openapi.json`. The document is made from the handlers' own descriptions; who may call an
//! operation comes from the table of operations, and its errors from the table of codes.

mod errors;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
#[cfg(test)]
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{ArrayBuilder, Schema};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Ref, RefOr, Type};

use super::auth::Access;
use super::fields::FieldError;
use super::problem::{Body, Problem};
use super::words::{JsonObject, SessionStateFilter};
use super::{
    claims, dids, erasure, events, forward_auth, identifiers, instances, namespaces, nonces,
    operations, records, search, sessions, stats, verify, webhooks,
};

const TOKEN: &str = "token";
const SIGNATURE: &str = "signature";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "onceguard",
        description = "The trust-state service for agents: sessions between DIDs, nonces accepted at most once, DID keys and revocations.\n\nEvery error is an RFC 9457 problem with a stable `code`; `type` is the page that explains it.",
    ),
    tags(
        (name = "sessions", description = "Relations between a client DID and a server DID."),
        (name = "nonces", description = "Claims: a nonce is accepted at most once in its scope."),
        (name = "dids", description = "Keys and revocations."),
        (name = "records", description = "What clients encrypted, and keep here."),
        (name = "events", description = "One log: the audit trail, and what callers publish."),
        (name = "webhooks", description = "Where events are sent."),
        (name = "verdicts", description = "Is a signed request from who it says, fresh, and no replay?"),
        (name = "operations"),
    ),
    paths(
        sessions::open, sessions::list, sessions::end_all, sessions::read, sessions::change,
        sessions::end, sessions::key, sessions::touch,
        nonces::claim, nonces::used, claims::claim,
        namespaces::claim, namespaces::read_namespace, namespaces::used,
        dids::list, dids::read, dids::put, dids::forget, dids::revoke, dids::refresh, erasure::erase,
        records::put, records::read, records::delete, records::batch, records::feed, records::usage,
        records::delete_all, records::inactive, records::delete_inactive,
        identifiers::resolve, identifiers::methods, identifiers::properties,
        verify::verify, forward_auth::forward_auth, events::publish, events::read, search::search,
        webhooks::create, webhooks::list, webhooks::change, webhooks::delete, webhooks::deliveries,
        webhooks::replay, stats::stats, instances::list, serve,
    ),
    components(schemas(Body, FieldError, claims::NewClaim, SessionStateFilter)),
)]
struct Document;

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(document().to_json().unwrap_or_default()));

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1.", body = JsonObject)),
)]
pub(super) async fn serve(_: HttpRequest) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(DOCUMENT.clone()))
}

/// The document, with what the descriptions leave out: security, and every error.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    // Swagger UI would link the identifier to a page that SPDX does not have for two licences.
    if let Some(license) = &mut document.info.license {
        license.identifier = None;
    }
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A token made by `onceguard token create`."))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
    name_items(&mut components.schemas);
    let signature = ApiKeyValue::with_description(
        "Signature",
        "The request is signed with the key of a DID (RFC 9421): Signature-Input and Signature, with tag=\"onceguard\".",
    );
    components.add_security_scheme(SIGNATURE, SecurityScheme::ApiKey(ApiKey::Header(signature)));
    let accesses = operations::accesses();
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations_of(item) {
            let described = operation.extensions.take().unwrap_or_default();
            // An operation without an access is for everybody.
            if let Some(access) = accesses.get(&format!("{method} {path}")) {
                operation.security = Some(security(*access));
                errors::add(operation, &described, access.agents.some_may());
            }
            for response in operation.responses.responses.values_mut() {
                if let RefOr::T(response) = response {
                    let id = errors::header(Type::String, "The request's id, also in the log.");
                    response.headers.insert("X-Request-Id".to_owned(), id.into());
                }
            }
        }
    }
    document
}

/// A page's items are named: derived, a generic schema repeats its items' schema.
fn name_items(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    for (name, schema) in schemas {
        if let Some(item) = name.strip_prefix("PageView_")
            && let RefOr::T(Schema::Object(page)) = schema
        {
            let items = ArrayBuilder::new().items(Ref::from_schema_name(item));
            page.properties.insert("items".to_owned(), items.into());
        }
    }
}

fn security(access: Access) -> Vec<SecurityRequirement> {
    let scopes = [access.scope].into_iter().chain(access.or);
    let tokens = scopes.map(|scope| SecurityRequirement::new(TOKEN, [scope.as_str()]));
    let signature = access.agents.some_may().then(|| SecurityRequirement::new(SIGNATURE, [""; 0]));
    tokens.chain(signature).collect()
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("GET", &mut item.get),
        ("POST", &mut item.post),
        ("PUT", &mut item.put),
        ("PATCH", &mut item.patch),
        ("DELETE", &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

/// What the document says of who may use each operation, such as `GET /v1/sessions`.
#[cfg(test)]
pub(super) fn securities() -> std::collections::BTreeMap<String, Value> {
    let document: Value = serde_json::from_slice(&DOCUMENT).unwrap_or_default();
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(path, item)| {
        let operations = item.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| {
            (format!("{} {path}", method.to_uppercase()), operation["security"].clone())
        })
    });
    operations.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_openapi_3_1_with_examples_and_errors_for_every_guarded_operation() {
        let document: Value = serde_json::from_slice(&DOCUMENT).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if path == "/openapi.json" {
                    continue;
                }
                let at = format!("{method} {path}");
                assert_eq!(operation["security"][0]["token"].as_array().unwrap().len(), 1, "{at}");
                // A proxy understands no others.
                let statuses = match path.as_str() {
                    "/v1/forward-auth" => &["401", "403", "503"][..],
                    "/1.0/identifiers/{did}" | "/1.0/methods" | "/1.0/properties" => {
                        &["401", "403", "500", "503"]
                    }
                    _ => &["401", "403", "413", "422", "500", "503"],
                };
                for status in statuses {
                    let content = &operation["responses"][*status]["content"];
                    let examples = &content["application/problem+json"]["examples"];
                    assert!(!examples.as_object().unwrap().is_empty(), "{at} {status}");
                }
                if let Some(body) = operation.get("requestBody") {
                    assert!(body["content"]["application/json"]["example"].is_object(), "{at}");
                    assert!(operation["responses"]["415"].is_object(), "{at}");
                }
                assert!(!operation.to_string().contains("\"x-"), "{at}");
            }
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let mut document = document();
        let items = document.paths.paths.values_mut();
        let names: Vec<_> =
            items.flat_map(operations_of).map(|(_, o)| o.operation_id.clone().unwrap()).collect();
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }

    #[test]
    fn every_error_that_a_handler_names_is_a_code() {
        for item in Document::openapi().paths.paths.values_mut() {
            for (method, operation) in operations_of(item) {
                let described = operation.extensions.clone().unwrap_or_default();
                for (name, words) in described.iter() {
                    assert!(["x-errors", "x-all-errors"].contains(&name.as_str()), "{name}");
                    for word in words.as_array().unwrap() {
                        assert!(errors::read(word.as_str().unwrap()).is_some(), "{method} {word}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_status_may_have_other_answers_beside_problems() {
        let document: Value = serde_json::from_slice(&DOCUMENT).unwrap();
        let path = &document["paths"]["/1.0/identifiers/{did}"];
        let response = &path["get"]["responses"]["500"];
        for media_type in ["application/did-resolution", "application/problem+json"] {
            assert!(response["content"][media_type].is_object(), "{response}");
        }
        let description = response["description"].as_str().unwrap();
        for word in ["INVALID_DID_DOCUMENT", "internal_error"] {
            assert!(description.contains(word), "{description}");
        }
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document: Value = serde_json::from_slice(&DOCUMENT).unwrap();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
