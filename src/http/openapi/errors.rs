//! The errors of an operation: its codes by status, each with an example.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{ContentBuilder, ObjectBuilder, Ref, RefOr, Type};

use super::super::code::Meaning;
use super::super::example;
use crate::domain::Code;

const MEDIA_TYPE: &str = "application/problem+json";

/// What almost every operation may be refused for.
const COMMON: [Code; 7] = [
    Code::PayloadTooLarge,
    Code::Unauthenticated,
    Code::Forbidden,
    Code::ValidationFailed,
    Code::StorageUnavailable,
    Code::StorageWentBack,
    Code::InternalError,
];

/// What a request with a body may be refused for, too.
const OF_BODY: [Code; 2] = [Code::UnsupportedMediaType, Code::InvalidRequest];

/// What a signed request may be refused for.
const OF_AGENTS: [Code; 17] = [
    Code::SignatureMalformed,
    Code::SignatureTagInvalid,
    Code::SignatureParamsIncomplete,
    Code::SignatureAlgNotAllowed,
    Code::SignatureWindowInvalid,
    Code::SignatureComponentsIncomplete,
    Code::SignatureKeyUnknown,
    Code::SignatureKeyRevoked,
    Code::SignatureInvalid,
    Code::SignatureDigestMismatch,
    Code::SessionNotFound,
    Code::SessionEnded,
    Code::SessionExpired,
    Code::SignatureReplayed,
    Code::SignatureBeforeRestore,
    Code::ClaimQuotaReached,
    Code::HostNotAllowed,
];

/// Adds the errors to the responses: those that the handler names in `x-errors` beside the common
/// ones, or in `x-all-errors`.
pub(super) fn add(operation: &mut Operation, described: &Extensions, agents: bool) {
    let all = described.get("x-all-errors");
    let common = if all.is_some() { &[][..] } else { &COMMON };
    let of_body = if operation.request_body.is_some() { &OF_BODY[..] } else { &[] };
    let of_agents = if agents { &OF_AGENTS[..] } else { &[] };
    let implied = [common, of_body, of_agents].concat().into_iter().map(usual);
    let own = all.or_else(|| described.get("x-errors")).and_then(Value::as_array);
    let own = own.into_iter().flatten().filter_map(Value::as_str).filter_map(read);
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for (status, code) in implied.chain(own) {
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
pub(super) fn read(text: &str) -> Option<(u16, Code)> {
    match text.split_once(' ') {
        Some((status, word)) => Some((status.parse().ok()?, Code::parse(word)?)),
        None => Code::parse(text).map(usual),
    }
}

fn usual(code: Code) -> (u16, Code) {
    (Meaning::of(code).status.as_u16(), code)
}

fn problem_response(status: u16, codes: &[Code]) -> Response {
    let described: Vec<_> = codes
        .iter()
        .map(|code| format!("`{}`: {}.", code.as_str(), Meaning::of(*code).title))
        .collect();
    let examples = codes.iter().map(|code| {
        let example = ExampleBuilder::new().value(Some(example::body(*code, status))).build();
        (code.as_str(), RefOr::T(example))
    });
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .examples_from_iter(examples)
        .build();
    let mut response = ResponseBuilder::new().description(described.join(" "));
    response = match status {
        401 => response.header("WWW-Authenticate", header(Type::String, "What would do.")),
        429 | 503 => {
            let seconds = "In seconds; absent where waiting does not help.";
            response.header("Retry-After", header(Type::Integer, seconds))
        }
        _ => response,
    };
    response.content(MEDIA_TYPE, content).build()
}

pub(super) fn header(kind: Type, description: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(kind)))
        .description(Some(description))
        .build()
}
