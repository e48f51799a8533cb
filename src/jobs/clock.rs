//! Watches the machine's clock: reports its jumps, and accepts a new time after a while. Other
//! jobs, such as the purge, decide for themselves what they do not do until then.

use std::time::Duration;

use crate::clock::{BELIEVED_AFTER, Clock};
use crate::metrics::Metrics;

pub(super) const NAME: &str = "clock";
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(clock: &Clock, metrics: &Metrics) {
    let before = metrics.clock_jump_seconds.get();
    let now = clock.jump().map_or(0, |by| by.num_seconds());
    metrics.clock_jump_seconds.set(now);
    match (before, now) {
        (0, 0) => {}
        (0, seconds) => {
            metrics.clock_jumps.inc();
            tracing::warn!(
                seconds,
                "the machine's clock jumped; nothing is purged until it is right again, or has \
                 stood for {} minutes",
                BELIEVED_AFTER.num_minutes()
            );
        }
        (_, 0) => tracing::info!("the machine's clock is believed again"),
        (_, _) => {}
    }
}
