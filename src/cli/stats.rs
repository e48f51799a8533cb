//! `onceguard stats`: what the database holds.

use clap::Args;
use serde_json::json;

use super::{Failure, database, format, out};
use crate::config::Config;
use crate::domain::Timestamp;
use crate::storage::{DeliveryCounts, Statistics, Store, WebhookCounts};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  onceguard stats --top 3 --json")]
pub(super) struct Stats {
    /// How many of the busiest clients, and of the kinds of records, to list
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=500))]
    top: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        let store = database::open_migrated(&config).await?;
        let read = read(&store, self.top).await;
        store.close().await;
        let held = read?;
        if self.json { print_json(&held, store.backend()) } else { print_tables(&held) }
    }
}

/// What the database holds.
struct Held {
    statistics: Statistics,
    webhooks: WebhookCounts,
    deliveries: DeliveryCounts,
    /// `None` if it never was.
    last_backup: Option<Timestamp>,
    last_recovery: Option<Timestamp>,
}

async fn read(store: &Store, top: u32) -> Result<Held, Failure> {
    Ok(Held {
        last_recovery: store.history().await?.recovered_at,
        last_backup: store.last_backup().await?,
        webhooks: store.webhook_counts().await?,
        deliveries: store.delivery_counts().await?,
        statistics: store.statistics(top).await?,
    })
}

/// In the words of `GET /v1/stats`.
fn print_json(held: &Held, backend: &str) -> Result<(), Failure> {
    let Held { statistics, webhooks, deliveries, last_backup, last_recovery } = held;
    let counts = statistics.counts;
    let tables: Vec<_> =
        statistics.tables.iter().map(|t| json!({ "name": t.name, "bytes": t.bytes })).collect();
    let clients: Vec<_> = statistics
        .top_clients
        .iter()
        .map(|(did, sessions)| json!({ "client_did": did.as_str(), "active_sessions": sessions }))
        .collect();
    let records = counts.records;
    let kinds: Vec<_> = statistics
        .top_kinds
        .iter()
        .map(|(kind, records)| json!({ "kind": kind.as_str(), "records": records }))
        .collect();
    out::json(&json!({
        "backend": backend,
        "sessions": { "active": counts.active_sessions, "ended": counts.ended_sessions },
        "live_nonces": counts.live_nonces,
        "dids": { "stored": counts.dids, "revoked": counts.revoked_dids },
        "records": {
            "owners": records.owners,
            "records": records.records,
            "bytes": records.bytes,
            "agents": { "records": records.agents_records, "bytes": records.agents_bytes },
            "top_kinds": kinds,
        },
        "webhooks": {
            "active": webhooks.active,
            "paused": webhooks.paused,
            "disabled": webhooks.disabled,
            "pending": deliveries.pending,
            "dead": deliveries.dead,
            "oldest_pending_seconds": webhooks.oldest_pending.as_secs(),
        },
        "database": {
            "bytes": statistics.database_bytes,
            "recovered_at": last_recovery.map(format::time),
            "tables": tables,
        },
        "last_backup_at": last_backup.map(format::time),
        "top_clients": clients,
    }))
}

fn print_tables(held: &Held) -> Result<(), Failure> {
    let Held { statistics, webhooks, deliveries, last_backup, last_recovery } = held;
    let counts = statistics.counts;
    let rows = [
        ("active sessions", counts.active_sessions.to_string()),
        ("ended sessions", counts.ended_sessions.to_string()),
        ("live nonces", counts.live_nonces.to_string()),
        ("DIDs", counts.dids.to_string()),
        ("revoked DIDs", counts.revoked_dids.to_string()),
        ("record owners", counts.records.owners.to_string()),
        ("records", counts.records.records.to_string()),
        ("record bytes", format::bytes(counts.records.bytes)),
        ("agents' records", counts.records.agents_records.to_string()),
        ("agents' bytes", format::bytes(counts.records.agents_bytes)),
        ("active webhooks", webhooks.active.to_string()),
        ("paused webhooks", webhooks.paused.to_string()),
        ("disabled webhooks", webhooks.disabled.to_string()),
        ("events to be sent", deliveries.pending.to_string()),
        ("oldest of them", format!("{} s", webhooks.oldest_pending.as_secs())),
        ("events given up", deliveries.dead.to_string()),
        ("database", format::bytes(statistics.database_bytes)),
        ("last backup", last_backup.map_or_else(|| "never".to_owned(), format::time)),
        ("last recovery", last_recovery.map_or_else(|| "never".to_owned(), format::time)),
    ];
    out::table(["WHAT", "COUNT"], &rows.map(|(what, count)| [what.to_owned(), count]))?;
    out::line("")?;
    let tables: Vec<_> =
        statistics.tables.iter().map(|t| [t.name.clone(), format::bytes(t.bytes)]).collect();
    out::table(["TABLE", "SIZE"], &tables)?;
    if !statistics.top_kinds.is_empty() {
        let kinds: Vec<_> = statistics
            .top_kinds
            .iter()
            .map(|(kind, records)| [kind.as_str().to_owned(), records.to_string()])
            .collect();
        out::line("")?;
        out::table(["KIND", "RECORDS"], &kinds)?;
    }
    if !statistics.top_clients.is_empty() {
        let clients: Vec<_> = statistics
            .top_clients
            .iter()
            .map(|(did, sessions)| [did.to_string(), sessions.to_string()])
            .collect();
        out::line("")?;
        out::table(["CLIENT", "ACTIVE SESSIONS"], &clients)?;
    }
    Ok(())
}
