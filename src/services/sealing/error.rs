//! Why sealing is not possible.

use crate::storage::StoreError;

/// Why sealing is not possible as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// A key is missing, malformed or the wrong one.
    #[error("{0}")]
    Key(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}
