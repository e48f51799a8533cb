//! Applying and reverting migrations.

use super::migrations::MigrationStatus;
use super::{Result, Store, on};

impl Store {
    /// Every migration this binary knows or the database has, oldest first.
    pub async fn migrations(&self) -> Result<Vec<MigrationStatus>> {
        on!(self, store => store.migrations().await)
    }

    /// The instances that serve on this database now, each by where it is connected from. On SQLite
    /// the lock of the database tells, and this is empty.
    pub async fn serving(&self) -> Result<Vec<String>> {
        match self {
            Self::Postgres(store) => store.serving().await,
            Self::Sqlite(_) => Ok(Vec::new()),
        }
    }

    /// Applies all pending migrations, one transaction each, and returns their names. Two
    /// instances that start at once take turns.
    pub async fn migrate_up(&self) -> Result<Vec<String>> {
        on!(self, store => store.migrate_up().await)
    }

    /// Reverts the newest `count` migrations (`None`: all), and returns their names.
    pub async fn migrate_down(&self, count: Option<u32>) -> Result<Vec<String>> {
        on!(self, store => store.migrate_down(count).await)
    }
}
