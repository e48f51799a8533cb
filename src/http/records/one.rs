//! One record: writing, reading and deleting it.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;
use actix_web::{HttpRequest, HttpResponse};
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::super::State;
use super::super::call::Call;
use super::super::etag::IfMatch;
use super::super::input::Input;
use super::super::problem::Problem;
use super::super::time::Time;
use super::super::values::json;
use super::read::{Parts, path, precondition, record};
use super::view::{
    View, WrittenView, not_found, precondition_failed, quota_reached, revoked, set_etag,
};
use crate::domain::{
    Code, Did, Metadata, NewRecord, Precondition, RecordKey, RecordWritten, RecordsChanged,
};
use crate::services::RecordOperation;

/// A record to write.
#[derive(ToSchema)]
#[schema(as = NewRecord)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes the body")]
pub(super) struct Body {
    /// The initialization vector: 12 bytes, 16 characters of standard base64.
    #[schema(example = "AAECAwQFBgcICQoL", pattern = "^[A-Za-z0-9+/]{16}$")]
    iv: String,
    /// 1 to 1,000,000 bytes in standard padded base64.
    #[schema(format = Byte, example = "c2VhbGVkIGJ5IGl0cyBvd25lcg==")]
    ciphertext: String,
    /// SHA-256 of the bytes of iv and ciphertext, one after the other.
    #[schema(
        pattern = "^[a-f0-9]{64}$",
        example = "16746d563d8208d21bf213cbdef853c385f8691f8ce44a636639cffd3450a0ba"
    )]
    checksum: String,
    /// Kept as it is.
    #[schema(nullable = false)]
    client_time: Option<Time>,
    /// At most 4 KiB. It is not encrypted: the operator can read it.
    #[schema(value_type = Option<Object>, example = json!({"device": "laptop"}), nullable = false)]
    metadata: Option<Metadata>,
    /// From then on the record counts as deleted.
    #[schema(nullable = false)]
    expires_at: Option<Time>,
}

/// Write a record.
///
/// If-Match or If-None-Match is required. It is checked before the body is read, and again with the
/// write.
#[utoipa::path(
    put, path = "/v1/records/{did}/{kind}/{id}", operation_id = "put_record", tag = "records",
    params(
        ("did" = String, Path, description = "The owner.", example = "did:web:client.example"),
        ("kind" = String, Path, description = "`key`, `credential`, `backup`, `sync`, or 1 to 32 of a-z, 0-9, _ and -.", example = "sync"),
        ("id" = String, Path, description = "1 to 255 visible ASCII characters, percent-encoded.", example = "notes"),
        ("If-Match" = Option<String>, Header, description = "The ETag of the record that is replaced.", example = "\"3.00f1e2d3c4b5a697\""),
        ("If-None-Match" = Option<String>, Header, description = "`*`: there is no such record yet.", example = "*"),
    ),
    request_body(content = Body, example = json!({
        "iv": "AAECAwQFBgcICQoL",
        "ciphertext": "c2VhbGVkIGJ5IGl0cyBvd25lcg==",
        "checksum": "16746d563d8208d21bf213cbdef853c385f8691f8ce44a636639cffd3450a0ba",
    })),
    responses(
        (status = 201, description = "There was no such record.", body = WrittenView,
            headers(("ETag" = String, description = "For If-Match."))),
        (status = 200, description = "The record was replaced.", body = WrittenView,
            headers(("ETag" = String, description = "For If-Match."))),
    ),
    extensions(("x-errors" = json!([
        "did_revoked", "precondition_failed", "precondition_required", "checksum_mismatch",
        "record_quota_reached", "overloaded", "outcome_unknown",
    ]))),
)]
pub(in crate::http) async fn put(call: Call) -> Result<HttpResponse, Problem> {
    let (owner, key, precondition, parts) = read_put(&call)?;
    let new = parts
        .seal()
        .map_err(|error| Problem::new(Code::ChecksumMismatch, format!("the checksum {error}")))?;
    let written = change(&call, &owner, &key, precondition, Some(new)).await?;
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = json(status, &WrittenView::of(&key, &written))?;
    set_etag(&mut response, &written.tag)?;
    Ok(response)
}

/// What a write is refused for with any body.
pub(in crate::http) fn before_put(
    request: HttpRequest,
    state: web::Data<State>,
) -> LocalBoxFuture<'static, Result<(), Problem>> {
    async move {
        let mut input = Input::without_body(&request);
        let path = path(&mut input);
        let precondition = precondition(&mut input);
        let ((owner, key), precondition) = input.finish(|| Some((path?, precondition)))?;
        let precondition = precondition.ok_or_else(precondition_required)?;
        let record = state.records.head(&owner, &key).await?;
        let tag = record.as_ref().map(|record| &record.tag);
        if precondition.holds(tag) { Ok(()) } else { Err(precondition_failed(&key, tag)) }
    }
    .boxed_local()
}

fn read_put(call: &Call) -> Result<(Did, RecordKey, Precondition, Parts), Problem> {
    #[derive(serde::Deserialize)]
    struct Raw<'t> {
        #[serde(borrow)]
        metadata: Option<&'t RawValue>,
    }

    let now = call.state.clock.now();
    let (node, text) = call.json_node()?;
    let raw: Option<Raw<'_>> = serde_json::from_slice(text).ok();
    let parts = record(node, raw.and_then(|raw| raw.metadata), now);
    let mut input = call.input();
    let path = path(&mut input);
    let precondition = precondition(&mut input);
    let parts = parts.map_err(|invalid| input.refuse_all(invalid)).ok();
    let ((owner, key), precondition, parts) =
        input.finish(|| Some((path?, precondition, parts?)))?;
    Ok((owner, key, precondition.ok_or_else(precondition_required)?, parts))
}

/// Makes one change.
async fn change(
    call: &Call,
    owner: &Did,
    key: &RecordKey,
    precondition: Precondition,
    put: Option<NewRecord>,
) -> Result<RecordWritten, Problem> {
    let operation = RecordOperation { key: key.clone(), precondition, put };
    match call.state.records.change(owner, &call.caller.actor(), vec![operation]).await? {
        RecordsChanged::Done(mut written) => {
            written.pop().ok_or_else(|| Problem::internal("a change wrote nothing"))
        }
        RecordsChanged::PreconditionFailed(failed) => {
            let current = failed.first().and_then(|(_, tag)| tag.as_ref());
            Err(precondition_failed(key, current))
        }
        RecordsChanged::QuotaReached(quota) => Err(quota_reached(quota)),
        RecordsChanged::Revoked => Err(revoked(owner)),
    }
}

fn precondition_required() -> Problem {
    Problem::new(
        Code::PreconditionRequired,
        "send If-None-Match: * for a new record, or If-Match with the ETag of the one to replace",
    )
}

/// Read a record.
#[utoipa::path(
    get, path = "/v1/records/{did}/{kind}/{id}", operation_id = "read_record", tag = "records",
    params(
        ("did" = String, Path, description = "The owner.", example = "did:web:client.example"),
        ("kind" = String, Path, example = "sync"),
        ("id" = String, Path, description = "Percent-encoded.", example = "notes"),
        ("If-None-Match" = Option<String>, Header, description = "Answer 304 if it still has one of these ETags."),
    ),
    responses(
        (status = 200, description = "The record.", body = View,
            headers(("ETag" = String, description = "For If-Match."))),
        (status = 304, description = "It is the one that the caller has."),
    ),
    extensions(("x-errors" = json!(["record_not_found"]))),
)]
pub(in crate::http) async fn read(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let path = path(&mut input);
    let known = input.header_list("If-None-Match", IfMatch::parse_weakly);
    let (owner, key) = input.finish(|| path)?;
    if let Some(known) = known {
        let head = call.state.records.head(&owner, &key).await?.ok_or_else(|| not_found(&key))?;
        if known.has(&head.tag.to_string()) {
            let mut response = HttpResponse::NotModified().finish();
            response.headers_mut().remove(header::CONTENT_LENGTH);
            set_etag(&mut response, &head.tag)?;
            return Ok(response);
        }
    }
    let record = call.state.records.read(&owner, &key).await?.ok_or_else(|| not_found(&key))?;
    let mut response = json(StatusCode::OK, &View::of(&record))?;
    set_etag(&mut response, &record.tag)?;
    Ok(response)
}

/// Delete a record. The feed tells of it for 180 days.
#[utoipa::path(
    delete, path = "/v1/records/{did}/{kind}/{id}", operation_id = "delete_record", tag = "records",
    params(
        ("did" = String, Path, description = "The owner.", example = "did:web:client.example"),
        ("kind" = String, Path, example = "sync"),
        ("id" = String, Path, description = "Percent-encoded.", example = "notes"),
        ("If-Match" = Option<String>, Header, description = "Required: the ETag of the record.", example = "\"3.00f1e2d3c4b5a697\""),
    ),
    responses((status = 204, description = "Deleted.")),
    extensions(("x-errors" = json!([
        "did_revoked", "precondition_failed", "precondition_required", "outcome_unknown",
    ]))),
)]
pub(in crate::http) async fn delete(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let path = path(&mut input);
    let precondition = input.header_list("If-Match", super::read::if_match);
    let ((owner, key), precondition) = input.finish(|| Some((path?, precondition)))?;
    let precondition = precondition.ok_or_else(|| {
        Problem::new(Code::PreconditionRequired, "send If-Match with the record's ETag")
    })?;
    change(&call, &owner, &key, precondition, None).await?;
    Ok(HttpResponse::NoContent().finish())
}
