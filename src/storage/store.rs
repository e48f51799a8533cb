//! The one interface to a database: which of the two it is, how it is opened and closed. Each subject
//! adds its calls.

use std::sync::Arc;

use super::error::Result;
use super::limits::ClaimLimits;
use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;
use crate::clock::Clock;
use crate::config::{Database, DatabaseUrl};
use crate::metrics::Metrics;

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

pub(super) use on;

impl Store {
    /// Opens the database that the configuration names. Does not migrate it.
    ///
    /// Must be called on a multi-thread Tokio runtime that outlives the store: PostgreSQL's
    /// connections are driven there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`](super::StoreError::Unavailable) when the database cannot be
    /// reached (after the configured retries), refuses the log-in, or the file cannot be opened or
    /// is in use.
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
