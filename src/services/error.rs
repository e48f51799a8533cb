//! How a use case fails, apart from the answers that its own result names.

use crate::data_dir::DataDirError;
use crate::resolvers::Full;
use crate::storage::StoreError;

/// Why a use case could not be carried out. None of the texts reaches a caller of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A queue is full; nothing was changed.
    #[error("the queue is full")]
    Overloaded,
    /// Where a DID lives could not be asked, and nothing that was read before will do.
    #[error("the DID could not be read: {0}")]
    Upstream(String),
    /// Where a DID lives was not asked: as many DIDs are being read as may be.
    #[error("the DID was not read: {full}")]
    NoPlace {
        full: Full,
        /// Whether something is stored about the DID.
        known: bool,
    },
    /// A DID was forced to be read again too soon after the last time.
    #[error("the DID was read a moment ago")]
    RateLimited,
    /// The service itself is at fault, or its configuration.
    #[error("{0}")]
    Internal(String),
}

impl From<DataDirError> for ServiceError {
    fn from(error: DataDirError) -> Self {
        Self::Internal(error.to_string())
    }
}
