//! The metrics of the log of events.

use prometheus::{IntCounter, IntGauge, Registry};

use super::register::{counter, counters, gauge};

/// Of the log of events.
#[derive(Debug, Clone)]
pub struct EventMetrics {
    /// Events of callers.
    pub published: IntCounter,
    /// Events that this instance gave their place.
    pub linked: IntCounter,
    pub chain_lag_seconds: IntGauge,
    pub heads_signed: IntCounter,
    pub head_failures: IntCounter,
    pub unrecorded: UnrecordedReplays,
}

/// Replays that are counted and not in the log of events, by reason.
#[derive(Debug, Clone)]
pub struct UnrecordedReplays {
    /// Their scope had enough in this minute.
    pub scope: IntCounter,
    /// There were enough in this minute, in all.
    pub all: IntCounter,
    /// The database takes them more slowly than they come.
    pub full: IntCounter,
    /// The database refused them.
    pub failed: IntCounter,
}

impl EventMetrics {
    pub(super) fn new(r: &Registry) -> prometheus::Result<Self> {
        let unrecorded = counters(
            r,
            "replays_unrecorded_total",
            "Replays that are not in the log of events, by reason.",
            &["reason"],
        )?;
        Ok(Self {
            published: counter(
                r,
                "events_published_total",
                "Events that callers published through this instance.",
            )?,
            linked: counter(
                r,
                "events_linked_total",
                "Events that this instance linked to the log.",
            )?,
            chain_lag_seconds: gauge(
                r,
                "event_chain_lag_seconds",
                "Age of the oldest event that is not linked, when last looked.",
            )?,
            heads_signed: counter(
                r,
                "event_heads_signed_total",
                "Heads of the log of events that this instance signed.",
            )?,
            head_failures: counter(
                r,
                "event_head_failures_total",
                "Times that signed heads could not be written to the data folder.",
            )?,
            unrecorded: UnrecordedReplays {
                scope: unrecorded.with_label_values(&["scope"]),
                all: unrecorded.with_label_values(&["all"]),
                full: unrecorded.with_label_values(&["full"]),
                failed: unrecorded.with_label_values(&["failed"]),
            },
        })
    }
}
