//! `[sessions]`: how long a session lives, and how long it is remembered.

use std::time::Duration;

use super::reader::Reader;

/// `[sessions]`.
#[derive(Debug, Clone)]
pub struct Sessions {
    pub default_ttl: Duration,
    pub max_ttl: Duration,
    /// How long an ended session is remembered.
    pub retention: Duration,
}

impl Sessions {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let sessions = Self {
            default_ttl: reader.seconds("sessions.default_ttl_seconds", 3600, 1..=86_400),
            max_ttl: reader.seconds("sessions.max_ttl_seconds", 86_400, 1..=86_400),
            retention: reader.days("sessions.retention_days", 7, 7..=3650),
        };
        if sessions.default_ttl > sessions.max_ttl {
            reader.refuse(
                "sessions.default_ttl_seconds",
                format!(
                    "must not exceed sessions.max_ttl_seconds, which is {}",
                    sessions.max_ttl.as_secs()
                ),
            );
        }
        sessions
    }
}
