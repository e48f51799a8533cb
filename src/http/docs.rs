//! `/openapi.json`. The document is made from the handlers' own descriptions; the errors of each
//! operation come from the table of codes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::Value;
use utoipa::OpenApi;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, Ref, RefOr};

use super::code::Code;
use super::fields::FieldError;
use super::pages::example;
use super::problem::{Body, Problem};
use super::{claims, dids, forward_auth, identifiers, nonces, sessions, stats, verify};

const TOKEN: &str = "token";
const SIGNATURE: &str = "signature";

/// What a signed request may be refused for.
const OF_AGENTS: [&str; 16] = [
    "signature_malformed",
    "signature_tag_invalid",
    "signature_params_incomplete",
    "signature_alg_not_allowed",
    "signature_window_invalid",
    "signature_components_incomplete",
    "signature_key_unknown",
    "signature_key_revoked",
    "signature_invalid",
    "signature_digest_mismatch",
    "session_not_found",
    "session_ended",
    "session_expired",
    "signature_replayed",
    "claim_quota_reached",
    "host_not_allowed",
];

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
        (name = "verdicts", description = "Is a signed request from who it says, fresh, and no replay?"),
        (name = "operations"),
    ),
    paths(
        sessions::open, sessions::list, sessions::end_all, sessions::read, sessions::change,
        sessions::end, sessions::key, sessions::touch,
        nonces::claim, nonces::used, claims::claim,
        dids::list, dids::read, dids::put, dids::forget, dids::revoke, dids::refresh,
        identifiers::resolve, identifiers::methods, identifiers::properties,
        verify::verify, forward_auth::forward_auth, stats::stats, openapi,
    ),
    components(schemas(Body, FieldError, claims::NewClaim)),
)]
struct Document;

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(document().to_json().unwrap_or_default()));

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)),
)]
pub(super) async fn openapi(_: HttpRequest) -> Result<HttpResponse, Problem> {
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
    let signature = ApiKeyValue::with_description(
        "Signature",
        "The request is signed with the key of a DID (RFC 9421): Signature-Input and Signature, with tag=\"onceguard\".",
    );
    components.add_security_scheme(SIGNATURE, SecurityScheme::ApiKey(ApiKey::Header(signature)));
    for item in document.paths.paths.values_mut() {
        operations_of(item).for_each(|(_, operation)| complete(operation));
    }
    document
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

/// Turns `x-scope` and `x-agents`, and `x-errors` (beside the common ones) or `x-all-errors`, into
/// security and responses. An operation without a scope is for everybody.
fn complete(operation: &mut Operation) {
    let Some(mut extensions) = operation.extensions.take() else { return };
    let scope = extensions.remove("x-scope");
    let own = extensions.remove("x-errors");
    let all = extensions.remove("x-all-errors");
    let agents = extensions.remove("x-agents").is_some();
    let Some(scope) = scope.as_ref().and_then(Value::as_str) else { return };
    let mut security = vec![SecurityRequirement::new(TOKEN, [scope])];
    let of_agents = if agents { &OF_AGENTS[..] } else { &[] };
    if agents {
        security.push(SecurityRequirement::new(SIGNATURE, [""; 0]));
    }
    operation.security = Some(security);

    let common = [
        "payload_too_large",
        "unauthenticated",
        "forbidden",
        "validation_failed",
        "storage_unavailable",
        "internal_error",
    ];
    let all = all.as_ref().and_then(Value::as_array);
    let common = if all.is_some() { &[][..] } else { &common };
    let of_body = ["unsupported_media_type", "invalid_request"];
    let of_body = of_body.iter().filter(|_| operation.request_body.is_some()).copied();
    let own = all.or_else(|| own.as_ref().and_then(Value::as_array)).into_iter().flatten();
    let own = own.filter_map(Value::as_str);
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for (status, code) in common
        .iter()
        .copied()
        .chain(of_body)
        .chain(of_agents.iter().copied())
        .chain(own)
        .filter_map(error_of)
    {
        let codes = by_status.entry(status).or_default();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    let responses = &mut operation.responses.responses;
    for (status, codes) in by_status {
        let mut problem = problem_response(status, &codes);
        // A status may have other answers, too.
        if let Some(RefOr::T(described)) = responses.remove(&status.to_string()) {
            problem.description = format!("{} {}", described.description, problem.description);
            problem.content.extend(described.content);
        }
        responses.insert(status.to_string(), RefOr::T(problem));
    }
}

/// Reads `code`, or `status code` where the status is not the code's usual one.
fn error_of(text: &str) -> Option<(u16, Code)> {
    match text.split_once(' ') {
        Some((status, word)) => Some((status.parse().ok()?, Code::parse(word)?)),
        None => Code::parse(text).map(|code| (code.meaning().status.as_u16(), code)),
    }
}

fn problem_response(status: u16, codes: &[Code]) -> Response {
    let described: Vec<_> = codes
        .iter()
        .map(|code| format!("`{}`: {}.", code.meaning().word, code.meaning().title))
        .collect();
    let examples = codes.iter().map(|code| {
        let example = ExampleBuilder::new().value(Some(example::body(*code, status))).build();
        (code.meaning().word, RefOr::T(example))
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(examples)
        .build();
    ResponseBuilder::new()
        .description(described.join(" "))
        .content("application/problem+json", content)
        .build()
}

/// Every operation of the document, such as `GET /v1/sessions`.
#[cfg(test)]
pub(super) fn operations() -> std::collections::BTreeSet<String> {
    let mut document = document();
    let paths = document.paths.paths.iter_mut();
    paths
        .flat_map(|(path, item)| {
            operations_of(item).map(move |(method, _)| format!("{method} {path}"))
        })
        .collect()
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
                let errors = operation.extensions.as_ref().and_then(|e| e.get("x-errors"));
                for word in errors.and_then(Value::as_array).into_iter().flatten() {
                    assert!(error_of(word.as_str().unwrap()).is_some(), "{method} {word}");
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
