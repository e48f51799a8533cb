//! What this instance remembers, as a connection looks for it.

use uuid::Uuid;

/// What must be there: ids, and the least number for each.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Of which generation that is.
    pub(super) generation: Uuid,
    /// Of which state of the memory. In a later one, some of this may be removed from the database.
    pub(super) epoch: u64,
    pub(super) connections: (Vec<Uuid>, Vec<i64>),
    pub(super) instances: (Vec<Uuid>, Vec<i64>),
}
