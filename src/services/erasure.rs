//! Erasure of a DID: its sessions lose its name, its key and records go. What keeps its messages from
//! being used again stays.

use super::{Dids, Records, ServiceError};
use crate::domain::{Actor, Did};
use crate::storage::Store;

/// Sessions that are erased in one transaction.
const SESSIONS_AT_ONCE: u32 = 500;

/// Clones share the store.
#[derive(Clone)]
pub struct Erasure {
    store: Store,
    dids: Dids,
    records: Records,
}

/// What was erased of a DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasedDid {
    pub sessions: u64,
    pub records: u64,
    /// Those that named the DID, and are empty now.
    pub events: u64,
}

impl Erasure {
    #[must_use]
    pub const fn new(store: Store, dids: Dids, records: Records) -> Self {
        Self { store, dids, records }
    }

    /// When this returns, nothing is left. If it fails half-way, a repeat of the call finishes it.
    pub async fn erase(&self, did: &Did, actor: &Actor) -> Result<ErasedDid, ServiceError> {
        let mut sessions = 0;
        loop {
            let erased = self.store.erase_sessions(did, SESSIONS_AT_ONCE).await?;
            sessions += erased;
            if erased < u64::from(SESSIONS_AT_ONCE) {
                break;
            }
        }
        let erased = self.store.erase_did(did, actor).await;
        self.dids.changed(did).await;
        let erased = erased?;
        self.records.remove_erased().await?;
        Ok(ErasedDid { sessions, records: erased.records, events: erased.events })
    }
}
