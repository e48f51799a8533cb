//! Links committed events to the log, soon after they were published and else within a second. Each
//! instance looks; of several that find something, one links at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::scheduler::JobError;
use crate::metrics::Metrics;
use crate::storage::{LINK_BATCH, Store, StoreError};

pub(super) const NAME: &str = "events";
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// How long events gather once one was published.
const GATHER: Duration = Duration::from_millis(20);

/// Links what there is.
pub(super) async fn run(store: &Store, metrics: &Metrics, linked: &Notify) -> Result<(), JobError> {
    Ok(link(store, metrics, linked).await?)
}

/// Links whenever something was published, until it is told to stop. What fails here is left to the
/// next run of the job.
pub(super) async fn follow(
    store: Store,
    metrics: Arc<Metrics>,
    linked: Arc<Notify>,
    stop: CancellationToken,
) {
    let published = async {
        loop {
            store.until_published().await;
            tokio::time::sleep(GATHER).await;
            if let Err(error) = link(&store, &metrics, &linked).await {
                tracing::debug!(%error, "published events are not linked yet");
            }
        }
    };
    stop.run_until_cancelled(published).await;
}

/// Tells `notify` of what was linked.
async fn link(store: &Store, metrics: &Metrics, notify: &Notify) -> Result<(), StoreError> {
    loop {
        let waits = store.unlinked_for().await?;
        let seconds = waits.map_or(0, |waits| i64::try_from(waits.as_secs()).unwrap_or(i64::MAX));
        metrics.events.chain_lag_seconds.set(seconds);
        if waits.is_none() {
            return Ok(());
        }
        let linked = store.link_events().await?;
        metrics.events.linked.inc_by(linked);
        if linked > 0 {
            notify.notify_one();
        }
        // Another instance is at it, or the rest is younger than this.
        if linked < u64::from(LINK_BATCH) {
            return Ok(());
        }
    }
}
