//! Events: what happened, in one log that is audit trail and outbox. The service records what
//! changes trust, and callers publish what they like.
//!
//! Attributes are named as by CloudEvents 1.0.

mod actor;
mod chain;
mod head;
mod kind;
mod places;
mod verify;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{InvalidMetadata, Metadata, Timestamp};

pub use actor::Actor;
pub use chain::{ERASED_BATCH, Hash, Link, LinkedEvent, NO_HASH, PURGED_BATCH, leap, link};
pub use head::{Head, HeadKey, InvalidHead, SignedHead};
pub use kind::{CallersType, EventType, InvalidType, OWN_PREFIX, OwnType};
pub use places::Places;
pub use verify::{Finding, Verified as VerifiedLog, Verifier as LogVerifier};

/// The source of the service's own events.
pub const OWN_SOURCE: &str = "onceguard";
/// The longest subject, in bytes: two DIDs and a space.
pub const MAX_SUBJECT: usize = 2 * 1024 + 1;
/// The outcome of what was done.
pub const SUCCESS: &str = "success";

/// An event that is to be written: in the transaction of the change that it records, if it records
/// one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub kind: EventType,
    pub actor: Actor,
    /// What it is about: a session id, a DID, a token id.
    pub subject: String,
    /// `success`, or the code of a refusal.
    pub outcome: &'static str,
    /// Of the call that it comes from.
    pub request_id: Option<String>,
    /// An object without secrets.
    pub data: EventData,
}

/// What an event says beside its attributes: a JSON object, in the one form that both databases keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventData(Metadata);

/// Why something is no event of a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    #[error("type {0}")]
    Type(#[from] InvalidType),
    #[error("subject must be 1 to {MAX_SUBJECT} bytes without control characters")]
    Subject,
}

/// An event as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub id: Uuid,
    /// Its place in the log.
    pub sequence: u64,
    pub kind: String,
    pub source: String,
    /// `None` once it is emptied, as the actor.
    pub subject: Option<String>,
    pub actor: Option<String>,
    pub outcome: String,
    pub request_id: Option<String>,
    pub at: Timestamp,
    pub data: EventData,
}

/// Which events: those that have all of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    pub kind: Option<String>,
    pub subject: Option<String>,
    pub actor: Option<String>,
    pub outcome: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

impl NewEvent {
    /// An event of the service itself, of an act that was done. `data` is an object.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "ids and texts, as they come")]
    pub fn own(kind: OwnType, actor: Actor, subject: impl ToString, data: &Value) -> Self {
        Self {
            kind: kind.into(),
            actor,
            subject: subject.to_string(),
            outcome: SUCCESS,
            request_id: None,
            data: EventData::own(data),
        }
    }

    /// An event of a caller.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_caller(
        kind: &str,
        actor: Actor,
        subject: &str,
        data: EventData,
    ) -> Result<Self, InvalidEvent> {
        let kind = EventType::Callers(CallersType::parse(kind)?);
        let subject = Self::subject(subject)?;
        Ok(Self { kind, actor, subject, outcome: SUCCESS, request_id: None, data })
    }

    /// What an event of a caller may be about.
    ///
    /// # Errors
    /// [`InvalidEvent::Subject`] when the text is not that.
    pub fn subject(text: &str) -> Result<String, InvalidEvent> {
        let fits = (1..=MAX_SUBJECT).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits { Ok(text.to_owned()) } else { Err(InvalidEvent::Subject) }
    }

    /// With the id of the call that it comes from, if there is one.
    #[must_use]
    pub fn asked_by(self, request_id: Option<String>) -> Self {
        Self { request_id, ..self }
    }

    /// Who says it, as a reference (RFC 3986).
    #[must_use]
    pub fn source(&self) -> String {
        match (&self.kind, &self.actor) {
            (EventType::Own(_), _) => OWN_SOURCE.to_owned(),
            (_, Actor::Token { id, .. }) => format!("token:{id}"),
            (_, Actor::Agent(did)) => did.to_string(),
            (_, actor) => actor.to_string(),
        }
    }
}

impl EventData {
    /// The most bytes, in the one form.
    pub const MAX_LEN: usize = Metadata::MAX_LEN;

    /// # Errors
    /// Everything that is wrong with the text.
    pub fn parse(text: &RawValue) -> Result<Self, Vec<InvalidMetadata>> {
        Metadata::parse(text).map(Self)
    }

    /// What a database kept. It is brought into the one form, should it have another.
    #[must_use]
    pub fn kept(text: String) -> Self {
        let raw: Result<&RawValue, _> = serde_json::from_str(&text);
        match raw.map(Metadata::parse) {
            Ok(Ok(data)) => Self(data),
            _ => Self(Metadata::kept(text)),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// As a tree.
    #[must_use]
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }

    /// Adds what only a store knows.
    pub fn add(&mut self, name: &str, value: Value) {
        let mut members: Map<String, Value> =
            serde_json::from_str(self.as_str()).unwrap_or_default();
        members.insert(name.to_owned(), value);
        *self = Self::own(&Value::Object(members));
    }

    /// The service's own events are small. One that is not says so: no change fails for its event.
    fn own(value: &Value) -> Self {
        let parsed = to_raw_value(value).ok().and_then(|raw| Self::parse(&raw).ok());
        parsed.unwrap_or_else(|| Self(Metadata::kept(r#"{"left_out":true}"#.to_owned())))
    }
}

impl serde::Serialize for EventData {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(text: &str) -> Result<EventData, Vec<InvalidMetadata>> {
        EventData::parse(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn data_has_one_form_and_a_size() {
        let one = data(r#"{"bb": 1e2, "a": [1.50, null]}"#).unwrap();
        assert_eq!(one, EventData::kept(r#"{"a": [1.50, null], "bb": 100}"#.to_owned()));
        let of = |len: usize| data(&json!({ "a": "x".repeat(len - 8) }).to_string());
        assert!(of(EventData::MAX_LEN).is_ok() && of(EventData::MAX_LEN + 1).is_err());
        assert!(data("[]").is_err());
    }

    #[test]
    fn a_store_adds_what_it_knows() {
        let mut event = NewEvent::own(OwnType::SessionsEnded, Actor::Operator, "x", &json!({}));
        event.data.add("sessions", 7.into());
        assert_eq!(event.data.to_value(), json!({ "sessions": 7 }));
        event.data.add("much", "x".repeat(EventData::MAX_LEN).into());
        assert_eq!(event.data.to_value(), json!({ "left_out": true }));
    }

    #[test]
    fn an_event_of_a_caller_is_of_its_type_and_its_source() {
        let actor = || Actor::Token { id: Uuid::nil(), name: "a b".to_owned() };
        let of =
            |kind, subject: &str| NewEvent::of_caller(kind, actor(), subject, EventData::default());
        let event = of("example.paid", "order 7").unwrap();
        assert_eq!(event.source(), "token:00000000-0000-0000-0000-000000000000");
        assert_eq!(of("onceguard.x", "a"), Err(InvalidEvent::Type(InvalidType::Own)));
        for subject in ["", "a\nb", &"x".repeat(MAX_SUBJECT + 1)] {
            assert_eq!(of("example.paid", subject), Err(InvalidEvent::Subject));
        }
    }
}
