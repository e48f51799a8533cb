//! Samples the gauges that would cost too much to keep exact.

use super::purge;
use super::scheduler::JobError;
use crate::metrics::Metrics;
use crate::storage::Store;

pub(super) const NAME: &str = "sample";

pub(super) async fn run(store: &Store, metrics: &Metrics) -> Result<(), JobError> {
    let counts = store.counts().await?;
    metrics.sessions_active.set(gauge(counts.active_sessions));
    metrics.nonces_live.set(gauge(counts.live_nonces));
    let records = counts.records;
    metrics.records.owners.set(gauge(records.owners));
    metrics.records.stored.set(gauge(records.records));
    metrics.records.stored_bytes.set(gauge(records.bytes));
    metrics.records.agents_stored.set(gauge(records.agents_records));
    metrics.records.agents_stored_bytes.set(gauge(records.agents_bytes));
    let webhooks = store.webhook_counts().await?;
    metrics.webhooks.active.set(gauge(webhooks.active));
    metrics.webhooks.paused.set(gauge(webhooks.paused));
    metrics.webhooks.paused_by_recovery.set(gauge(webhooks.recovered));
    metrics.webhooks.disabled.set(gauge(webhooks.disabled));
    metrics.webhooks.oldest_pending_seconds.set(gauge(webhooks.oldest_pending.as_secs()));
    let pool = store.pool_status();
    let idle = pool.open.saturating_sub(pool.in_use);
    for (state, count) in [("in_use", pool.in_use), ("idle", idle), ("max", pool.max)] {
        metrics.pool_connections.with_label_values(&[state]).set(i64::from(count));
    }
    if let Some(lease) = store.lease(purge::NAME).await?
        && let Some(finished_at) = lease.finished_at
    {
        metrics.purge_lag_seconds.set((lease.observed_at - finished_at).num_seconds());
    }
    if let Some(at) = store.last_backup().await? {
        metrics.last_backup.set(at.timestamp());
    }
    Ok(())
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
