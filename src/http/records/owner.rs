//! All records of an owner together, and owners that have not come back for long.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::call::Call;
use super::super::fields::whole_text;
use super::super::input::Input;
use super::super::problem::Problem;
use super::super::time::Time;
use super::super::values::{PageView, json};
use crate::domain::InactiveOwner;

const DAY_SECONDS: u64 = 86_400;
const MOST_DAYS: u32 = 36_500;

/// What an owner has, and may have.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordUsage)]
pub(super) struct UsageView {
    /// Of the ciphertexts.
    #[schema(example = 20480)]
    bytes: u64,
    /// Deleted records count until they are forgotten.
    #[schema(example = 3)]
    records: u64,
    /// Records of each kind, without deleted ones.
    #[schema(example = json!({"sync": 2}))]
    kinds: BTreeMap<String, u64>,
    #[schema(example = 104_857_600)]
    max_bytes: u64,
    #[schema(example = 10_000)]
    max_records: u64,
}

/// Tell what an owner has, and what it may have.
#[utoipa::path(
    get, path = "/v1/records/{did}/usage", operation_id = "record_usage", tag = "records",
    params(("did" = String, Path, description = "The owner.", example = "did:web:client.example")),
    responses((status = 200, description = "What it has.", body = UsageView)),
)]
pub(in crate::http) async fn usage(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let did = input.path_did("did");
    let did = input.finish(|| did)?;
    let usage = call.state.records.usage(&did).await?;
    let limits = call.state.records.limits();
    let view = UsageView {
        bytes: usage.bytes,
        records: usage.records,
        kinds: usage.kinds,
        max_bytes: limits.max_bytes,
        max_records: limits.max_records,
    };
    json(StatusCode::OK, &view)
}

/// How many records were removed.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordsDeleted)]
pub(super) struct DeletedView {
    #[schema(example = 3)]
    deleted: u64,
}

/// Remove all records of an owner. They leave no tombstones: cursors of before have expired.
#[utoipa::path(
    delete, path = "/v1/records/{did}", operation_id = "delete_records", tag = "records",
    params(("did" = String, Path, description = "The owner.", example = "did:web:client.example")),
    responses((status = 200, description = "How many there were.", body = DeletedView)),
    extensions(("x-errors" = json!(["outcome_unknown"]))),
)]
pub(in crate::http) async fn delete_all(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let did = input.path_did("did");
    let did = input.finish(|| did)?;
    let deleted = call.state.records.delete_all(&did, call.caller.actor()).await?;
    json(StatusCode::OK, &DeletedView { deleted })
}

/// An owner whose records were neither read nor written for long.
#[derive(Serialize, ToSchema)]
#[schema(as = InactiveOwner)]
pub(super) struct OwnerView<'a> {
    #[schema(example = "did:web:client.example")]
    did: &'a str,
    /// To the hour.
    last_accessed: Time,
    records: u64,
    bytes: u64,
}

impl<'a> OwnerView<'a> {
    fn of(owner: &'a InactiveOwner) -> Self {
        Self {
            did: owner.did.as_str(),
            last_accessed: Time(owner.last_accessed),
            records: owner.records,
            bytes: owner.bytes,
        }
    }
}

/// List owners whose records were neither read nor written for some days: what DELETE would remove.
#[utoipa::path(
    get, path = "/v1/records", operation_id = "list_inactive_owners", tag = "records",
    params(
        ("inactive_days" = u32, Query, description = "1 to 36500.", example = 365),
        ("limit" = Option<u32>, Query, description = "1 to 500; 50 when left out", example = 50),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
    ),
    responses((status = 200, description = "A page, the longest inactive first.", body = PageView<OwnerView>)),
)]
pub(in crate::http) async fn inactive(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let inactive = days(&mut input);
    let page = input.page();
    let inactive = input.finish(|| inactive)?;
    let page = call.state.records.inactive(inactive, &page).await?;
    json(StatusCode::OK, &PageView::of(&page, OwnerView::of))
}

/// What was removed.
#[derive(Serialize, ToSchema)]
#[schema(as = InactiveRemoved)]
pub(super) struct RemovedView {
    #[schema(example = 2)]
    owners: u64,
    #[schema(example = 7)]
    records: u64,
}

/// Remove all records of owners that were neither read nor written for some days. GET shows which.
#[utoipa::path(
    delete, path = "/v1/records", operation_id = "delete_inactive_owners", tag = "records",
    params(("inactive_days" = u32, Query, description = "1 to 36500.", example = 365)),
    responses((status = 200, description = "What was removed.", body = RemovedView)),
    extensions(("x-errors" = json!(["outcome_unknown"]))),
)]
pub(in crate::http) async fn delete_inactive(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let inactive = days(&mut input);
    let inactive = input.finish(|| inactive)?;
    let removed = call.state.records.delete_inactive(inactive, &call.caller.actor()).await?;
    json(StatusCode::OK, &RemovedView { owners: removed.owners, records: removed.records })
}

/// `inactive_days`, which is required.
fn days(input: &mut Input<'_>) -> Option<Duration> {
    let days = input.required_query("inactive_days", whole_text(1..=MOST_DAYS))?;
    Some(Duration::from_secs(u64::from(days) * DAY_SECONDS))
}
