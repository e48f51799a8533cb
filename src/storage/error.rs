//! How a call to a store fails. A rule that says no is not an error: it is a variant of the
//! call's answer.

use crate::domain::InvalidCursor;

/// The result of every call to a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why a store could not do what was asked. The texts are for logs and operators; they hold no
/// row's content and never reach a caller of the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached, or refused or cancelled the statement. Nothing changed.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Another transaction holds a lock that was needed. Nothing changed, and what was asked
    /// together with this may go better without it.
    #[error("another transaction holds a lock in the database: {0}")]
    Locked(String),
    /// The connection was lost after a change was sent and before its answer came: it may have
    /// been committed.
    #[error("the connection was lost before the database's answer: {0}")]
    OutcomeUnknown(String),
    /// The database, or the role, is not what onceguard needs: the text says what it must be.
    #[error("the database cannot be used: {0}")]
    Unsuitable(String),
    /// The database lacks what it had acknowledged, or is not the one that this instance has served:
    /// what it accepts could have been accepted before. The text says what to do.
    #[error("the database went back in time: {0}")]
    WentBack(String),
    /// The schema is not the one this binary needs.
    #[error("{0}")]
    Migration(String),
    /// A row that this binary cannot read, or a statement that it should not have sent.
    #[error("unexpected answer from the database: {0}")]
    Unexpected(String),
    /// The page asked for does not exist: the caller's mistake, found before anything was sent.
    #[error("the cursor {0}")]
    InvalidCursor(#[from] InvalidCursor),
}
