//! Whether the database answers and can be written, and what an operator should know of it.

use super::pool::PoolStatus;
use super::{Result, Store, on};
use crate::domain::Timestamp;

/// What an operator should know of a database before it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the service cannot work like this.
    pub fatal: bool,
    /// What was found, and what to do about it.
    pub what: String,
}

impl Finding {
    pub(in crate::storage) fn fatal(what: impl Into<String>) -> Self {
        Self { fatal: true, what: what.into() }
    }

    pub(super) fn warning(what: impl Into<String>) -> Self {
        Self { fatal: false, what: what.into() }
    }
}

impl Store {
    /// The database's clock; also the cheapest proof that it answers.
    pub async fn now(&self) -> Result<Timestamp> {
        on!(self, store => store.now().await)
    }

    /// Makes a change that means nothing, as durably as any other.
    pub async fn prove_write(&self) -> Result<()> {
        on!(self, store => store.prove_write().await)
    }

    /// Fails, and says why, if a commit does not come back: what is done next may wait for one without
    /// an end. Nothing keeps a commit to an SQLite file waiting but its disk.
    pub async fn takes_changes(&self) -> Result<()> {
        match self {
            Self::Postgres(store) => store.takes_changes().await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// What an operator should know of the database's server: nothing, for SQLite, which has none.
    pub async fn findings(&self) -> Result<Vec<Finding>> {
        match self {
            Self::Postgres(store) => store.findings().await,
            Self::Sqlite(_) => Ok(Vec::new()),
        }
    }

    /// What is wrong with the pages of an SQLite file; `None` if nothing is. Reads the whole file.
    /// PostgreSQL checks its pages itself, where they have checksums.
    pub async fn damage(&self) -> Result<Option<String>> {
        match self {
            Self::Postgres(_) => Ok(None),
            Self::Sqlite(store) => store.damage().await,
        }
    }

    /// The general pool at this moment.
    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        on!(self, store => store.pool_status())
    }
}
