//! Converts between SQLite's types and the domain's: microseconds and times, bytes and ids. A value
//! that this binary cannot read is an error that names it, never a default.

use std::time::Duration;

use chrono::DateTime;
use diesel::result::{Error, QueryResult};
use uuid::Uuid;

use crate::domain::{Did, End, EndReason, Timestamp};

/// The error for a stored value that this binary cannot read.
pub(super) fn unreadable(what: &'static str) -> Error {
    Error::DeserializationError(format!("a stored {what} cannot be read").into())
}

pub(super) fn timestamp(micros: i64) -> QueryResult<Timestamp> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| unreadable("time"))
}

pub(super) fn optional_timestamp(micros: Option<i64>) -> QueryResult<Option<Timestamp>> {
    micros.map(timestamp).transpose()
}

pub(super) fn did(text: &str) -> QueryResult<Did> {
    Did::parse(text).map_err(|_| unreadable("DID"))
}

/// The session's end, from its two columns.
pub(super) fn end(at: Option<i64>, reason: Option<&str>) -> QueryResult<Option<End>> {
    let parse = |word| EndReason::parse(word).ok_or_else(|| unreadable("end reason"));
    let (at, reason) = (optional_timestamp(at)?, reason.map(parse).transpose()?);
    Ok(at.zip(reason).map(|(at, reason)| End { at, reason }))
}

pub(super) fn uuid(bytes: &[u8]) -> QueryResult<Uuid> {
    Uuid::from_slice(bytes).map_err(|_| unreadable("UUID"))
}

/// A stored number as the domain's number, which may be narrower or unsigned.
pub(super) fn number<T: TryFrom<i64>>(stored: i64) -> QueryResult<T> {
    T::try_from(stored).map_err(|_| unreadable("number"))
}

/// The domain's number as SQLite's. A larger one becomes SQLite's largest.
pub(super) fn stored<T>(number: T) -> i64
where
    i64: TryFrom<T>,
{
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A length of time in microseconds. A longer one becomes the type's largest.
pub(super) fn micros(duration: Duration) -> i64 {
    stored(duration.as_micros())
}

/// The moment `age` ago.
pub(super) fn before(now: Timestamp, age: Duration) -> i64 {
    now.timestamp_micros().saturating_sub(micros(age))
}
