//! The SQLite store: one file, one writing thread that commits groups, and a few reading threads.
//!
//! Each subject has a file or folder beside this one. It holds the subject's SQL, and says of each
//! call whether it reads or writes. Every write is in a transaction that first took the write lock,
//! and is on disk when its call returns.
//!
//! A row that is found by its key is loaded by `get_result`, not by `first`: that binds a `LIMIT`, and
//! SQLite compiles a statement anew whenever a parameter of its `LIMIT` is bound. That took half of
//! the time of a reading.

mod claims;
mod connection;
mod dids;
mod dump;
mod erasure;
mod events;
mod health;
mod history;
mod instances;
mod leases;
mod migrations;
mod publications;
mod purge;
mod records;
mod recovery;
mod restore;
mod schema;
mod sealing;
mod search;
mod sessions;
mod statistics;
mod threads;
mod tokens;
mod transfer;
mod types;
mod webhooks;
mod words;

use std::sync::Arc;

use self::threads::Threads;
use super::instances::LatestIssue;
use super::{ClaimLimits, Result, StoreError};
use crate::clock::Clock;
use crate::config::{Database, SqliteLocation};
use crate::metrics::Metrics;

pub use connection::lock::{DatabaseLock, DatabaseLockError};
pub use restore::restore;
pub use transfer::receive;

/// An SQLite database. Clones share its threads, which end with the last clone.
#[derive(Clone)]
pub struct SqliteStore(Arc<Threads>);

impl SqliteStore {
    /// Opens the database, and creates an empty file if there is none. Does not migrate it.
    pub async fn open(
        location: &SqliteLocation,
        config: &Database,
        limits: ClaimLimits,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self> {
        let (location, readers) = (location.clone(), config.sqlite_readers);
        let slow = config.slow_statement;
        let start = move || Threads::start(&location, readers, slow, limits, metrics, clock);
        match tokio::task::spawn_blocking(start).await {
            Ok(threads) => Ok(Self(Arc::new(threads?))),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    pub(super) fn latest_issue(&self) -> &LatestIssue {
        &self.0.latest_issue
    }

    pub async fn close(&self) {
        self.0.close().await;
    }
}
