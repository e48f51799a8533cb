//! Recovery: makes a database safe to use that went back in time, as after a restored copy or a
//! fail-over that lost commits. What was accepted in the past that it lost is not accepted again.
//!
//! Each store has a `recover_in`, which does the work inside a transaction of the caller's, so that
//! a database can be filled and recovered in one commit.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::acts::{Act, Remembered};
use super::{Result, Store, on};
use crate::domain::{Actor, Did, Hash, NewEvent, OwnType, Timestamp, rfc3339};

/// Of what a recovery did again, its event tells so many. `recover` lists all.
const TOLD: usize = 50;

/// What a recovery needs to know that the database does not.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// How far a signer's clock may be ahead, by the configuration. The database knows the most
    /// that was ever allowed before the copy was made; the larger one counts.
    pub skew: Duration,
    /// This machine's clock. The database's may be behind.
    pub now: Timestamp,
    /// The latest time that an accepted message is known to state as its own. The database may know
    /// a later one.
    pub issued_until: Option<Timestamp>,
    /// Given if the database's clock was ahead, and is right now: the latest time that it is known to
    /// have shown. Times of then do not count as times, and messages that say when they were issued
    /// are told apart by that.
    pub clock_was_at: Option<Timestamp>,
    pub actor: Actor,
    /// Oldest first. What the database has forgotten of it is done again, before anything else.
    pub remembered: Vec<Remembered>,
}

/// What a recovery did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub generation: Uuid,
    /// The generation that the database had before.
    pub ancestor: Uuid,
    /// The database's clock.
    pub at: Timestamp,
    /// Nothing that was issued later was accepted before.
    pub not_before: Timestamp,
    /// What does not say when it was issued may be as late as this: the clock was ahead once.
    pub ahead_until: Option<Timestamp>,
    pub sessions_ended: u64,
    /// Cached DIDs that are to be read anew before they are used.
    pub dids_stale: u64,
    pub leases_released: u64,
    /// What was remembered, and the database had forgotten.
    pub done_again: Vec<Act>,
}

impl Recovered {
    /// Written with the recovery. `head` is where the log of the copy ended: what came after it is
    /// lost.
    pub(super) fn event(&self, actor: Actor, head: (u64, Hash)) -> NewEvent {
        let acts = self.done_again.iter().map(ToString::to_string);
        let (sequence, hash) = head;
        let data = json!({
            "ancestor": self.ancestor,
            "not_before": rfc3339(self.not_before),
            "ahead_until": self.ahead_until.map(rfc3339),
            "sessions": self.sessions_ended,
            "done_again": acts.take(TOLD).collect::<Vec<_>>(),
            "done_again_in_all": self.done_again.len(),
            "head": { "sequence": sequence, "hash": base16ct::lower::encode_string(&hash) },
        });
        NewEvent::own(OwnType::DatabaseRecovered, actor, self.generation, &data)
    }
}

impl Store {
    /// Begins a new generation, in one transaction: every session that is not ended ends
    /// (`restored`) and loses its key, cached DIDs are stale, leases are free, and webhooks pause. Rows of nonces,
    /// tokens and revocations stay as they are. No instance may serve meanwhile.
    pub async fn recover(&self, recovery: Recovery) -> Result<Recovered> {
        on!(self, store => store.recover(recovery).await)
    }

    /// DIDs whose keys were stored by hand, in order, but no more than `at_most`. No resolver reads
    /// them again.
    pub async fn stored_keys(&self, at_most: u32) -> Result<Vec<Did>> {
        on!(self, store => store.stored_keys(at_most).await)
    }
}
