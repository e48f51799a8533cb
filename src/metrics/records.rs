//! Metrics of sealed records: what callers do to them, and how many there are.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::register::{counter, counters, gauge};

/// The gauges are sampled.
pub struct RecordMetrics {
    changed: IntCounterVec,
    pub refused: IntCounterVec,
    pub damaged: IntCounter,
    pub owners: IntGauge,
    pub stored: IntGauge,
    pub stored_bytes: IntGauge,
    pub agents_stored: IntGauge,
    pub agents_stored_bytes: IntGauge,
}

impl RecordMetrics {
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            changed: counters(
                r,
                "records_changed_total",
                "Sealed records written and deleted, by operation.",
                &["operation"],
            )?,
            refused: counters(
                r,
                "records_refused_total",
                "Calls that would have changed sealed records and were refused, by reason.",
                &["reason"],
            )?,
            damaged: counter(
                r,
                "records_damaged_total",
                "Sealed records that were asked for and are damaged in the database.",
            )?,
            owners: gauge(r, "record_owners", "DIDs that have sealed records, when last sampled.")?,
            stored: gauge(
                r,
                "records_stored",
                "Sealed records and tombstones, when last sampled.",
            )?,
            stored_bytes: gauge(
                r,
                "records_stored_bytes",
                "Bytes of the ciphertexts of sealed records, when last sampled.",
            )?,
            agents_stored: gauge(
                r,
                "agents_records_stored",
                "Sealed records and tombstones that count in the quota of all agents together, when last sampled.",
            )?,
            agents_stored_bytes: gauge(
                r,
                "agents_records_stored_bytes",
                "Bytes of the ciphertexts that count in the quota of all agents together, when last sampled.",
            )?,
        })
    }

    /// Counts records that were written (`put`) or deleted (`delete`).
    pub fn changed(&self, operation: &str, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.changed.with_label_values(&[operation]).inc_by(count);
    }
}
