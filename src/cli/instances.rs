//! `onceguard instances`: the processes that serve, or have served.

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, database, format, out};
use crate::config::Config;
use crate::domain::{Instance, MAX_PAGE, PageRequest};
use crate::services;

#[derive(Debug, Args)]
#[command(after_help = "States: active; ended, in order; terminated, when the last heartbeat is \
    older than 60 s; failed, when it did not start.\n\n\
    Example:\n  onceguard instances --json")]
pub(super) struct Instances {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Instances {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        let store = database::open_migrated(&config).await?;
        let all = all(&services::Instances::new(store.clone())).await;
        store.close().await;
        let all = all?;
        if self.json {
            return out::json(&json!({ "items": all.iter().map(describe).collect::<Vec<_>>() }));
        }
        let rows: Vec<_> = all.iter().map(row).collect();
        out::table(["NAME", "HOST", "VERSION", "STATE", "STARTED", "LAST HEARTBEAT"], &rows)
    }
}

async fn all(instances: &services::Instances) -> Result<Vec<Instance>, Failure> {
    let mut all = Vec::new();
    let mut page = PageRequest { limit: MAX_PAGE, after: None };
    loop {
        let found = instances.list(&page).await?;
        all.extend(found.items);
        page.after = found.next;
        if page.after.is_none() {
            return Ok(all);
        }
    }
}

fn row(instance: &Instance) -> [String; 6] {
    [
        instance.name.clone(),
        instance.host.clone(),
        instance.version.clone(),
        instance.state.as_str().to_owned(),
        format::time(instance.started_at),
        format::time(instance.heartbeat_at),
    ]
}

/// In the words of `GET /v1/instances`.
fn describe(instance: &Instance) -> Value {
    json!({
        "id": instance.id,
        "name": instance.name,
        "host": instance.host,
        "version": instance.version,
        "started_at": format::time(instance.started_at),
        "heartbeat_at": format::time(instance.heartbeat_at),
        "ended_at": instance.ended_at.map(format::time),
        "state": instance.state.as_str(),
    })
}
