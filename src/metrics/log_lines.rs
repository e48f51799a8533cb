//! The metric of lines that are missing in the log.

use prometheus::{IntCounter, Registry};

use super::register::counters;

/// Lines that are missing in the log, by reason.
#[derive(Debug, Clone)]
pub struct LogLinesDropped {
    /// Where logs go takes lines more slowly than they come.
    pub full: IntCounter,
    /// Where logs go takes none.
    pub unwritable: IntCounter,
    /// They told of requests without a valid credential.
    pub strangers: IntCounter,
    /// They repeated a warning or an error.
    pub repeated: IntCounter,
}

impl LogLinesDropped {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let dropped = counters(
            registry,
            "log_lines_dropped_total",
            "Lines that are missing in the log, by reason.",
            &["reason"],
        )?;
        Ok(Self {
            full: dropped.with_label_values(&["full"]),
            unwritable: dropped.with_label_values(&["unwritable"]),
            strangers: dropped.with_label_values(&["strangers"]),
            repeated: dropped.with_label_values(&["repeated"]),
        })
    }
}
