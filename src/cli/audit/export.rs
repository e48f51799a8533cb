//! `onceguard audit export`: events as CloudEvents 1.0, in its JSON format, one on each line.

use clap::Args;
use serde_json::{Value, json};

use super::super::{Failure, format, out};
use super::log::{Log, Which};
use crate::domain::Event;

#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    #[command(flatten)]
    which: Which,
}

impl Export {
    pub(super) async fn run(self, log: &Log) -> Result<(), Failure> {
        let mut since = self.which.since;
        let filter = self.which.filter();
        loop {
            let (events, next) = log.next(&filter, since).await?;
            for event in &events {
                out::line(cloud_event(event).to_string())?;
            }
            if events.is_empty() {
                return Ok(());
            }
            since = Some(next);
        }
    }
}

/// An attribute that is absent has no member: CloudEvents has no null. Names of extensions have only
/// letters and digits.
fn cloud_event(event: &Event) -> Value {
    let mut line = json!({
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.kind,
        "time": format::time(event.at),
        "datacontenttype": "application/json",
        // By CloudEvents' own extension, texts that sort as the log does.
        "sequence": format!("{:019}", event.sequence),
        "outcome": event.outcome,
        "data": event.data,
    });
    let others =
        [("subject", &event.subject), ("actor", &event.actor), ("requestid", &event.request_id)];
    if let Value::Object(members) = &mut line {
        for (name, value) in others {
            if let Some(value) = value {
                members.insert(name.to_owned(), value.as_str().into());
            }
        }
    }
    line
}
