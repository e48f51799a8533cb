//! What the purge does, step by step, and what it tells of it.

use std::time::Duration;

use serde_json::json;

use super::{Result, Store, on};
use crate::domain::{Actor, Cursor, NewEvent, OwnType};

/// What one batch of the purge ended or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    pub sessions_expired: u64,
    pub sessions_idle: u64,
    pub sessions_deleted: u64,
    pub session_nonces_deleted: u64,
    pub signer_nonces_deleted: u64,
    pub events_deleted: u64,
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
