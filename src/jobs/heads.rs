//! Signs the head of the log of events each minute in which something was linked.

use std::time::Duration;

use super::scheduler::JobError;
use crate::services::Heads;

pub(super) const NAME: &str = "heads";
pub(super) const INTERVAL: Duration = Duration::from_mins(1);

pub(super) async fn run(heads: &mut Heads) -> Result<(), JobError> {
    Ok(heads.sign().await?)
}
