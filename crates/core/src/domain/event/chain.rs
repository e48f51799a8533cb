//! The chain: how each event of the log is bound to all before it.
//!
//! An event's commitment is a salted hash of everything that it says, its place included. Its hash
//! is made of the hash of the event before it and its commitment. So an event that is changed,
//! removed, added or moved shows, and an event that is erased leaves its commitment, from which
//! nothing can be guessed once the salt is gone.

use sha2::{Digest, Sha256};

use super::Event;
use crate::domain::Timestamp;

/// A SHA-256.
pub type Hash = [u8; 32];

/// The hash before the first event.
pub const NO_HASH: Hash = [0; 32];

/// How far a recovery leaps ahead where the clock does not say.
const LEAP: u64 = 1 << 40;

/// An erasure names the places of the events that it empties, so many to an event.
pub const ERASED_BATCH: usize = 500;

/// The purge empties so many events at a time at most: their places, as runs, fit into one event, also
/// if no two of them are side by side.
pub const PURGED_BATCH: u32 = 350;

/// What the linking of an event adds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub sequence: u64,
    pub salt: [u8; 16],
    pub commitment: Hash,
    pub hash: Hash,
}

/// An event and what binds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedEvent {
    pub event: Event,
    /// `None` once the event is emptied.
    pub salt: Option<Vec<u8>>,
    pub commitment: Vec<u8>,
    pub hash: Vec<u8>,
}

impl LinkedEvent {
    /// Whether the event says what it said when it was linked. Of one that is emptied, nothing can
    /// tell.
    #[must_use]
    pub fn is_as_linked(&self) -> bool {
        let made = self.salt.as_ref().map(|salt| commitment(salt, &self.event));
        made.is_some_and(|made| made.as_slice() == self.commitment.as_slice())
    }
}

/// The place after which a log goes on that lost its end after this place: past every place that was
/// given since, so that none is given twice, also where one copy is restored several times. The time
/// in microseconds is that, as long as no log grows by a million events a second.
#[must_use]
pub fn leap(last: u64, now: Timestamp) -> u64 {
    let now = u64::try_from(now.timestamp_micros()).unwrap_or(0);
    if now > last { now } else { last + LEAP }
}

/// Links an event, whose `sequence` is set, to the one before.
#[must_use]
pub fn link(previous: &Hash, salt: [u8; 16], event: &Event) -> Link {
    let commitment = commitment(&salt, event);
    Link { sequence: event.sequence, salt, commitment, hash: linked(previous, &commitment) }
}

/// The hash of an event with this commitment after one with this hash.
pub(super) fn linked(previous: &[u8], commitment: &[u8]) -> Hash {
    Sha256::new().chain_update(previous).chain_update(commitment).finalize().into()
}

/// Each part with its length in front, so that no two different events read the same.
#[must_use]
fn commitment(salt: &[u8], event: &Event) -> Hash {
    let Event { id, sequence, kind, source, subject, actor, outcome, request_id, at, data } = event;
    let mut hash = Sha256::new();
    let mut part = |bytes: Option<&[u8]>| {
        // No part is as long as that.
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        hash.update(length.to_be_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    part(Some(salt));
    part(Some(&sequence.to_be_bytes()));
    part(Some(id.as_bytes()));
    part(Some(kind.as_bytes()));
    part(Some(source.as_bytes()));
    part(subject.as_deref().map(str::as_bytes));
    part(actor.as_deref().map(str::as_bytes));
    part(Some(outcome.as_bytes()));
    part(request_id.as_deref().map(str::as_bytes));
    part(Some(&at.timestamp_micros().to_be_bytes()));
    part(Some(data.as_str().as_bytes()));
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::EventData;

    fn event() -> Event {
        Event {
            id: Uuid::from_u128(1),
            sequence: 7,
            kind: "a.b".into(),
            source: "s".into(),
            subject: Some("on".into()),
            actor: Some("by".into()),
            outcome: "success".into(),
            request_id: None,
            at: Timestamp::from_timestamp_micros(5).unwrap(),
            data: EventData::kept(r#"{"a":1}"#.into()),
        }
    }

    #[test]
    fn every_part_of_an_event_counts_and_so_does_its_place() {
        let (salt, whole) = ([1; 16], event());
        let one = commitment(&salt, &whole);
        assert_eq!(one, commitment(&salt, &whole.clone()));
        let changes: [fn(&mut Event); 13] = [
            |e| e.id = Uuid::from_u128(2),
            |e| e.sequence = 8,
            |e| e.kind = "a.c".into(),
            |e| e.source = "t".into(),
            |e| e.subject = None,
            |e| e.subject = Some(String::new()),
            |e| e.actor = None,
            |e| (e.subject, e.actor) = (Some("onb".into()), Some("y".into())),
            |e| e.outcome = "failure".into(),
            |e| e.request_id = Some(String::new()),
            |e| e.request_id = Some("r".into()),
            |e| e.at = Timestamp::from_timestamp_micros(6).unwrap(),
            |e| e.data = EventData::kept(r#"{"a":2}"#.into()),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut other = event();
            change(&mut other);
            assert_ne!(commitment(&salt, &other), one, "change {index}");
        }
        assert_ne!(commitment(&[2; 16], &whole), one);
    }

    #[test]
    fn a_link_depends_on_all_before() {
        let first = link(&NO_HASH, [1; 16], &event());
        let second = link(&first.hash, [1; 16], &event());
        assert_eq!(first.commitment, second.commitment);
        assert_ne!(first.hash, second.hash);
        assert_eq!(second.hash, linked(&first.hash, &first.commitment));
    }
}
