//! Erasure of what is kept about a DID.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::call::Call;
use super::problem::Problem;
use super::values::json;

/// What was erased.
#[derive(Serialize, ToSchema)]
#[schema(as = Erased)]
pub(super) struct View {
    /// They have ended, and no longer name the DID.
    #[schema(example = 2)]
    sessions: u64,
    /// Sealed records.
    #[schema(example = 3)]
    records: u64,
    /// Events that named the DID, and are empty now.
    #[schema(example = 1)]
    events: u64,
}

/// Erase what is kept about a DID.
///
/// Its sessions end and lose its name, key and metadata; its key and records are removed. The digests
/// of its nonces stay until they expire, and its revocation stays: no message can be used again.
#[utoipa::path(
    delete, path = "/v1/dids/{did}/data", operation_id = "erase_did", tag = "dids",
    params(("did" = String, Path, description = "As it stands, or percent-encoded once with its colons.",
        example = "did:web:client.example")),
    responses((status = 200, description = "It is erased.", body = View)),
    extensions(("x-errors" = json!(["outcome_unknown"]))),
)]
pub(super) async fn erase(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let did = input.path_did("did");
    let did = input.finish(|| did)?;
    let erased = call.state.erasure.erase(&did, &call.caller.actor()).await?;
    let view = View { sessions: erased.sessions, records: erased.records, events: erased.events };
    json(StatusCode::OK, &view)
}
