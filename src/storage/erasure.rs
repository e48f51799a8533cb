//! Erasure: everything that is kept about a DID goes, but for what keeps a message from being used
//! again: the digests of its nonces, until they expire, and its revocation.

use serde_json::json;

use super::{Result, Store, on};
use crate::domain::{Actor, Did, ERASED_BATCH, NewEvent, OwnType};
use crate::origin::Origin;

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Records, tombstones not included.
    pub records: u64,
    /// Events that named the DID, and are empty now.
    pub events: u64,
}

/// What stands in the place of an erased DID: a DID of no method in use, made of the first half of
/// its SHA-256.
pub(super) fn alias(did: &Did) -> String {
    format!("did:erased:{}", base16ct::lower::encode_string(&did.signer_key().0))
}

/// The events that stay: one, or a few where many were emptied. They name the places of those, so
/// that an event which was emptied by another hand shows.
pub(super) fn events(
    did: &Did,
    actor: &Actor,
    request_id: Option<&str>,
    emptied: &[u64],
) -> Vec<NewEvent> {
    let alias = alias(did);
    let actor = match actor {
        Actor::Agent(agent) if agent == did => {
            Did::parse(&alias).map_or(Actor::Operator, Actor::Agent)
        }
        other => other.clone(),
    };
    let mut parts: Vec<_> = emptied.chunks(ERASED_BATCH).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let event = |places: &[u64]| {
        let data = json!({ "erased": places });
        let event = NewEvent::own(OwnType::DidErased, actor.clone(), &alias, &data);
        event.asked_by(request_id.map(str::to_owned))
    };
    parts.into_iter().map(event).collect()
}

/// Whether a text names this DID, and not only one that begins with it.
pub(super) fn names(text: &str, did: &Did) -> bool {
    let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || b".:_%-".contains(byte);
    text.match_indices(did.as_str()).any(|(at, name)| {
        let after = text.as_bytes().get(at + name.len());
        !after.is_some_and(goes_on)
    })
}

impl Store {
    /// Ends up to `limit` sessions of a DID, and takes from them its name, the key, the metadata and
    /// where they came from; id, end and deadline stay. Fewer than `limit` means that none is left.
    pub async fn erase_sessions(&self, did: &Did, limit: u32) -> Result<u64> {
        on!(self, store => store.erase_sessions(did, limit).await)
    }

    /// Erases everything else: the key, the records (which [`Self::remove_erased_records`] then
    /// removes), and the content of every event that names the DID. One event stays.
    pub async fn erase_did(&self, did: &Did, actor: &Actor) -> Result<Erased> {
        let request_id = Origin::current().request_id();
        on!(self, store => store.erase_did(did, actor, request_id).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_did_is_not_one_that_it_begins() {
        let did = Did::parse("did:web:a.example").unwrap();
        for named in ["did:web:a.example", r#"{"x":"did:web:a.example"}"#, "did:web:a.example b"] {
            assert!(names(named, &did), "{named}");
        }
        for other in ["did:web:a.example:b", "did:web:a.example.org", "did:web:b", ""] {
            assert!(!names(other, &did), "{other}");
        }
        assert!(names("did:web:a.example:b did:web:a.example", &did));
    }

    #[test]
    fn an_erasure_names_what_it_emptied_in_events_of_their_size() {
        let did = Did::parse("did:web:a.example").unwrap();
        let places: Vec<u64> = (0..1001).map(|n| (1 << 45) + n).collect();
        let written = events(&did, &Actor::Operator, Some("r"), &places);
        let named = written.iter().flat_map(|event| {
            let data = event.data.to_value();
            data["erased"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(serde_json::Value::as_u64)
                .collect::<Vec<_>>()
        });
        assert_eq!((named.collect::<Vec<_>>(), written.len()), (places, 3));
        assert_eq!(events(&did, &Actor::Operator, None, &[]).len(), 1);
        assert_eq!(written[2].request_id.as_deref(), Some("r"));
    }
}
