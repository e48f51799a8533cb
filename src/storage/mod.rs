//! What the service needs from a database, and the two databases that give it.
//!
//! [`Store`] is the only way to a database. Its two sides, [`postgres`] and [`sqlite`], keep the
//! same rules (`tests/storage` runs one suite on both) and share no SQL. Nothing outside them
//! writes SQL or names Diesel. A store decides by the database's clock, never by the process's.

mod claims;
mod dids;
mod dump;
mod erasure;
mod error;
mod events;
mod fingerprint;
mod health;
mod history;
mod instances;
mod leases;
pub mod migrations;
pub mod postgres;
mod publications;
mod purge;
mod readable;
mod records;
mod recovery;
mod restore;
mod row_security;
mod sealing;
mod search;
mod sessions;
pub mod sqlite;
mod statistics;
pub mod tables;
mod tokens;
mod transfer;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{Database, DatabaseUrl};
use crate::metrics::Metrics;

pub use claims::{Asked, ClaimKind, ClaimLimits, OnLock};
pub use dids::{Answer, DidChange, DidChanges, Reading};
pub use dump::{BACKUP_LEASE, Dump, DumpChunk, Pace};
pub use erasure::Erased;
pub use error::StoreError;
pub use events::{EventChain, KeptHead, LINK_BATCH};
pub use fingerprint::{Fingerprint, Fingerprints};
pub use health::{Finding, PoolStatus};
pub use history::History;
pub use instances::{Compared, Joining, Mark, Marks};
pub use leases::Lease;
use leases::TAKEN_AHEAD;
pub use migrations::MigrationStatus;
pub use purge::{PurgeBatch, PurgeStep, Purged};
pub use records::{Contents, FeedRequest, RecordWriter};
pub use recovery::{Act, Memory, Recovered, Recovery, Remembered};
pub use restore::{Restore, RestoreFeed, RestoreRows, restore_rows};
pub use sealing::{KnownSealingKey, SealedSession};
pub use sessions::{Ending, Held, Tried};
pub use statistics::{Counts, RecordCounts, Statistics, TableSize};
pub use transfer::{Agree, Agreement, Arrival, Departure, agreement, holds_nothing, place};
pub use webhooks::{
    AttemptOutcome, Attempted, DeliveryCounts, DueDelivery, HAND_BATCH, NewWebhook, Replayed,
    SealedWebhook, WebhookChange, WebhookCounts,
};

use postgres::PostgresStore;
use sqlite::SqliteStore;

/// The result of every call to a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A database. Clones share its connections.
#[derive(Clone)]
pub enum Store {
    Postgres(PostgresStore),
    Sqlite(SqliteStore),
}

/// Calls the same method on whichever store this is.
macro_rules! on {
    ($store:expr, $inner:ident => $call:expr) => {
        match $store {
            Store::Postgres($inner) => $call,
            Store::Sqlite($inner) => $call,
        }
    };
}

use on;

impl Store {
    /// Opens the database that the configuration names. Does not migrate it.
    ///
    /// Must be called on a multi-thread Tokio runtime that outlives the store: PostgreSQL's
    /// connections are driven there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database cannot be reached (after the configured
    /// retries), refuses the log-in, or the file cannot be opened or is in use.
    pub async fn open(
        config: &Database,
        limits: ClaimLimits,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self> {
        match &config.url {
            DatabaseUrl::Postgres(options) => {
                PostgresStore::open(options, config, limits, metrics).await.map(Self::Postgres)
            }
            DatabaseUrl::Sqlite(location) => {
                SqliteStore::open(location, config, limits, metrics, clock).await.map(Self::Sqlite)
            }
        }
    }

    /// Finishes what is being written and closes every connection.
    pub async fn close(&self) {
        on!(self, store => store.close().await);
    }

    /// `postgresql` or `sqlite`.
    #[must_use]
    pub const fn backend(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgresql",
            Self::Sqlite(_) => "sqlite",
        }
    }
}

/// For a line of the log, which has numbers and names their unit.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
