//! How values look in requests and answers: readers for what a domain type does not parse by
//! itself, and the forms of times and bytes.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Datelike as _, SecondsFormat, Timelike as _, Utc};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zeroize::{Zeroize as _, Zeroizing};

use super::fields::{Invalid, mistyped, pointer_to, without_duplicates};
use super::node::{Member, Node};
use super::problem::Problem;
use crate::domain::{Cursor, KeyType, Page, Timestamp};

/// The most bytes of a session key.
const MAX_SESSION_KEY: usize = 4096;
/// The most bytes of a session's metadata, as compact JSON.
const MAX_METADATA: usize = 16 * 1024;
/// The most characters of an owner's address.
const MAX_OWNER_ADDRESS: usize = 255;

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a session may be opened with.
pub(super) const MIN_IDLE_TIMEOUT: u32 = 10;
pub(super) const MAX_IDLE_TIMEOUT: u32 = 86_400;
/// What both databases can count to.
pub(super) const MAX_CLAIMS: u64 = i64::MAX as u64;

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

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct PageView<T> {
    pub(super) items: Vec<T>,
    /// Ask for the next page with this as `cursor`; null at the end.
    pub(super) next_cursor: Option<String>,
}

impl<T> PageView<T> {
    pub(super) fn of<'a, D>(page: &'a Page<D>, view: impl FnMut(&'a D) -> T) -> Self {
        Self {
            items: page.items.iter().map(view).collect(),
            next_cursor: page.next.as_ref().map(Cursor::encode),
        }
    }
}

/// Room for most answers, in bytes.
const USUAL_ANSWER: usize = 512;

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Result<HttpResponse, Problem> {
    let mut bytes = Vec::with_capacity(USUAL_ANSWER);
    serde_json::to_writer(&mut bytes, body)
        .map_err(|error| Problem::internal(format!("an answer cannot be written: {error}")))?;
    Ok(HttpResponse::build(status).content_type(APPLICATION_JSON).body(bytes))
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads bytes in standard, padded base64.
pub(super) fn bytes(node: Node<'_>) -> Result<Vec<u8>, Invalid> {
    match node {
        Node::Text(text) => decode(&text).map_err(Into::into),
        other => Err(mistyped("a string", &other)),
    }
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text).map_err(|_| "must be standard base64 with padding (RFC 4648, section 4)")
}

/// Reads a session key: 1 to 4096 bytes. What this copies of it is wiped.
pub(super) fn session_key(node: Node<'_>) -> Result<Zeroizing<Vec<u8>>, Invalid> {
    let text = match node {
        Node::Text(text) => text,
        other => return Err(mistyped("a string", &other)),
    };
    let key = decode(&text).map(Zeroizing::new);
    if let Cow::Owned(mut copy) = text {
        copy.zeroize();
    }
    let key = key?;
    if (1..=MAX_SESSION_KEY).contains(&key.len()) {
        Ok(key)
    } else {
        Err(format!("must be 1 to {MAX_SESSION_KEY} bytes, not {}", key.len()).into())
    }
}

/// Reads metadata: any object that both databases can hold, at most 16 KiB.
pub(super) fn metadata(node: Node<'_>) -> Result<Map<String, Value>, Invalid> {
    let map = match node {
        Node::Object(members) => object(members)?,
        other => return Err(mistyped("an object", &other)),
    };
    let size = serde_json::to_vec(&map).map_or(usize::MAX, |bytes| bytes.len());
    if size <= MAX_METADATA {
        Ok(map)
    } else {
        Err(format!("must be at most {MAX_METADATA} bytes as compact JSON, not {size}").into())
    }
}

fn object(members: Vec<Member<'_>>) -> Result<Map<String, Value>, Invalid> {
    let mut invalid = Invalid::default();
    let mut map = Map::new();
    for (name, node) in without_duplicates(members, &mut invalid) {
        let pointer = pointer_to(&name);
        match storable(name).and_then(|name| Ok((name, value(node)?))) {
            Ok((name, value)) => drop(map.insert(name, value)),
            Err(inner) => invalid.extend(&pointer, inner),
        }
    }
    if invalid.is_empty() { Ok(map) } else { Err(invalid) }
}

fn value(node: Node<'_>) -> Result<Value, Invalid> {
    Ok(match node {
        Node::Null => Value::Null,
        Node::Bool(value) => Value::Bool(value),
        Node::Number(number) => Value::Number(number),
        Node::Text(text) => Value::String(storable(text)?),
        Node::Array(items) => {
            let mut invalid = Invalid::default();
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                match value(item) {
                    Ok(value) => values.push(value),
                    Err(inner) => invalid.extend(&format!("/{index}"), inner),
                }
            }
            if !invalid.is_empty() {
                return Err(invalid);
            }
            Value::Array(values)
        }
        Node::Object(members) => Value::Object(object(members)?),
    })
}

/// PostgreSQL's jsonb has no U+0000.
fn storable(text: Cow<'_, str>) -> Result<String, Invalid> {
    if text.contains('\0') {
        Err("must not contain the character U+0000".into())
    } else {
        Ok(text.into_owned())
    }
}

/// Parses an RFC 3339 time, cut to microseconds.
pub(super) fn time(text: &str) -> Result<Timestamp, &'static str> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.with_timezone(&Utc))
        .and_then(|time| DateTime::from_timestamp_micros(time.timestamp_micros()))
        .ok_or("must be an RFC 3339 time, such as 2026-01-02T03:04:05Z")
}

pub(super) fn key_type(text: &str) -> Result<KeyType, String> {
    KeyType::parse(text)
        .ok_or_else(|| format!("must be one of {}", KeyType::ALL.map(KeyType::as_str).join(", ")))
}

pub(super) fn owner_address(text: &str) -> Result<String, String> {
    if (1..=MAX_OWNER_ADDRESS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {MAX_OWNER_ADDRESS} visible ASCII characters, without spaces"))
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, &'static str> {
    text.parse().map_err(|_| "must be true or false")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(json: &str) -> Node<'_> {
        Node::parse(json.as_bytes()).unwrap()
    }

    fn pointers(invalid: Invalid) -> Vec<String> {
        invalid.into_errors().into_iter().map(|error| error.pointer).collect()
    }

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

    #[test]
    fn a_session_key_is_padded_base64_of_1_to_4096_bytes() {
        let key = |text: &str| session_key(Node::Text(Cow::Borrowed(text)));
        assert_eq!(*key("a2V5").unwrap(), b"key");
        assert_eq!(session_key(node(r#""a2\u00565""#)).unwrap().as_slice(), b"key");
        assert!(key(&STANDARD.encode([7; 4096])).is_ok());
        assert!(key(&STANDARD.encode([7; 4097])).is_err());
        for text in ["", "a2U", "a2V5=", "a2-_", "a2V5 ", "a2V="] {
            assert!(key(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn metadata_is_kept_as_it_is() {
        let read = metadata(node(r#"{"a":[1,null,{"b":"ü"}],"c":1.5}"#)).unwrap();
        assert_eq!(Value::Object(read), json!({"a": [1, null, {"b": "ü"}], "c": 1.5}));
    }

    #[test]
    fn metadata_refuses_duplicates_and_nul_at_any_depth() {
        let invalid =
            metadata(node(r#"{"a":[{"x":1,"x":2},"\u0000"],"b":1,"b":2,"n\u0000":1,"ok":1}"#));
        assert_eq!(pointers(invalid.unwrap_err()), ["/b", "/a/0/x", "/a/1", "/n\u{0}"]);
    }

    #[test]
    fn metadata_is_at_most_16_kib() {
        let text = |n: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(n));
        assert!(metadata(node(&text(MAX_METADATA - 8))).is_ok());
        assert!(metadata(node(&text(MAX_METADATA - 7))).is_err());
    }
}
