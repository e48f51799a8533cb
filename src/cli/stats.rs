//! `onceguard stats`: what the database holds.

use clap::Args;
use serde_json::json;

use super::{Failure, database, format, out};
use crate::config::Config;
use crate::domain::Timestamp;
use crate::storage::{Statistics, Store};

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
        let (statistics, times) = read?;
        if self.json {
            print_json(&statistics, &times, store.backend())
        } else {
            print_tables(&statistics, &times)
        }
    }
}

/// When something was last done to the database; `None` if it never was.
struct Times {
    backup: Option<Timestamp>,
    recovery: Option<Timestamp>,
}

async fn read(store: &Store, top: u32) -> Result<(Statistics, Times), Failure> {
    let recovery = store.history().await?.recovered_at;
    let times = Times { backup: store.last_backup().await?, recovery };
    Ok((store.statistics(top).await?, times))
}

/// In the words of `GET /v1/stats`.
fn print_json(statistics: &Statistics, times: &Times, backend: &str) -> Result<(), Failure> {
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
        "database": {
            "bytes": statistics.database_bytes,
            "recovered_at": times.recovery.map(format::time),
            "tables": tables,
        },
        "last_backup_at": times.backup.map(format::time),
        "top_clients": clients,
    }))
}

fn print_tables(statistics: &Statistics, times: &Times) -> Result<(), Failure> {
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
        ("database", format::bytes(statistics.database_bytes)),
        ("last backup", times.backup.map_or_else(|| "never".to_owned(), format::time)),
        ("last recovery", times.recovery.map_or_else(|| "never".to_owned(), format::time)),
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
