//! Changes of several records of one owner: all are made, or none.

use std::collections::HashSet;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::super::call::Call;
use super::super::fields::{FieldError, Fields, Invalid, array, text};
use super::super::node::Node;
use super::super::problem::Problem;
use super::super::values::json;
use super::one::Body;
use super::read::{Parts, if_match, if_none_match, record};
use super::view::{WrittenView, quota_reached, revoked};
use crate::domain::{
    Code, Did, Precondition, RecordId, RecordKey, RecordKind, RecordsChanged, Timestamp,
};
use crate::services::RecordOperation;

/// The most changes of a batch.
const MOST: usize = 100;

/// Changes of one owner's records, each of another record.
#[derive(ToSchema)]
#[schema(as = RecordBatch)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes the body")]
pub(super) struct Batch {
    #[schema(min_items = 1, max_items = 100)]
    operations: Vec<Operation>,
}

/// One change.
#[derive(ToSchema)]
#[schema(as = RecordOperation)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes the body")]
pub(super) struct Operation {
    /// `put` or `delete`.
    #[schema(example = "put")]
    op: String,
    #[schema(example = "sync")]
    kind: String,
    #[schema(example = "notes")]
    id: String,
    /// As the header If-Match has it. Required, unless there is `if_none_match`.
    #[schema(nullable = false, example = "\"3.00f1e2d3c4b5a697\"")]
    if_match: Option<String>,
    /// Only `*`: there is no such record yet. Not with `delete`.
    #[schema(nullable = false, example = "*")]
    if_none_match: Option<String>,
    /// With `put`.
    #[schema(nullable = false)]
    record: Option<Body>,
}

/// What the changes have written, in their order.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordBatchResults)]
pub(super) struct Results<'a> {
    results: Vec<WrittenView<'a>>,
}

/// Write and delete up to 100 records of one owner: all, or none.
#[utoipa::path(
    post, path = "/v1/records/{did}/batch", operation_id = "change_records", tag = "records",
    params(("did" = String, Path, description = "The owner.", example = "did:web:client.example")),
    request_body(content = Batch, example = json!({"operations": [
        {"op": "put", "kind": "sync", "id": "notes", "if_none_match": "*", "record": {
            "iv": "AAECAwQFBgcICQoL",
            "ciphertext": "c2VhbGVkIGJ5IGl0cyBvd25lcg==",
            "checksum": "16746d563d8208d21bf213cbdef853c385f8691f8ce44a636639cffd3450a0ba",
        }},
    ]})),
    responses((status = 200, description = "All changes were made.", body = Results)),
    extensions(("x-errors" = json!([
        "did_revoked", "precondition_failed", "checksum_mismatch", "record_quota_reached",
        "overloaded", "outcome_unknown",
    ]))),
)]
pub(in crate::http) async fn batch(call: Call) -> Result<HttpResponse, Problem> {
    let (owner, read) = read_batch(&call)?;
    let mut operations = Vec::with_capacity(read.len());
    for (place, Read { key, precondition, parts }) in read.into_iter().enumerate() {
        let put = parts.map(Parts::seal).transpose().map_err(|error| {
            let detail = format!("/operations/{place}/record/checksum {error}");
            Problem::new(Code::ChecksumMismatch, detail)
        })?;
        operations.push(RecordOperation { key, precondition, put });
    }
    let keys: Vec<_> = operations.iter().map(|operation| operation.key.clone()).collect();
    match call.state.records.change(&owner, &call.caller.actor(), operations).await? {
        RecordsChanged::Done(written) => {
            let results = keys.iter().zip(&written);
            let results = results.map(|(key, written)| WrittenView::of(key, written)).collect();
            json(StatusCode::OK, &Results { results })
        }
        RecordsChanged::PreconditionFailed(failed) => {
            let errors = failed.into_iter().map(|(place, tag)| FieldError {
                etag: tag.map(|tag| tag.to_string()),
                ..FieldError::new(
                    format!("/operations/{place}"),
                    match tag {
                        Some(tag) => format!("the record has the ETag {tag}"),
                        None => "there is no such record".to_owned(),
                    },
                )
            });
            Err(Problem::preconditions_failed(errors.collect()))
        }
        RecordsChanged::QuotaReached(quota) => Err(quota_reached(quota)),
        RecordsChanged::Revoked => Err(revoked(&owner)),
    }
}

/// An operation as it was read.
struct Read {
    key: RecordKey,
    precondition: Precondition,
    parts: Option<Parts>,
}

/// The texts of the records' metadata: a [`Node`] has rounded their numbers.
#[derive(serde::Deserialize)]
struct RawBatch<'t> {
    #[serde(borrow)]
    operations: Vec<RawOperation<'t>>,
}

#[derive(serde::Deserialize)]
struct RawOperation<'t> {
    #[serde(borrow)]
    record: Option<RawRecord<'t>>,
}

#[derive(serde::Deserialize)]
struct RawRecord<'t> {
    #[serde(borrow)]
    metadata: Option<&'t RawValue>,
}

fn read_batch(call: &Call) -> Result<(Did, Vec<Read>), Problem> {
    let now = call.state.clock.now();
    let mut input = call.json()?;
    let did = input.path_did("did");
    // What is of another form is refused by its node.
    let raw: Option<RawBatch<'_>> = serde_json::from_slice(input.text()).ok();
    let raw = raw.map(|raw| raw.operations).unwrap_or_default();
    let mut texts = raw.into_iter().map(|one| one.record.and_then(|record| record.metadata));
    let operation = |node| operation(node, texts.next().flatten(), now);
    let read = input.required("operations", array(1..=MOST, operation));
    let mut seen = HashSet::new();
    for (place, Read { key, .. }) in read.iter().flatten().enumerate() {
        if !seen.insert(key.clone()) {
            let detail = "is about a record that another operation is about";
            input.refuse(&format!("/operations/{place}"), detail);
        }
    }
    input.finish(|| Some((did?, read?)))
}

fn operation(node: Node<'_>, raw: Option<&RawValue>, now: Timestamp) -> Result<Read, Invalid> {
    let mut fields = Fields::of(node)?;
    let puts = fields.required("op", text(op));
    let kind = fields.required("kind", text(RecordKind::parse));
    let id = fields.required("id", text(RecordId::parse));
    let mut precondition = None;
    match (fields.has("if_match"), fields.has("if_none_match"), puts) {
        (_, true, Some(false)) => {
            fields.refuse("/if_none_match", "cannot be used with `delete`");
        }
        (true, true, _) => fields.refuse("/if_none_match", "cannot be combined with if_match"),
        (false, false, Some(true)) => {
            fields.refuse("/if_match", "is missing, and so is if_none_match");
        }
        (false, false, _) => fields.refuse("/if_match", "is missing"),
        _ => {}
    }
    if let Some(if_match) = fields.optional("if_match", text(if_match)) {
        precondition = Some(if_match);
    }
    if let Some(if_none_match) = fields.optional("if_none_match", text(if_none_match)) {
        precondition = Some(if_none_match);
    }
    let parts = match puts {
        Some(true) => fields.required("record", |node| record(node, raw, now)),
        // A record is then a field that is not known.
        Some(false) => None,
        None => fields.optional("record", |node| record(node, raw, now)),
    };
    fields.finish(|| {
        let key = RecordKey { kind: kind?, id: id? };
        Some(Read { key, precondition: precondition?, parts })
    })
}

/// Whether it writes.
fn op(text: &str) -> Result<bool, &'static str> {
    match text {
        "put" => Ok(true),
        "delete" => Ok(false),
        _ => Err("must be put or delete"),
    }
}
