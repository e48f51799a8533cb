//! Leases: one holder at a time runs a job.

use std::time::Duration;

use super::{Result, Store, on};
use crate::domain::Timestamp;

/// A lease that was taken so far in the future was taken while the clock was ahead: it holds nobody
/// back.
pub(super) const TAKEN_AHEAD: Duration = Duration::from_mins(1);

/// A job's lease, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    pub holder: String,
    pub taken_at: Timestamp,
    pub until: Timestamp,
    /// When a holder last finished the job.
    pub finished_at: Option<Timestamp>,
    /// The database's clock when this row was read.
    pub observed_at: Timestamp,
}

impl Store {
    /// Takes or renews the lease of a job for `ttl`, unless another holder has it.
    pub async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        on!(self, store => store.take_lease(name, holder, ttl).await)
    }

    /// Gives a lease back; `finished` also records that the job is done.
    pub async fn release_lease(&self, name: &str, holder: &str, finished: bool) -> Result<()> {
        on!(self, store => store.release_lease(name, holder, finished).await)
    }

    pub async fn lease(&self, name: &str) -> Result<Option<Lease>> {
        on!(self, store => store.lease(name).await)
    }
}
