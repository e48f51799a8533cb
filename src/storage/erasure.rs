//! Erasure: everything that is kept about a DID goes, but for what keeps a message from being used
//! again: the digests of its nonces, until they expire, and its revocation.

use serde_json::json;

use super::{Result, Store, on};
use crate::domain::{Actor, AuditEvent, Did};

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Records, tombstones not included.
    pub records: u64,
    /// Events of the audit log that named the DID.
    pub events: u64,
}

/// What stands in the place of an erased DID: a DID of no method in use, made of the first half of
/// its SHA-256.
pub(super) fn alias(did: &Did) -> String {
    format!("did:erased:{}", base16ct::lower::encode_string(&did.signer_key().0))
}

/// The one event that stays.
pub(super) fn event(did: &Did, actor: &Actor) -> AuditEvent {
    let alias = alias(did);
    let actor = match actor {
        Actor::Agent(agent) if agent == did => {
            Did::parse(&alias).map_or(Actor::Operator, Actor::Agent)
        }
        other => other.clone(),
    };
    AuditEvent { actor, action: "did.erase", subject: alias, detail: json!({}) }
}

impl Store {
    /// Ends up to `limit` sessions of a DID, and takes from them its name, the key, the metadata and
    /// where they came from; id, end and deadline stay. Fewer than `limit` means that none is left.
    pub async fn erase_sessions(&self, did: &Did, limit: u32) -> Result<u64> {
        on!(self, store => store.erase_sessions(did, limit).await)
    }

    /// Erases everything else: the key, the records (which [`Self::remove_erased_records`] then
    /// removes), and the DID's name in the audit log. One event stays.
    pub async fn erase_did(&self, did: &Did, actor: &Actor) -> Result<Erased> {
        on!(self, store => store.erase_did(did, actor).await)
    }
}
