//! `onceguard audit list`.

use clap::Args;
use serde_json::json;

use super::super::{Failure, format, out};
use super::log::{Log, Which, describe};
use crate::domain::{Event, MAX_PAGE};

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    which: Which,
    /// The most events
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_PAGE)))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, log: &Log) -> Result<(), Failure> {
        let since = self.which.since;
        let (events, next) = log.page(&self.which.filter(), since, self.limit).await?;
        if self.json {
            let items: Vec<_> = events.iter().map(describe).collect();
            return out::json(&json!({ "items": items, "next_cursor": next.encode() }));
        }
        let rows: Vec<_> = events.iter().map(row).collect();
        out::table(["SEQUENCE", "AT", "TYPE", "OUTCOME", "ACTOR", "SUBJECT"], &rows)?;
        if events.len() >= usize::try_from(self.limit).unwrap_or(usize::MAX) {
            out::note(format!("there may be more; go on with --since {}", next.encode()));
        }
        Ok(())
    }
}

fn row(event: &Event) -> [String; 6] {
    [
        event.sequence.to_string(),
        format::time(event.at),
        event.kind.clone(),
        event.outcome.clone(),
        event.actor.clone().unwrap_or_else(|| "-".to_owned()),
        event.subject.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}
