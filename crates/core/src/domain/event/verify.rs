//! What a walk along the chain finds: events that were changed, removed, added or moved, a log that
//! was cut off or written anew.

use std::collections::BTreeMap;
use std::fmt;

use chrono::TimeDelta;
use uuid::Uuid;

use super::chain::{Hash, LinkedEvent, linked};
use super::head::Head;
use super::kind::OwnType;
use super::places::Places;
use super::{Event, OWN_SOURCE, SUCCESS};
use crate::domain::Timestamp;

/// How long an instance that serves may take to sign a head.
const SIGNED_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The event says something else than when it was linked.
    Changed { sequence: u64, id: Uuid },
    /// The event does not follow the one before it.
    Unbound { sequence: u64, id: Uuid },
    /// Events are missing.
    Missing { from: u64, to: u64 },
    /// Events were emptied, and no erasure and no purge after them says so.
    Emptied { from: u64, to: u64 },
    /// The log ends before a place that it had.
    CutOff { last: u64, expected: u64 },
    /// The log says that it ends elsewhere.
    OtherEnd { last: u64, told: u64 },
    /// A head was signed when the log was another one.
    HeadDiffers { sequence: u64, signed_at: Timestamp },
    /// The log says that its beginning was purged, and no signed head and event say so.
    CutUnproven { sequence: u64 },
    /// There are events, and none of the signed heads that were given is of them.
    NoHead,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    pub findings: Vec<Finding>,
    pub events: u64,
    /// Of these, the ones that an erasure says it emptied.
    pub erased: u64,
    /// Of these, the ones that a purge says it emptied.
    pub purged: u64,
    /// Heads that were found to be of this log.
    pub heads: u64,
    /// The place of the last head that is.
    pub signed: Option<u64>,
    /// What recoveries say that they cut off: where the log went on from, and when.
    pub recoveries: Vec<(u64, Timestamp)>,
}

/// Walks along the log, from its first event to its last.
#[derive(Debug)]
pub struct Verifier {
    cut_sequence: u64,
    heads: BTreeMap<u64, Vec<Head>>,
    last: (u64, Hash),
    /// Emptied, and not yet named by the event of an erasure or of a purge. That is one of those after
    /// them, since both come in one transaction.
    emptied: Places,
    cut_told: bool,
    /// Of the first event that is not cut off.
    first_at: Option<Timestamp>,
    found: Verified,
}

impl Verifier {
    /// Begins after the event up to which the log says that it was cut off. `heads`, whose signatures
    /// fit, need not be in order.
    #[must_use]
    pub fn new(cut: (u64, Hash), heads: impl IntoIterator<Item = Head>) -> Self {
        let (cut_sequence, cut_hash) = cut;
        let mut by_place: BTreeMap<u64, Vec<Head>> = BTreeMap::new();
        // Heads of what was purged tell nothing any more.
        for head in heads.into_iter().filter(|head| head.sequence >= cut_sequence) {
            let same = by_place.entry(head.sequence).or_default();
            if same.iter().all(|known| known.hash != head.hash) {
                same.push(head);
            }
        }
        let mut verifier = Self {
            cut_sequence,
            heads: by_place,
            last: cut,
            emptied: Places::default(),
            cut_told: cut_sequence == 0,
            first_at: None,
            found: Verified::default(),
        };
        if cut_sequence > 0 && !verifier.compare_heads(cut_sequence, &cut_hash) {
            verifier.tell(Finding::CutUnproven { sequence: cut_sequence });
        }
        verifier
    }

    fn tell(&mut self, finding: Finding) {
        self.found.findings.push(finding);
    }

    /// Takes the next event, in the order of their places.
    pub fn event(&mut self, linked_event: &LinkedEvent) {
        let LinkedEvent { event, salt, commitment, hash } = linked_event;
        let (sequence, id) = (event.sequence, event.id);
        // The purge has not come to it yet.
        if sequence <= self.cut_sequence {
            return;
        }
        self.found.events += 1;
        self.first_at.get_or_insert(event.at);
        let (before, previous) = self.last;
        if sequence != before + 1 {
            if self.leaps(event) {
                self.found.recoveries.push((before, event.at));
            } else {
                self.tell(Finding::Missing { from: before + 1, to: sequence - 1 });
            }
        }
        match salt {
            Some(_) if !linked_event.is_as_linked() => {
                self.tell(Finding::Changed { sequence, id });
            }
            Some(_) => self.learn(event),
            None if !is_empty(event) => self.tell(Finding::Changed { sequence, id }),
            None => self.emptied.add(sequence),
        }
        if linked(&previous, commitment).as_slice() != hash.as_slice() {
            self.tell(Finding::Unbound { sequence, id });
        }
        // What follows is compared with what is there, so that one finding makes no others.
        let hash: Hash = hash.as_slice().try_into().unwrap_or_default();
        self.compare_heads(sequence, &hash);
        self.last = (sequence, hash);
    }

    /// Whether it is the event of a recovery that goes on from the event before.
    fn leaps(&self, event: &Event) -> bool {
        let (before, hash) = self.last;
        let data = event.data.to_value();
        event.sequence > before
            && event.kind == OwnType::DatabaseRecovered.as_str()
            && data.pointer("/head/sequence").and_then(serde_json::Value::as_u64) == Some(before)
            && data.pointer("/head/hash").and_then(serde_json::Value::as_str)
                == Some(&base16ct::lower::encode_string(&hash))
    }

    /// What an event says of others.
    fn learn(&mut self, event: &Event) {
        if event.kind == OwnType::DidErased.as_str() {
            let data = event.data.to_value();
            let places = data.get("erased").and_then(serde_json::Value::as_array);
            let places = places.into_iter().flatten().filter_map(serde_json::Value::as_u64);
            let named = places.map(|place| self.emptied.remove(place, place));
            self.found.erased += named.sum::<u64>();
        }
        if event.kind == OwnType::EventsPurged.as_str() {
            let mut data = event.data.to_value();
            let runs = data.get_mut("purged").map(serde_json::Value::take).unwrap_or_default();
            let runs: Vec<(u64, u64)> = serde_json::from_value(runs).unwrap_or_default();
            let named = runs.into_iter().map(|(from, to)| self.emptied.remove(from, to));
            self.found.purged += named.sum::<u64>();
        }
        if event.kind == OwnType::LogCut.as_str() {
            let data = event.data.to_value();
            let place = data.get("sequence").and_then(serde_json::Value::as_u64);
            self.cut_told |= place == Some(self.cut_sequence);
        }
    }

    /// Whether a head was signed of this place, and all say the same hash.
    fn compare_heads(&mut self, sequence: u64, hash: &Hash) -> bool {
        let heads = self.heads.remove(&sequence).unwrap_or_default();
        for head in &heads {
            if head.hash == *hash {
                self.found.heads += 1;
                self.found.signed = Some(sequence);
            } else {
                let signed_at = head.at;
                self.tell(Finding::HeadDiffers { sequence, signed_at });
            }
        }
        heads.iter().any(|head| head.hash == *hash)
    }

    /// The place of the last event that was taken.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last.0
    }

    /// Says what was found, once there are no more events. `end` is where the log says that it ends,
    /// and `now` the database's clock.
    #[must_use]
    pub fn finish(mut self, end: (u64, Hash), now: Timestamp) -> Verified {
        let (last, hash) = self.last;
        let furthest = self.heads.keys().next_back().copied().unwrap_or(0);
        let expected = furthest.max(end.0);
        if expected > last {
            self.tell(Finding::CutOff { last, expected });
        } else if end != (last, hash) {
            self.tell(Finding::OtherEnd { last, told: end.0 });
        }
        let emptied = std::mem::take(&mut self.emptied);
        for (from, to) in emptied.runs() {
            self.tell(Finding::Emptied { from, to });
        }
        let cut = Finding::CutUnproven { sequence: self.cut_sequence };
        if !self.cut_told && !self.found.findings.contains(&cut) {
            self.tell(cut);
        }
        let is_old = self.first_at.is_some_and(|first| now - first > SIGNED_WITHIN);
        if is_old && self.found.heads == 0 && self.found.findings.is_empty() {
            self.tell(Finding::NoHead);
        }
        self.found
    }
}

fn is_empty(event: &Event) -> bool {
    let Event { kind, source, subject, actor, outcome, request_id, data, .. } = event;
    kind == OwnType::Erased.as_str()
        && source == OWN_SOURCE
        && subject.is_none()
        && actor.is_none()
        && outcome == SUCCESS
        && request_id.is_none()
        && data.as_str() == "{}"
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { sequence, id } => write!(
                f,
                "event {sequence} ({id}) was changed: it does not say what it said when it was linked"
            ),
            Self::Unbound { sequence, id } => write!(
                f,
                "event {sequence} ({id}) does not follow the one before it: one of them was \
                 replaced, inserted or moved"
            ),
            Self::Missing { from, to } if from == to => write!(f, "event {from} was removed"),
            Self::Missing { from, to } => write!(f, "events {from} to {to} were removed"),
            Self::Emptied { from, to } if from == to => {
                write!(f, "event {from} was emptied, and no erasure and no purge says so")
            }
            Self::Emptied { from, to } => {
                write!(f, "events {from} to {to} were emptied, and no erasure and no purge says so")
            }
            Self::CutOff { last, expected } => write!(
                f,
                "the log was cut off: it ends at event {last}, and it had event {expected}"
            ),
            Self::OtherEnd { last, told } => write!(
                f,
                "the log ends at event {last}, and the row that says where it ends has another hash \
                 or place ({told}): one of them was changed"
            ),
            Self::HeadDiffers { sequence, signed_at } => write!(
                f,
                "the log was written anew: up to event {sequence}, it is another one than at {}, \
                 when its head was signed",
                signed_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
            ),
            Self::CutUnproven { sequence } => write!(
                f,
                "the beginning of the log was removed up to event {sequence}, and no purge did that \
                 under a signed head"
            ),
            Self::NoHead => f.write_str(
                "no signed head is of these events: heads are signed each minute by an instance \
                 that serves, so they were removed, or none has served yet",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
