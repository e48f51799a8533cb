//! What a store knows of the instance that serves on it.

use uuid::Uuid;

use crate::domain::Timestamp;
use crate::storage::{Mark, Marks};

/// The instance that serves on this store.
#[derive(Debug, Clone)]
pub(super) struct Serving {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) recovered_at: Option<Timestamp>,
    pub(super) marks: Marks,
    /// The last heartbeat, and how many rows the writer had changed after it.
    pub(super) last: Option<(Mark, i64)>,
}
