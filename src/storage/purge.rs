//! What the purge does, step by step, and what it tells of it.

use std::time::Duration;

use serde_json::json;

use super::{Result, Store, on};
use crate::domain::{Actor, Cursor, LinkedEvent, NewEvent, OwnType, Places};

/// What one batch of the purge ended or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    pub sessions_expired: u64,
    pub sessions_idle: u64,
    pub sessions_deleted: u64,
    pub session_nonces_deleted: u64,
    pub signer_nonces_deleted: u64,
    pub events_deleted: u64,
    pub events_emptied: u64,
    pub dids_deleted: u64,
    pub records_expired: u64,
    pub tombstones_deleted: u64,
    pub erased_rows_deleted: u64,
    pub publications_forgotten: u64,
    pub deliveries_deleted: u64,
}

impl Purged {
    /// How many rows that is.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.sessions_expired
            + self.sessions_idle
            + self.sessions_deleted
            + self.session_nonces_deleted
            + self.signer_nonces_deleted
            + self.events_deleted
            + self.events_emptied
            + self.dids_deleted
            + self.records_expired
            + self.tombstones_deleted
            + self.erased_rows_deleted
            + self.publications_forgotten
            + self.deliveries_deleted
    }
}

impl std::ops::AddAssign for Purged {
    fn add_assign(&mut self, more: Self) {
        self.sessions_expired += more.sessions_expired;
        self.sessions_idle += more.sessions_idle;
        self.sessions_deleted += more.sessions_deleted;
        self.session_nonces_deleted += more.session_nonces_deleted;
        self.signer_nonces_deleted += more.signer_nonces_deleted;
        self.events_deleted += more.events_deleted;
        self.events_emptied += more.events_emptied;
        self.dids_deleted += more.dids_deleted;
        self.records_expired += more.records_expired;
        self.tombstones_deleted += more.tombstones_deleted;
        self.erased_rows_deleted += more.erased_rows_deleted;
        self.publications_forgotten += more.publications_forgotten;
        self.deliveries_deleted += more.deliveries_deleted;
    }
}

/// What one batch did, and where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeBatch {
    pub purged: Purged,
    /// `None` when the step is done. What comes to be purged meanwhile is left to the next run: on a
    /// busy instance that never ends.
    pub next: Option<Cursor>,
}

impl PurgeBatch {
    /// Of a step that looks for what to purge by an index: when a batch is not full, it is done.
    pub(super) fn of_index(purged: Purged, limit: u32) -> Self {
        let is_full = purged.rows() >= u64::from(limit);
        Self { purged, next: is_full.then(Cursor::default) }
    }
}

/// One step of the purge, done in bounded batches, each in a transaction of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurgeStep {
    /// Records the end of sessions that expired or idled, and wipes their keys.
    EndOverdueSessions,
    /// Deletes sessions that ended longer ago than `retention`, with their nonces; a session
    /// with more nonces than the batch allows is emptied in several batches first.
    DeleteEndedSessions { retention: Duration },
    /// Deletes signers' nonces that expired longer ago than `margin`, and lowers the signers'
    /// counters by what it deleted.
    DeleteSignerNonces { margin: Duration },
    /// Cuts the log: deletes its events older than `retention`, up to a signed head that is as old.
    /// That head stays, and so do all events after it, and events younger than `undelivered` that a
    /// webhook is still to be sent.
    DeleteEvents { retention: Duration, undelivered: Duration },
    /// Empties events of callers older than `retention`: what they said goes, their places and what
    /// binds them stay. Those stay whole that a webhook hears and is still to be sent, or that it can be
    /// sent again because it was never delivered, until either is older than `undelivered`.
    EmptyEvents { retention: Duration, undelivered: Duration },
    /// Deletes DIDs that a resolver read, are not revoked, and were not read for `unused`.
    DeleteUnusedDids { unused: Duration },
    /// Replaces records that expired by tombstones.
    ExpireRecords,
    /// Deletes tombstones of records that are older than `retention`.
    DeleteTombstones { retention: Duration },
    /// Deletes what is left of erased records.
    DeleteErasedRecords,
    /// Forgets calls that published events longer ago than `kept`: their repeats would publish again.
    ForgetPublications { kept: Duration },
    /// Deletes what webhooks were given longer ago than `delivered`, or, if it was not delivered, than
    /// `undelivered`.
    DeleteDeliveries { delivered: Duration, undelivered: Duration },
}

/// Says that the beginning of the log is cut off, and at which signed head.
pub(super) fn log_cut(sequence: i64, hash: &[u8]) -> NewEvent {
    let data = json!({ "sequence": sequence, "hash": base16ct::lower::encode_string(hash) });
    NewEvent::own(OwnType::LogCut, Actor::Job("purge"), "log", &data)
}

/// Says which events were emptied, so that one which was emptied by another hand shows.
pub(super) fn events_purged(places: &Places) -> NewEvent {
    let runs: Vec<_> = places.runs().collect();
    let count: u64 = runs.iter().map(|(first, last)| last - first + 1).sum();
    let data = json!({ "purged": runs, "count": count });
    NewEvent::own(OwnType::EventsPurged, Actor::Job("purge"), "log", &data)
}

/// The places, in order, of the events that say what they said when they were linked. The others are
/// left as they are: emptied, none would tell that it was changed.
pub(super) fn as_linked(events: &[LinkedEvent]) -> Places {
    let (whole, changed): (Vec<_>, Vec<_>) =
        events.iter().partition(|linked| linked.is_as_linked());
    if !changed.is_empty() {
        tracing::error!(
            events = changed.len(),
            "events of callers were changed by another hand, and stay; `onceguard audit verify` \
             names them"
        );
    }
    whole.into_iter().map(|linked| linked.event.sequence).collect()
}

/// How far the walk along the old events of callers has come: an event's time, in microseconds, and its
/// place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct OldPlace {
    pub(super) at: i64,
    pub(super) sequence: i64,
}

impl OldPlace {
    /// The beginning, before all events, where the cursor says nothing.
    pub(super) fn of(cursor: &Cursor) -> Self {
        let position = cursor.position();
        let number = |bytes: &[u8]| bytes.try_into().map(i64::from_be_bytes).unwrap_or_default();
        let (at, sequence) = position.split_at_checked(8).unwrap_or_default();
        Self { at: number(at), sequence: number(sequence) }
    }

    pub(super) fn into_cursor(self) -> Cursor {
        Cursor::new([self.at.to_be_bytes(), self.sequence.to_be_bytes()].concat())
    }
}

/// The most events of callers that one read looks at.
pub(super) const LOOKED_AT: u32 = 500;

/// Events of callers that are past their retention: the places of those to empty, and how far the walk
/// came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OldEvents {
    pub(super) due: Vec<i64>,
    /// `None` when there are no more.
    pub(super) next: Option<Cursor>,
}

impl OldEvents {
    /// Up to `limit` of the next [`LOOKED_AT`] events, each with whether a webhook still needs it.
    pub(super) fn of(events: &[(OldPlace, bool)], limit: u32) -> Self {
        let (limit, most) = (limit as usize, LOOKED_AT as usize);
        let mut due = Vec::new();
        for (number, (place, needed)) in events.iter().enumerate() {
            if !needed {
                due.push(place.sequence);
            }
            if due.len() == limit || number + 1 == most {
                return Self { due, next: Some(place.into_cursor()) };
            }
        }
        Self { due, next: None }
    }
}

impl Store {
    /// Runs one batch of at most `limit` rows, from `from` on: the beginning, or where the batch
    /// before says. A batch that found nothing to do returns zeros.
    pub async fn purge(&self, step: PurgeStep, from: &Cursor, limit: u32) -> Result<PurgeBatch> {
        on!(self, store => store.purge(step, from, limit).await)
    }

    /// What [`Self::purge`] would end or remove now, over all steps.
    pub async fn purge_preview(&self, steps: &[PurgeStep]) -> Result<Purged> {
        on!(self, store => store.purge_preview(steps).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::PURGED_BATCH;

    #[test]
    fn a_purge_names_a_whole_batch_in_one_event() {
        let last = u64::try_from(i64::MAX).unwrap();
        let apart: Places = (0..u64::from(PURGED_BATCH)).map(|n| last - 1_000 + 2 * n).collect();
        let data = events_purged(&apart).data.to_value();
        assert_eq!(data["count"], PURGED_BATCH);
        assert_eq!(data["purged"].as_array().unwrap().len(), PURGED_BATCH as usize);
        let beside: Places = (7..=9).collect();
        let data = events_purged(&beside).data.to_value();
        assert_eq!(data, json!({ "purged": [[7, 9]], "count": 3 }));
    }

    #[test]
    fn a_walk_goes_on_after_what_it_saw_last() {
        let place = |sequence| OldPlace { at: 5, sequence };
        let all: Vec<_> = (1..=500).map(|sequence| (place(sequence), sequence % 2 == 0)).collect();
        let after = |found: &OldEvents| found.next.as_ref().map(OldPlace::of);
        let full = OldEvents::of(&all, 3);
        assert_eq!((&full.due, after(&full)), (&vec![1, 3, 5], Some(place(5))));
        let needed = OldEvents::of(&all, 300);
        assert_eq!((needed.due.len(), after(&needed)), (250, Some(place(500))));
        let last = OldEvents::of(&all[..4], 3);
        assert_eq!((&last.due, after(&last)), (&vec![1, 3], None));
        assert_eq!(OldPlace::of(&Cursor::default()), OldPlace::default());
    }
}
