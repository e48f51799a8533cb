//! Times in lines of the log, which have numbers and name their unit.

use std::time::Duration;

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
