//! A database that is being filled with the rows of another one.

use std::fmt;

use uuid::Uuid;

use super::{MigrationStatus, Result, StoreError};
use crate::domain::Timestamp;

/// What a database says of itself that has a part of the rows of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arriving {
    pub(super) id: Uuid,
    /// The source, without user and password.
    pub(super) from: String,
    pub(super) began_at: Timestamp,
    /// Every row but one came. Since then, the source may have been moved for ever.
    pub(super) has_all: bool,
}

impl fmt::Display for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, began_at, .. } = self;
        write!(
            f,
            "it is being filled by the transfer from {from}, which began at {began_at} and has not \
             ended: run `onceguard transfer` again, which goes on, or name another database"
        )
    }
}

impl Arriving {
    /// Refuses a transfer from elsewhere if the source may have been moved. From the same place comes
    /// the same transfer, or the one after it, which shows that the earlier one was called off.
    pub(super) fn must_yield_to(&self, from: &str) -> Result<()> {
        if !self.has_all || self.from == from {
            return Ok(());
        }
        let Self { from, .. } = self;
        Err(StoreError::Unsuitable(format!(
            "it has the rows of {from}, which may be moved for ever: finish the transfer from there, \
             or name another database"
        )))
    }

    pub(super) fn of_another_version(&self) -> StoreError {
        let Self { from, .. } = self;
        StoreError::Unsuitable(format!(
            "another version of onceguard began to fill it from {from}: finish the transfer with that \
             version, or call it off (`onceguard transfer --cancel`) and name another database"
        ))
    }
}

/// Whether the database knows of transfers.
pub(super) fn can_depart(migrations: &[MigrationStatus]) -> bool {
    migrations.iter().any(|known| known.name.ends_with("_transfers") && known.applied)
}
