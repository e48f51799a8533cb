//! `onceguard audit follow`.

use std::time::Duration;

use clap::Args;

use super::super::serve::StopSignal;
use super::super::{Failure, format, out};
use super::log::{Log, Which, describe};
use crate::domain::{Event, EventCursor, EventFilter};

/// How often it looks for new events.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(in crate::cli) struct Follow {
    #[command(flatten)]
    which: Which,
    /// Print one line of JSON for each
    #[arg(long)]
    json: bool,
}

impl Follow {
    pub(super) async fn run(self, log: &Log) -> Result<(), Failure> {
        let mut stop = StopSignal::listen()?;
        let (json, since) = (self.json, self.which.since);
        let filter = self.which.filter();
        tokio::select! {
            failed = follow(log, &filter, since, json) => failed,
            () = stop.wait() => Ok(()),
        }
    }
}

/// Returns only when it fails.
async fn follow(
    log: &Log,
    filter: &EventFilter,
    since: Option<EventCursor>,
    json: bool,
) -> Result<(), Failure> {
    let mut since = match since {
        Some(since) => since,
        None => log.0.end().await?,
    };
    loop {
        let (events, next) = log.next(filter, Some(since)).await?;
        for event in &events {
            out::line(if json { describe(event).to_string() } else { line(event) })?;
        }
        since = next;
        if events.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn line(event: &Event) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    format!(
        "{} {} {} {} by {}: {} {}",
        event.sequence,
        format::time(event.at),
        event.kind,
        event.outcome,
        or_none(&event.actor),
        or_none(&event.subject),
        event.data.as_str(),
    )
}
