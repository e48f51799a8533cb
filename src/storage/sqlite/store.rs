//! The store itself: opened, and closed.

use std::sync::Arc;

use super::threads::Threads;
use crate::clock::Clock;
use crate::config::{Database, SqliteLocation};
use crate::metrics::Metrics;
use crate::storage::marks::LatestIssue;
use crate::storage::{ClaimLimits, Result, StoreError};

/// An SQLite database. Clones share its threads, which end with the last clone.
#[derive(Clone)]
pub struct SqliteStore(pub(super) Arc<Threads>);

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

    pub(in crate::storage) fn latest_issue(&self) -> &LatestIssue {
        &self.0.latest_issue
    }

    pub async fn close(&self) {
        self.0.close().await;
    }
}
