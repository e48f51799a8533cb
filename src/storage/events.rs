//! The log of events. An event is written in the transaction of the change that it records. Once it
//! is committed, it is linked: it gets its place, in one order for all, and what binds it to every
//! event before it. Readers see linked events only, so none that commits late is skipped.

use std::time::Duration;

use uuid::Uuid;

use super::{Result, Store, on};
use crate::domain::{
    Did, Event, EventFilter, Hash, Link, LinkedEvent, NewEvent, SignedHead, Timestamp, link,
};

/// The most events that are linked in one transaction.
pub const LINK_BATCH: u32 = 500;

/// Where the log ends and begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventChain {
    /// Names the log in its signed heads.
    pub origin: Uuid,
    /// The place of the last event that is linked.
    pub sequence: u64,
    pub hash: Hash,
    /// When it was linked.
    pub linked_at: Option<Timestamp>,
    /// The place of the last event that the purge may have removed.
    pub cut_sequence: u64,
    pub cut_hash: Hash,
    /// The database's clock.
    pub observed_at: Timestamp,
}

/// A signed head as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptHead {
    pub sequence: u64,
    pub hash: Vec<u8>,
    pub note: String,
}

impl Store {
    /// Writes events that record no change of this database, all or none, and returns their ids in
    /// order.
    pub async fn publish(&self, events: Vec<NewEvent>) -> Result<Vec<Uuid>> {
        on!(self, store => store.publish(events).await)
    }

    /// Linked events after a place, in order, that fit the filter.
    pub async fn events(&self, filter: &EventFilter, after: u64, limit: u32) -> Result<Vec<Event>> {
        on!(self, store => store.events(filter, after, limit).await)
    }

    /// For how long the next event to be linked has waited for that; `None` if there is none.
    pub async fn unlinked_for(&self) -> Result<Option<Duration>> {
        let waits = on!(self, store => store.unlinked_since().await)?;
        Ok(waits.map(|(at, now)| (now - at).to_std().unwrap_or_default()))
    }

    /// Links up to [`LINK_BATCH`] committed events, in the order of their ids, and returns how many.
    /// None if another instance is at it.
    pub async fn link_events(&self) -> Result<u64> {
        on!(self, store => store.link_events().await)
    }

    /// Waits until an event was published through this store.
    pub async fn until_published(&self) {
        on!(self, store => store.until_published().await);
    }

    /// How a signer with nonces is called: by its DID, or by what stands in its place once it was
    /// erased.
    pub async fn signer_name(&self, signer: &Did) -> Result<Option<String>> {
        on!(self, store => store.signer_name(signer).await)
    }

    pub async fn event_chain(&self) -> Result<EventChain> {
        on!(self, store => store.event_chain().await)
    }

    /// Linked events after a place, in order, with what binds them.
    pub async fn linked_events(&self, after: u64, limit: u32) -> Result<Vec<LinkedEvent>> {
        on!(self, store => store.linked_events(after, limit).await)
    }

    /// The signed heads after a place, in order.
    pub async fn event_heads(&self, after: u64, limit: u32) -> Result<Vec<KeptHead>> {
        on!(self, store => store.event_heads(after, limit).await)
    }

    /// Keeps a signed head, unless there is one of the same place.
    pub async fn keep_event_head(&self, head: SignedHead) -> Result<()> {
        on!(self, store => store.keep_event_head(head).await)
    }
}

/// Gives events their places after `sequence`, and links them.
pub(super) fn links(
    mut sequence: u64,
    mut previous: Hash,
    events: Vec<Event>,
) -> Vec<(Uuid, Link)> {
    let mut links = Vec::with_capacity(events.len());
    for mut event in events {
        sequence += 1;
        event.sequence = sequence;
        let link = link(&previous, *Uuid::new_v4().as_bytes(), &event);
        previous = link.hash;
        links.push((event.id, link));
    }
    links
}
