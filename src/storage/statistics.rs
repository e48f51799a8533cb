//! Counts and sizes.

use super::{Result, Store, on};
use crate::domain::{Did, RecordKind};

/// Counts that are cheap enough to sample while the service runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub active_sessions: u64,
    pub ended_sessions: u64,
    /// Nonces held, of both scopes. An estimate where counting would be slow.
    pub live_nonces: u64,
    pub dids: u64,
    pub revoked_dids: u64,
    pub records: RecordCounts,
}

/// Counts of sealed records. They are sums of what is counted for each owner: no record is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordCounts {
    pub owners: u64,
    /// Tombstones included, as quotas count them.
    pub records: u64,
    pub bytes: u64,
    /// What the quota for all agents together counts.
    pub agents_records: u64,
    pub agents_bytes: u64,
}

/// One table's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    pub name: String,
    /// Table and indexes, in bytes.
    pub bytes: u64,
}

/// What `GET /v1/stats` tells about the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    pub counts: Counts,
    pub database_bytes: u64,
    pub tables: Vec<TableSize>,
    /// The clients with the most active sessions, most first.
    pub top_clients: Vec<(Did, u64)>,
    /// The kinds with the most records, most first. Tombstones are not counted.
    pub top_kinds: Vec<(RecordKind, u64)>,
}

impl Store {
    /// Counts for the gauges.
    pub async fn counts(&self) -> Result<Counts> {
        on!(self, store => store.counts().await)
    }

    /// Sizes, the `top` busiest clients and kinds of records. Slower than [`Self::counts`].
    pub async fn statistics(&self, top: u32) -> Result<Statistics> {
        on!(self, store => store.statistics(top).await)
    }

    /// Whether any table holds a row (but for those of migrations, leases, sealing keys, tokens
    /// and the audit log).
    pub async fn holds_data(&self) -> Result<bool> {
        on!(self, store => store.holds_data().await)
    }
}
