//! The form of times in requests and answers.

use chrono::{DateTime, Datelike as _, SecondsFormat, Timelike as _, Utc};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::domain::Timestamp;

/// A time as RFC 3339 in UTC with six digits of the second.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-02T03:04:05.678901Z")]
pub(super) struct Time(pub(super) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Every answer has some; what can write any year allocates, and takes ten times as long.
        match rfc3339(&self.0).as_ref().map(|text| str::from_utf8(text)) {
            Some(Ok(text)) => serializer.serialize_str(text),
            _ => serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true)),
        }
    }
}

/// `None` where the year has not four digits, or in a leap second.
fn rfc3339(time: &Timestamp) -> Option<[u8; 27]> {
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    // Each field of a time with an offset would be reckoned from UTC anew.
    let time = time.naive_utc();
    let year = u32::try_from(time.year()).ok().filter(|year| *year <= 9999)?;
    let micros = Some(time.nanosecond() / 1000).filter(|micros| *micros < 1_000_000)?;
    let fields = [
        (0..4, year),
        (5..7, time.month()),
        (8..10, time.day()),
        (11..13, time.hour()),
        (14..16, time.minute()),
        (17..19, time.second()),
        (20..26, micros),
    ];
    for (place, mut number) in fields {
        for digit in text.get_mut(place)?.iter_mut().rev() {
            *digit = b'0' + u8::try_from(number % 10).ok()?;
            number /= 10;
        }
    }
    Some(text)
}

/// Parses an RFC 3339 time, cut to microseconds.
pub(super) fn time(text: &str) -> Result<Timestamp, &'static str> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.with_timezone(&Utc))
        .and_then(|time| DateTime::from_timestamp_micros(time.timestamp_micros()))
        .ok_or("must be an RFC 3339 time, such as 2026-01-02T03:04:05Z")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_has_six_digits() {
        let whole = DateTime::from_timestamp_micros(1_767_323_045_000_000).unwrap();
        assert_eq!(json!(Time(whole)), json!("2026-01-02T03:04:05.000000Z"));
        let leap_second = DateTime::from_timestamp(1_483_228_799, 1_500_000_000).unwrap();
        assert_eq!(json!(Time(leap_second)), json!("2016-12-31T23:59:60.500000Z"));
    }

    #[test]
    fn a_time_is_written_as_it_is_read_in_every_year() {
        let years = (0..=9999).step_by(7).chain([-1, 10_000, 262_000]);
        for (number, year) in years.enumerate() {
            let days = i64::try_from(number).unwrap() * 37 + 59;
            let micros = (number * 987_654_321) % 86_400_000_000;
            let start = chrono::NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_hms_opt(0, 0, 0);
            let time = start.unwrap().and_utc()
                + chrono::Duration::days(days % 366)
                + chrono::Duration::microseconds(i64::try_from(micros).unwrap());
            let expected = time.to_rfc3339_opts(SecondsFormat::Micros, true);
            assert_eq!(json!(Time(time)), json!(expected));
        }
    }

    #[test]
    fn a_time_is_read_in_any_offset() {
        let expected = DateTime::from_timestamp_micros(1_767_323_045_678_901).unwrap();
        assert_eq!(time("2026-01-02T04:04:05.678901999+01:00"), Ok(expected));
        for text in ["", "2026-01-02", "2026-01-02T03:04:05", "1767323045", "2026-13-02T03:04:05Z"]
        {
            assert!(time(text).is_err(), "{text:?}");
        }
    }
}
