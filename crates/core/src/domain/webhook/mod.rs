//! Webhooks: endpoints that events are sent to, and what becomes of each event there.

/// Gives a closed set of words an enum, and reads them back.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$of])* $variant,)+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
        }
    };
}

mod key;
mod retry;

use uuid::Uuid;

use super::{CallersType, Event, OwnType, Timestamp, rfc3339};

pub use key::{WebhookKey, WebhookSecret, WebhookSignature};
pub use retry::{MAX_ATTEMPTS, MAX_RETRY_AFTER_SECONDS, retry_after};

/// The most webhooks of a database.
pub const MAX_WEBHOOKS: u32 = 100;
/// The most types that one webhook names.
pub const MAX_WEBHOOK_TYPES: usize = 100;
/// What stands for every type.
const ALL: &str = "*";

words! {
    /// Whether a webhook is given events.
    WebhookState {
        Active = "active",
        /// By a caller, or since its database was recovered. Events wait for it.
        Paused = "paused",
        /// It said that it is gone. Events wait for it.
        Disabled = "disabled",
    }
}

words! {
    /// What became of an event at a webhook.
    DeliveryState {
        Pending = "pending",
        Delivered = "delivered",
        /// Given up.
        Dead = "dead",
    }
}

/// A type that a webhook hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardType(String);

/// Why a text is no type that a webhook can hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be `*`, a type of callers (1 to 255 letters, digits, dots, hyphens and underscores), or a \
     type of the service's own, such as onceguard.did.revoked"
)]
pub struct InvalidHeardType;

impl HeardType {
    /// # Errors
    /// [`InvalidHeardType`] when no event can ever have this type.
    pub fn parse(text: &str) -> Result<Self, InvalidHeardType> {
        let is_own = OwnType::ALL.iter().any(|own| own.as_str() == text);
        if text == ALL || is_own || CallersType::parse(text).is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidHeardType)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether one of these types is that of an event. What was erased is heard by none.
#[must_use]
pub fn hears<T: AsRef<str>>(types: &[T], kind: &str) -> bool {
    kind != OwnType::Erased.as_str()
        && types.iter().any(|heard| heard.as_ref() == ALL || heard.as_ref() == kind)
}

/// An endpoint that events are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub id: Uuid,
    /// The configuration's; `None` if a caller made it.
    pub name: Option<String>,
    pub url: String,
    pub types: Vec<String>,
    pub signature: WebhookSignature,
    pub state: WebhookState,
    /// Why it is not active, where no caller paused it.
    pub reason: Option<String>,
    pub created_at: Timestamp,
}

/// An event at a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub event: Uuid,
    pub sequence: u64,
    pub state: DeliveryState,
    pub attempts: u32,
    pub next_attempt_at: Option<Timestamp>,
    pub created_at: Timestamp,
    /// Of the last attempt.
    pub attempted_at: Option<Timestamp>,
    pub status: Option<u16>,
    pub error: Option<String>,
}

/// The body that a receiver gets, as Standard Webhooks has it.
#[must_use]
pub fn webhook_body(event: &Event) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        r#type: &'a str,
        timestamp: String,
        data: Attributes<'a>,
    }
    #[derive(serde::Serialize)]
    struct Attributes<'a> {
        id: String,
        sequence: u64,
        source: &'a str,
        subject: Option<&'a str>,
        actor: Option<&'a str>,
        outcome: &'a str,
        request_id: Option<&'a str>,
        data: &'a super::EventData,
    }
    let body = Body {
        r#type: &event.kind,
        timestamp: rfc3339(event.at),
        data: Attributes {
            id: event.id.to_string(),
            sequence: event.sequence,
            source: &event.source,
            subject: event.subject.as_deref(),
            actor: event.actor.as_deref(),
            outcome: &event.outcome,
            request_id: event.request_id.as_deref(),
            data: &event.data,
        },
    };
    // Texts, numbers and JSON that was read before can be written.
    serde_json::to_vec(&body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::EventData;

    #[test]
    fn a_webhook_hears_types_that_events_can_have() {
        for fit in ["*", "onceguard.did.revoked", "com.example.order.paid"] {
            assert_eq!(HeardType::parse(fit).unwrap().as_str(), fit);
        }
        for other in ["", "**", "com.example.*", "onceguard.did.revokd", "a b"] {
            assert_eq!(HeardType::parse(other), Err(InvalidHeardType), "{other:?}");
        }
        assert!(hears(&["*"], "a") && hears(&["b", "a"], "a") && !hears(&["b"], "a"));
        assert!(!hears(&["*", "onceguard.erased"], "onceguard.erased"));
    }

    #[test]
    fn words_read_back() {
        for state in WebhookState::ALL {
            assert_eq!(WebhookState::parse(state.as_str()), Some(*state));
        }
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::parse(state.as_str()), Some(*state));
        }
        assert_eq!(DeliveryState::parse("active"), None);
    }

    #[test]
    fn a_body_has_the_events_attributes_and_its_data_as_it_was_sent() {
        let event = Event {
            id: Uuid::nil(),
            sequence: 7,
            kind: "com.example.paid".to_owned(),
            source: "token:1".to_owned(),
            subject: Some("order 7".to_owned()),
            actor: None,
            outcome: "success".to_owned(),
            request_id: None,
            at: DateTime::from_timestamp_micros(1_767_323_045_000_001).unwrap(),
            data: EventData::kept(r#"{"a":123456789012345678901}"#.to_owned()),
        };
        let body = String::from_utf8(webhook_body(&event)).unwrap();
        assert_eq!(
            body,
            r#"{"type":"com.example.paid","timestamp":"2026-01-02T03:04:05.000001Z","data":{"#
                .to_owned()
                + r#""id":"00000000-0000-0000-0000-000000000000","sequence":7,"source":"token:1","#
                + r#""subject":"order 7","actor":null,"outcome":"success","request_id":null,"#
                + r#""data":{"a":123456789012345678901}}}"#
        );
    }
}
