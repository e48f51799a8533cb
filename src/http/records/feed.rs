//! The feed: changes of an owner's records, in their order.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::call::Call;
use super::super::code::Meaning;
use super::super::problem::Problem;
use super::super::values::json;
use super::view::View;
use crate::domain::{Code, RecordCursor, RecordFeed, RecordFilter, RecordKind};

/// The most conditions on metadata.
const MOST_CONDITIONS: usize = 10;

/// Changes.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordFeed)]
pub(super) struct FeedView<'a> {
    /// In the order of their sequence.
    items: Vec<View<'a>>,
    /// Where to go on, as `since`; where metadata is asked for, as `cursor`. Never null.
    next_cursor: String,
    /// Whether there is more already.
    has_more: bool,
}

/// Follow the changes of an owner's records.
///
/// Without since, it begins at the beginning. Each record comes once, in its last state; one that
/// changes meanwhile comes again. A deleted record comes as a tombstone.
#[utoipa::path(
    get, path = "/v1/records/{did}", operation_id = "follow_records", tag = "records",
    params(
        ("did" = String, Path, description = "The owner.", example = "did:web:client.example"),
        ("kind" = Option<String>, Query, example = "sync"),
        ("metadata.KEY" = Option<String>, Query, description = "Only records whose metadata has this member with this string as its value, for any KEY. Not with since: a record that no longer has it would be missed."),
        ("fields" = Option<String>, Query, description = "`meta` leaves out iv and ciphertext.", example = "meta"),
        ("since" = Option<String>, Query, description = "next_cursor of the page before."),
        ("cursor" = Option<String>, Query, description = "The same, where metadata is asked for."),
        ("limit" = Option<u32>, Query, description = "1 to 500; 50 when left out. A page has about 1 MiB at most, and at least one record.", example = 50),
    ),
    responses((status = 200, description = "A page of changes.", body = FeedView)),
    extensions(("x-errors" = json!(["cursor_expired"]))),
)]
pub(in crate::http) async fn feed(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let did = input.path_did("did");
    let kind = input.query("kind", RecordKind::parse);
    let with_contents = input.query("fields", fields).is_none();
    let since = input.query("since", RecordCursor::parse);
    let cursor = input.query("cursor", RecordCursor::parse);
    let limit = input.limit();
    let metadata = input.queries("metadata.");
    if metadata.len() > MOST_CONDITIONS {
        input.refuse("metadata", format!("at most {MOST_CONDITIONS} members can be asked for"));
    }
    if metadata.is_empty() && cursor.is_some() {
        input.refuse("cursor", "is for lists by metadata; send since");
    }
    if !metadata.is_empty() && since.is_some() {
        let detail = "cannot be combined with metadata: a record that no longer has it would be \
                      missed";
        input.refuse("since", detail);
    }
    let did = input.finish(|| did)?;
    let filter = RecordFilter { kind, metadata };
    let since = since.or(cursor);
    match call.state.records.feed(&did, filter, since, limit, with_contents).await? {
        RecordFeed::Page { records, next, more } => {
            let items = records.iter().map(View::of).collect();
            json(StatusCode::OK, &FeedView { items, next_cursor: next.encode(), has_more: more })
        }
        RecordFeed::CursorExpired => {
            Err(Problem::new(Code::CursorExpired, Meaning::of(Code::CursorExpired).explanation))
        }
    }
}

fn fields(text: &str) -> Result<(), &'static str> {
    if text == "meta" { Ok(()) } else { Err("must be meta") }
}
