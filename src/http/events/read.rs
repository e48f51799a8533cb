//! `GET /v1/events`: the log, in the order of its sequence. A reader that goes on where it ended misses
//! nothing, whenever events were committed.

use std::convert::Infallible;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::call::Call;
use super::super::problem::Problem;
use super::super::time::{Time, time};
use super::super::values::json;
use super::super::words::JsonObject;
use crate::domain::{Code, Event, EventCursor, EventData, EventFilter, EventPage};

/// An event of the log.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct View<'a> {
    #[schema(example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")]
    id: Uuid,
    /// Its place in the log. Later events have higher ones; some are left out.
    #[schema(example = 1207)]
    sequence: u64,
    #[schema(example = "onceguard.did.revoked")]
    r#type: &'a str,
    /// `onceguard`, or the token that published it.
    #[schema(example = "onceguard")]
    source: &'a str,
    /// Null once the event is emptied.
    #[schema(required = true, example = "did:web:client.example")]
    subject: Option<&'a str>,
    /// Null once the event is emptied.
    #[schema(required = true, example = "operator")]
    actor: Option<&'a str>,
    /// `success`, or the code of a refusal.
    #[schema(example = "success")]
    outcome: &'a str,
    /// Of the call that it comes from.
    #[schema(required = true, example = "0198f2a4-6d02-7b11-8f3c-2d5e9a4b7c10")]
    request_id: Option<&'a str>,
    at: Time,
    #[schema(value_type = JsonObject)]
    data: &'a EventData,
}

impl<'a> View<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            id: event.id,
            sequence: event.sequence,
            r#type: &event.kind,
            source: &event.source,
            subject: event.subject.as_deref(),
            actor: event.actor.as_deref(),
            outcome: &event.outcome,
            request_id: event.request_id.as_deref(),
            at: Time(event.at),
            data: &event.data,
        }
    }
}

/// Events, in the order of their sequence.
#[derive(Serialize, ToSchema)]
#[schema(as = EventFeed)]
pub(super) struct FeedView<'a> {
    items: Vec<View<'a>>,
    /// Where to go on, as `since`. Never null: ask again with it for what comes later.
    next_cursor: String,
}

/// Read the log of events in order, and follow it.
///
/// Without since, it begins at the beginning. No items means that there is nothing new yet.
#[utoipa::path(
    get, path = "/v1/events", operation_id = "read_events", tag = "events",
    params(
        ("since" = Option<String>, Query, description = "next_cursor of the page before."),
        ("type" = Option<String>, Query, description = "Only this type.", example = "onceguard.did.revoked"),
        ("subject" = Option<String>, Query, description = "Only about this."),
        ("actor" = Option<String>, Query, description = "Only of this actor, in the words of the events."),
        ("outcome" = Option<String>, Query, description = "`success`, or a code.", example = "success"),
        ("from" = Option<Time>, Query, description = "Not before this time."),
        ("to" = Option<Time>, Query, description = "Before this time."),
        ("limit" = Option<u32>, Query, description = "1 to 500; 50 when left out. A page has about 1 MiB at most, and at least one event.", example = 50),
    ),
    responses((status = 200, description = "A page of events.", body = FeedView)),
    extensions(("x-errors" = json!(["cursor_expired"]))),
)]
pub(in crate::http) async fn read(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let since = input.query("since", EventCursor::parse);
    let mut word = |name| input.query(name, |text| Ok::<_, Infallible>(text.to_owned()));
    let (kind, subject, actor, outcome) =
        (word("type"), word("subject"), word("actor"), word("outcome"));
    let (from, to) = (input.query("from", time), input.query("to", time));
    let limit = input.limit();
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        input.refuse("to", "must be later than from");
    }
    input.finish(|| Some(()))?;
    let filter = EventFilter { kind, subject, actor, outcome, from, to };
    match call.state.events.read(&filter, since, limit).await? {
        EventPage::Page { events, next } => {
            let items = events.iter().map(View::of).collect();
            json(StatusCode::OK, &FeedView { items, next_cursor: next.encode() })
        }
        EventPage::CursorExpired => {
            let detail = "events that this cursor has not seen were removed, because they were older \
                          than jobs.audit_retention_days; read on without since";
            Err(Problem::new(Code::CursorExpired, detail))
        }
    }
}
