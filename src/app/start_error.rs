//! Why the service does not start.

use crate::data_dir::DataDirError;
use crate::jobs::heartbeat::UnreadableMark;
use crate::resolvers::InvalidResolver;
use crate::services::{SealingError, ServiceError};
use crate::storage::sqlite::DatabaseLockError;
use crate::storage::{Departure, StoreError};
use crate::tls::InvalidCertificate;

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Mark(#[from] UnreadableMark),
    #[error(transparent)]
    DatabaseLock(#[from] DatabaseLockError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database's schema is not this version's, and a start does not change it.
    #[error("{0}")]
    Schema(String),
    /// The database is being moved to another one, or was.
    #[error("{0}")]
    Moved(Departure),
    /// There was a database, and now it is missing or empty.
    #[error("{0}")]
    Lost(String),
    /// The database lacks what an earlier process of this data folder knew of.
    #[error("{0}")]
    WentBack(String),
    #[error(transparent)]
    Sealing(#[from] SealingError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("{key}: {message}")]
    Setting { key: &'static str, message: String },
}

impl From<InvalidResolver> for StartError {
    fn from(InvalidResolver { key, message }: InvalidResolver) -> Self {
        Self::Setting { key, message }
    }
}

impl From<InvalidCertificate> for StartError {
    fn from(InvalidCertificate { key, message }: InvalidCertificate) -> Self {
        Self::Setting { key, message }
    }
}

pub(super) fn setting(key: &'static str, error: &impl std::fmt::Display) -> StartError {
    StartError::Setting { key, message: error.to_string() }
}
