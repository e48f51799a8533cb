//! How a use case fails, apart from the answers that its own result names.

use crate::data_dir::DataDirError;
use crate::domain::{Code, InvalidCursor};
use crate::resolvers::Full;
use crate::storage::StoreError;

/// Why a use case could not be carried out. None of the texts reaches a caller of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Store(StoreError),
    /// The page asked for does not exist: the caller's mistake.
    #[error("the cursor {0}")]
    InvalidCursor(InvalidCursor),
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

impl From<&ServiceError> for Code {
    fn from(error: &ServiceError) -> Self {
        match error {
            ServiceError::Store(error) => match error {
                StoreError::Unavailable(_)
                | StoreError::Unsuitable(_)
                | StoreError::Locked(_)
                | StoreError::Migration(_) => Self::StorageUnavailable,
                StoreError::WentBack(_) => Self::StorageWentBack,
                StoreError::OutcomeUnknown(_) => Self::OutcomeUnknown,
                StoreError::Unexpected(_) => Self::InternalError,
                StoreError::InvalidCursor(_) => Self::ValidationFailed,
            },
            ServiceError::InvalidCursor(_) => Self::ValidationFailed,
            ServiceError::Overloaded => Self::Overloaded,
            ServiceError::Upstream(_) | ServiceError::NoPlace { .. } => Self::UpstreamUnavailable,
            ServiceError::RateLimited => Self::RateLimited,
            ServiceError::Internal(_) => Self::InternalError,
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InvalidCursor(invalid) => Self::InvalidCursor(invalid),
            error => Self::Store(error),
        }
    }
}

impl From<DataDirError> for ServiceError {
    fn from(error: DataDirError) -> Self {
        Self::Internal(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_no_callers_mistake_but_for_a_cursor() {
        let why = || "the disk is full".to_owned();
        for (error, code) in [
            (StoreError::Unavailable(why()), Code::StorageUnavailable),
            (StoreError::Unsuitable(why()), Code::StorageUnavailable),
            (StoreError::Locked(why()), Code::StorageUnavailable),
            (StoreError::Migration(why()), Code::StorageUnavailable),
            (StoreError::WentBack(why()), Code::StorageWentBack),
            (StoreError::OutcomeUnknown(why()), Code::OutcomeUnknown),
            (StoreError::Unexpected(why()), Code::InternalError),
        ] {
            let error = ServiceError::from(error);
            assert!(matches!(error, ServiceError::Store(_)), "{error:?}");
            assert_eq!(Code::from(&error), code, "{error:?}");
        }
        let error = ServiceError::from(StoreError::InvalidCursor(InvalidCursor));
        assert_eq!(error, ServiceError::InvalidCursor(InvalidCursor));
        assert_eq!(Code::from(&error), Code::ValidationFailed);
    }
}
