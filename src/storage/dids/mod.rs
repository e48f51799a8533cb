//! DIDs: what is stored and was read of them, and their revocation.

mod changes;

use std::time::Duration;

use super::{Result, Store, on};
use crate::domain::{
    Did, DidDocument, DidFilter, DidForgotten, DidRecord, DidRevoked, DidStored, Gone, NewDid,
    NewEvent, Page, PageRequest, Timestamp,
};

pub use changes::{DidChange, DidChanges};

/// What a resolver said of a DID.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub did: Did,
    /// The resolver's name.
    pub source: &'static str,
    pub answer: Answer,
    /// The block at which it was read.
    pub version: Option<u64>,
    /// The database's clock before the resolver was asked.
    pub asked_at: Timestamp,
    /// For how long from then on it may be used without asking again.
    pub ttl: Duration,
}

impl Reading {
    /// Until when it may be used without asking again.
    #[must_use]
    pub fn stale_at(&self) -> Timestamp {
        self.asked_at + self.ttl
    }
}

/// A DID's document, or what its home says instead.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Document { document: DidDocument, owner_address: Option<String> },
    Gone(Gone),
}

impl Store {
    pub async fn did(&self, did: &Did) -> Result<Option<DidRecord>> {
        on!(self, store => store.did(did).await)
    }

    /// Stores or replaces a DID's key, never a revoked one's. What a resolver read is forgotten.
    /// The audit event is written with the key.
    pub async fn put_did(&self, new: NewDid, audit: NewEvent) -> Result<DidStored> {
        on!(self, store => store.put_did(new, audit).await)
    }

    /// Records what a resolver said, and returns the row that stands then; `None` when nothing is
    /// stored. A revoked row is never touched, nor one of a higher version, nor one that was
    /// asked for later; but a key that was stored by hand gives way, whenever that was. That a
    /// DID is gone marks an existing row, which keeps its key and document.
    pub async fn record_did(&self, reading: Reading) -> Result<Option<DidRecord>> {
        on!(self, store => store.record_did(reading).await)
    }

    /// Forgets a DID that is not revoked. The audit event is written if there was one.
    pub async fn forget_did(&self, did: &Did, audit: NewEvent) -> Result<DidForgotten> {
        on!(self, store => store.forget_did(did, audit).await)
    }

    /// Revokes a DID, seen before or not. The flag is committed when this returns; ending its
    /// sessions is [`Self::end_sessions_of_revoked`]. The event is written the first time.
    pub async fn revoke_did(&self, did: &Did, audit: NewEvent) -> Result<DidRevoked> {
        on!(self, store => store.revoke_did(did, audit).await)
    }

    /// DIDs in the order of their text.
    pub async fn list_dids(
        &self,
        filter: &DidFilter,
        page: &PageRequest,
    ) -> Result<Page<DidRecord>> {
        on!(self, store => store.list_dids(filter, page).await)
    }

    /// Changes of DIDs from now on, by whoever makes them. On PostgreSQL this takes a connection
    /// of its own until the result is dropped.
    #[must_use]
    pub fn watch_dids(&self) -> DidChanges {
        on!(self, store => store.watch_dids())
    }
}
