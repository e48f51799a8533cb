//! The log of events as commands read it, and which of its events they want.

use clap::Args;
use serde_json::{Value, json};

use super::super::{Failure, format};
use crate::domain::{Event, EventCursor, EventFilter, EventPage, MAX_PAGE, Timestamp};
use crate::services::Events;

/// Which events.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only this type, such as onceguard.did.revoked
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only about this: a session id, a DID, a token id
    #[arg(long)]
    subject: Option<String>,
    /// Only of this actor, as the list shows it
    #[arg(long)]
    actor: Option<String>,
    /// Only with this outcome: success, or a code
    #[arg(long)]
    outcome: Option<String>,
    /// Not before this time
    #[arg(long, value_name = "TIME", value_parser = format::parse_time)]
    from: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = format::parse_time)]
    to: Option<Timestamp>,
    /// Go on after this: the next_cursor of an earlier list
    #[arg(long, value_name = "CURSOR", value_parser = parse_cursor)]
    pub(super) since: Option<EventCursor>,
}

impl Which {
    pub(super) fn filter(self) -> EventFilter {
        let Self { kind, subject, actor, outcome, from, to, since: _ } = self;
        EventFilter { kind, subject, actor, outcome, from, to }
    }
}

fn parse_cursor(text: &str) -> Result<EventCursor, String> {
    EventCursor::parse(text).map_err(|error| error.to_string())
}

/// The log, page by page.
pub(super) struct Log(pub(super) Events);

impl Log {
    pub(super) async fn page(
        &self,
        filter: &EventFilter,
        since: Option<EventCursor>,
        limit: u32,
    ) -> Result<(Vec<Event>, EventCursor), Failure> {
        match self.0.read(filter, since, limit).await? {
            EventPage::Page { events, next } => Ok((events, next)),
            EventPage::CursorExpired => Err(Failure::Failed(
                "events after --since are past their retention, and removed; leave it out to begin \
                 with the oldest that is left"
                    .to_owned(),
            )),
        }
    }

    /// The largest page.
    pub(super) async fn next(
        &self,
        filter: &EventFilter,
        since: Option<EventCursor>,
    ) -> Result<(Vec<Event>, EventCursor), Failure> {
        self.page(filter, since, MAX_PAGE).await
    }
}

/// In the words of `GET /v1/events`.
pub(super) fn describe(event: &Event) -> Value {
    json!({
        "id": event.id,
        "sequence": event.sequence,
        "type": event.kind,
        "source": event.source,
        "subject": event.subject,
        "actor": event.actor,
        "outcome": event.outcome,
        "request_id": event.request_id,
        "at": format::time(event.at),
        "data": event.data,
    })
}
