//! `[jobs]`: when jobs run in the background, and how fast.

use std::time::Duration;

use super::reader::Reader;

/// `[jobs]`.
#[derive(Debug, Clone)]
pub struct Jobs {
    pub purge_interval: Duration,
    /// The most rows in one batch of the purge.
    pub purge_batch: u32,
    /// How long the purge rests between two batches.
    pub purge_pause: Duration,
    /// Of the log of events.
    pub audit_retention: Duration,
    /// How often the gauges of sessions and nonces are sampled.
    pub sample_interval: Duration,
}

impl Jobs {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            purge_interval: reader.seconds("jobs.purge_interval_seconds", 300, 1..=86_400),
            purge_batch: reader.number("jobs.purge_batch", 100, 1..=100_000),
            purge_pause: reader.milliseconds("jobs.purge_pause_milliseconds", 3, 0..=10_000),
            audit_retention: reader.days("jobs.audit_retention_days", 180, 1..=3650),
            sample_interval: reader.seconds("jobs.sample_interval_seconds", 15, 1..=3600),
        }
    }
}
