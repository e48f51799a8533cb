//! Where a transfer's rows go to.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::postgres::PostgresTarget;
use super::restore::RestoreRows;
use super::transfer::{Agreement, Arrival};
use super::{Result, StoreError, sqlite};
use crate::config::{Database, DatabaseUrl, SqliteLocation};
use crate::metrics::Metrics;

/// Where rows go to. While this lives, no other transfer goes to a PostgreSQL database; the caller
/// holds the lock of a file.
pub enum TransferTarget {
    Sqlite(PathBuf),
    Postgres(Box<PostgresTarget>),
}

impl TransferTarget {
    /// Opens the database for a transfer from this place. A file need not exist, and is not made yet.
    pub async fn open(config: &Database, metrics: Arc<Metrics>, from: &str) -> Result<Self> {
        match &config.url {
            DatabaseUrl::Sqlite(SqliteLocation::File(path)) => Ok(Self::Sqlite(path.clone())),
            DatabaseUrl::Sqlite(SqliteLocation::Memory) => Err(StoreError::Unsuitable(
                "sqlite::memory: lives and dies with one process".to_owned(),
            )),
            DatabaseUrl::Postgres(options) => {
                let target = PostgresTarget::open(options, config, metrics, from).await?;
                Ok(Self::Postgres(Box::new(target)))
            }
        }
    }

    /// Whether it has a part of the rows of a transfer that has not ended, and so every table. Only
    /// a transfer can open it then.
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        match self {
            // What was begun there has another name.
            Self::Sqlite(_) => false,
            Self::Postgres(target) => target.is_begun(),
        }
    }

    /// Takes the rows of another database, unless this one holds any. What an earlier run of the same
    /// transfer took is not taken again.
    pub async fn receive(
        self,
        mut rows: RestoreRows,
        arrival: Arrival,
        agreement: Agreement,
    ) -> Result<()> {
        match self {
            Self::Postgres(target) => target.receive(rows, &arrival, agreement).await,
            Self::Sqlite(path) => {
                let receive = move || sqlite::receive(&path, &mut rows, &arrival, agreement);
                let stopped =
                    |error| StoreError::Unexpected(format!("the transfer stopped: {error}"));
                spawn_blocking(receive).await.unwrap_or_else(|error| Err(stopped(error)))
            }
        }
    }
}
