//! Values as people write and read them.

use crate::domain::{KeyType, Timestamp};

pub(super) use crate::domain::rfc3339 as time;

/// Reads `90s`, `45m`, `12h` or `30d` into seconds.
pub(super) fn parse_duration(text: &str) -> Result<u32, String> {
    let wrong = || "must be a number and a unit: 90s, 45m, 12h or 30d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(0) => Err("must be more than zero".to_owned()),
        Some(seconds) => Ok(seconds),
        None => Err("must be less than 136 years".to_owned()),
    }
}

/// Reads the type of a key, in any case.
pub(super) fn parse_key_type(text: &str) -> Result<KeyType, String> {
    KeyType::ALL
        .into_iter()
        .find(|key_type| key_type.as_str().eq_ignore_ascii_case(text))
        .ok_or_else(|| "must be ed25519, secp256k1 or p256".to_owned())
}

/// Reads a time: RFC 3339, or seconds since 1970 as signatures write them.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let time = match text.parse() {
        Ok(seconds) => Timestamp::from_timestamp(seconds, 0),
        Err(_) => text.parse().ok(),
    };
    time.ok_or_else(|| "must be a time such as 2026-11-20T12:00:00Z or 1795176000".to_owned())
}

/// Bytes with a binary unit.
pub(super) fn bytes(count: u64) -> String {
    let mut unit = "B";
    let (mut whole, mut rest) = (count, 0);
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        rest = whole % 1024;
        whole /= 1024;
        unit = next;
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{} {unit}", rest * 10 / 1024) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("90s"), Ok(90));
        assert_eq!(parse_duration("45m"), Ok(2700));
        assert_eq!(parse_duration("12h"), Ok(43_200));
        assert_eq!(parse_duration("30d"), Ok(2_592_000));
        for text in ["", "s", "30", "d30", "-1s", "0s", "1.5h", "50000d", "1ss", "1 s", "3é"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_a_binary_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 30), "5.0 GiB");
    }
}
