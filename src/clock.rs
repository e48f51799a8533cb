//! The process's own clock, injected so that tests can move it. It refuses early and measures
//! waits; what expires in the database is decided by the database's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::Duration;

use crate::domain::Timestamp;

/// Gives the time in UTC, with microseconds.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Added to the system's time, in microseconds. Only tests set it.
    offset: Arc<AtomicI64>,
}

impl Clock {
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn now(&self) -> Timestamp {
        let now = chrono::Utc::now() + Duration::microseconds(self.offset.load(Ordering::Relaxed));
        chrono::DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }

    /// Moves this clock, and every clone of it, by `by` from where it stands.
    pub fn shift(&self, by: Duration) {
        self.offset.fetch_add(by.num_microseconds().unwrap_or(0), Ordering::Relaxed);
    }
}
