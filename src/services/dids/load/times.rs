//! How old a record is, and for how long what it says holds.

use std::time::Duration;

use chrono::TimeDelta;

use super::super::resolved::Times;
use crate::domain::{DidRecord, Timestamp};

/// Whether a record holds what its home said, and that need not be asked again yet. What was read
/// later than now was read while the clock was ahead, and nobody knows when.
pub(super) fn is_current(record: &DidRecord) -> bool {
    let holds_an_answer = record.document.is_some() || record.gone.is_some();
    let read_before = record.fetched_at.is_none_or(|at| at <= record.observed_at);
    holds_an_answer
        && read_before
        && record.stale_at.is_some_and(|stale_at| record.observed_at < stale_at)
}

/// Whether a record holds a document that its home has not taken back.
pub(super) const fn holds_document(record: &DidRecord) -> bool {
    record.stale_at.is_some() && record.document.is_some() && record.gone.is_none()
}

/// How long before it was observed a record was read from its home.
pub(super) fn age(record: &DidRecord) -> Duration {
    record.fetched_at.map_or(Duration::ZERO, |fetched_at| since(fetched_at, record.observed_at))
}

pub(super) fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    (later - earlier).to_std().unwrap_or_default()
}

pub(super) fn times(fetched_at: Timestamp, now: Timestamp, ttl: Duration) -> Times {
    let ttl = TimeDelta::from_std(ttl).unwrap_or_default();
    Times { fetched_at, stale_at: fetched_at + ttl, age: since(fetched_at, now), stale_for: None }
}
