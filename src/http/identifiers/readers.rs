//! Which DIDs can be resolved here, as a Universal Resolver says it.

use std::collections::BTreeMap;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::admit;
use crate::http::auth::Access;
use crate::http::problem::Problem;
use crate::http::values::json;

/// What reads DIDs.
#[derive(Serialize, ToSchema)]
#[schema(as = DidReader)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    /// The methods that it reads; empty for every other.
    #[schema(example = json!(["web"]))]
    methods: &'a [String],
    /// For how long an answer holds; absent where it holds for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 300)]
    ttl_seconds: Option<u64>,
}

/// List the DID methods that are read here.
///
/// Those that a Universal Resolver reads are in the list if `resolvers.universal.methods` names
/// them.
#[utoipa::path(
    get, path = "/1.0/methods", operation_id = "list_did_methods", tag = "dids",
    responses((status = 200, description = "The methods' names.", body = Vec<String>, example = json!(["key", "web"]))),
    extensions(("x-all-errors" = json!([
        "unauthenticated", "forbidden", "payload_too_large", "internal_error", "storage_unavailable", "storage_went_back",
    ]))),
)]
pub(in crate::http) async fn methods(
    request: HttpRequest,
    access: Access,
) -> Result<HttpResponse, Problem> {
    let (state, _) = admit(&request, access).await?;
    let readers = state.dids.readers();
    let mut methods: Vec<&String> = readers.iter().flat_map(|reader| &reader.methods).collect();
    methods.sort();
    methods.dedup();
    json(StatusCode::OK, &methods)
}

/// Say what reads DIDs here.
#[utoipa::path(
    get, path = "/1.0/properties", operation_id = "read_did_properties", tag = "dids",
    responses((status = 200, description = "By the `source` of what it reads.", body = BTreeMap<String, View>,
        example = json!({"key": {"methods": ["key"]}, "web": {"methods": ["web"], "ttlSeconds": 300}}))),
    extensions(("x-all-errors" = json!([
        "unauthenticated", "forbidden", "payload_too_large", "internal_error", "storage_unavailable", "storage_went_back",
    ]))),
)]
pub(in crate::http) async fn properties(
    request: HttpRequest,
    access: Access,
) -> Result<HttpResponse, Problem> {
    let (state, _) = admit(&request, access).await?;
    let readers = state.dids.readers();
    let properties: BTreeMap<&str, View<'_>> = readers
        .iter()
        .map(|reader| {
            let ttl_seconds = reader.ttl.map(|ttl| ttl.as_secs());
            (reader.source, View { methods: &reader.methods, ttl_seconds })
        })
        .collect();
    json(StatusCode::OK, &properties)
}
