//! Moments.

use chrono::{DateTime, SecondsFormat, Utc};

/// A moment in UTC, with microseconds (what PostgreSQL stores).
pub type Timestamp = DateTime<Utc>;

/// RFC 3339 in UTC. It always has six digits of a second, unlike what serde makes of a [`Timestamp`].
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_six_digits_of_a_second() {
        for (micros, text) in [
            (1_700_000_000_000_000, "2023-11-14T22:13:20.000000Z"),
            (1_700_000_000_120_000, "2023-11-14T22:13:20.120000Z"),
            (1_700_000_000_000_001, "2023-11-14T22:13:20.000001Z"),
        ] {
            assert_eq!(rfc3339(DateTime::from_timestamp_micros(micros).unwrap()), text);
        }
    }
}
