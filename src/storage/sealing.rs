//! Sealing keys that the database knows of, and replacing what is sealed with one of them.

use super::{Result, Store, on};
use crate::domain::{Did, SealedKey, SessionId};

/// A sealing key that the database knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSealingKey {
    pub key_id: String,
    /// Proves that somebody has the same key; says nothing about it.
    pub check_value: Vec<u8>,
    /// How many sessions still hold a key sealed with it.
    pub sessions: u64,
}

/// A sealed session key, with what its associated data is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSession {
    pub id: SessionId,
    pub client_did: Did,
    pub server_did: Did,
    pub key: SealedKey,
}

impl Store {
    /// Every sealing key the database knows of, and how many sessions need it.
    pub async fn sealing_keys(&self) -> Result<Vec<KnownSealingKey>> {
        on!(self, store => store.sealing_keys().await)
    }

    /// Makes a sealing key known; does nothing when it is.
    pub async fn add_sealing_key(&self, key_id: &str, check_value: &[u8]) -> Result<()> {
        on!(self, store => store.add_sealing_key(key_id, check_value).await)
    }

    /// Forgets a sealing key that no session and no webhook needs; `false` when one does.
    pub async fn retire_sealing_key(&self, key_id: &str) -> Result<bool> {
        on!(self, store => store.retire_sealing_key(key_id).await)
    }

    /// Up to `limit` sessions, in the order of their ids and after `after`, whose key is sealed
    /// with another key than `key_id`.
    pub async fn sessions_to_reseal(
        &self,
        key_id: &str,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SealedSession>> {
        on!(self, store => store.sessions_to_reseal(key_id, after, limit).await)
    }

    /// Replaces a sealed key if it still is `old`: a key that was changed or wiped meanwhile
    /// stays as it is, and `false` says so.
    pub async fn reseal(&self, id: SessionId, old: &SealedKey, new: &SealedKey) -> Result<bool> {
        on!(self, store => store.reseal(id, old, new).await)
    }
}
