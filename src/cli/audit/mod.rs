//! `onceguard audit`: reads the log of events (the audit trail, and what callers published), and checks
//! it.

mod export;
mod follow;
mod list;
mod verify;

use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Failure, database, format, quiet};
use crate::config::{Need, Sources};
use crate::domain::{Event, EventCursor, EventFilter, EventPage, MAX_PAGE, Timestamp};
use crate::metrics::Metrics;
use crate::services::Events;

#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// List events, in the order of the log
    #[command(after_help = "Example:\n  \
        onceguard audit list --type onceguard.did.revoked --from 2026-11-20T00:00:00Z")]
    List(list::List),
    /// Print events as they come, until it is stopped
    #[command(after_help = "It begins with what comes next, unless --since says where.\n\n\
        Example:\n  onceguard audit follow --type onceguard.claim.replayed")]
    Follow(follow::Follow),
    /// Print events for other programs: one line of CloudEvents 1.0 JSON for each
    #[command(after_help = "Example:\n  onceguard audit export > events.ndjson")]
    Export(export::Export),
    /// Check that no event was changed, removed, inserted, moved or cut off
    #[command(
        after_help = "Walks along the whole log, and compares it with the signed heads of the \
        database and of DATA_DIR/audit-heads. Exits with 1 if anything is not as it was written, \
        and names it.\n\n\
        Heads that were copied to another machine show more: who could change the database and this \
        data folder cannot have changed them.\n\n\
        Example:\n  onceguard audit verify --heads /mnt/elsewhere/audit-heads"
    )]
    Verify(verify::Verify),
}

/// Which events.
#[derive(Debug, Args)]
struct Which {
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
    since: Option<EventCursor>,
}

impl Which {
    fn filter(self) -> EventFilter {
        let Self { kind, subject, actor, outcome, from, to, since: _ } = self;
        EventFilter { kind, subject, actor, outcome, from, to }
    }
}

fn parse_cursor(text: &str) -> Result<EventCursor, String> {
    EventCursor::parse(text).map_err(|error| error.to_string())
}

impl Audit {
    pub(super) async fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self {
            Self::List(command) => read(sources, async |log| command.run(log).await).await,
            Self::Follow(command) => read(sources, async |log| command.run(log).await).await,
            Self::Export(command) => read(sources, async |log| command.run(log).await).await,
            Self::Verify(command) => command.run(&quiet(sources, Need::Everything)?).await,
        }
    }
}

/// Opens the log for a command that only reads it.
async fn read(
    sources: &Sources,
    command: impl AsyncFnOnce(&Log) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let config = quiet(sources, Need::Database)?;
    let store = database::open_complete(&config).await?;
    let metrics = Arc::new(Metrics::new()?);
    let done = command(&Log(Events::new(store.clone(), &config.events, metrics))).await;
    store.close().await;
    done
}

/// The log, page by page.
struct Log(Events);

impl Log {
    async fn page(
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
    async fn next(
        &self,
        filter: &EventFilter,
        since: Option<EventCursor>,
    ) -> Result<(Vec<Event>, EventCursor), Failure> {
        self.page(filter, since, MAX_PAGE).await
    }
}

/// In the words of `GET /v1/events`.
fn describe(event: &Event) -> Value {
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
