//! Finishes revocations that a crash interrupted: ends the live sessions of revoked DIDs.

use std::time::Duration;

use super::scheduler::JobError;
use crate::domain::Actor;
use crate::metrics::Metrics;
use crate::services::end_revoked_sessions;
use crate::storage::Store;

pub(super) const NAME: &str = "revocations";
pub(super) const INTERVAL: Duration = Duration::from_mins(1);

pub(super) async fn run(store: &Store, metrics: &Metrics) -> Result<(), JobError> {
    let ended = end_revoked_sessions(store, metrics, None, &Actor::Job(NAME)).await?;
    if ended > 0 {
        tracing::info!(job = NAME, ended, "ended sessions of revoked DIDs");
    }
    Ok(())
}
