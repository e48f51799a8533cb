//! `[events]`: what the log of events takes.

use std::time::Duration;

use super::reader::Reader;

/// `[events]`.
#[derive(Debug, Clone)]
pub struct Events {
    /// The most events of one call.
    pub max_batch: u32,
    /// The most events that one token may publish in a minute, on one instance.
    pub per_minute: u64,
    /// The most replays of one scope in a minute that become events, and of all scopes together.
    pub replays_per_scope_per_minute: u32,
    pub replays_per_minute: u32,
    /// How long what callers published is kept. The service's own events are kept for
    /// `jobs.audit_retention`.
    pub retention: Duration,
}

impl Events {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let max_batch = reader.number("events.max_batch", 10_000, 1..=100_000);
        let fits = u64::from(max_batch)..=1_000_000_000;
        Self {
            max_batch,
            // One call that is allowed must fit into a minute.
            per_minute: reader.number("events.per_minute", 600_000, fits),
            replays_per_scope_per_minute: reader.number(
                "events.replays_per_scope_per_minute",
                10,
                0..=10_000,
            ),
            replays_per_minute: reader.number("events.replays_per_minute", 600, 0..=100_000),
            retention: reader.days("events.retention_days", 30, 1..=3650),
        }
    }
}
