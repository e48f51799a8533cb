//! What goes into the calls of a store, and what comes out of them.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::{
    Did, DidDocument, DidRecord, Gone, PublicKey, SealedKey, Session, SessionId, Timestamp,
};

/// The limits that the claim statement applies.
#[derive(Debug, Clone, Copy)]
pub struct ClaimLimits {
    /// The most live nonces of one signer.
    pub quota_per_signer: u64,
}

/// What came of opening a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Opened {
    Created(Session),
    /// The id is taken, or was until less than the retention ago.
    Exists,
    /// This party is revoked.
    Revoked(Did),
}

/// What came of changing a session.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    Done(Session),
    NotFound,
    /// The session had ended or expired; nothing changed.
    Over(Session),
    /// The session does not have the expected version; nothing changed.
    VersionMismatch(Session),
}

/// Which sessions to end: those of this client, of this server, or of both together.
/// At least one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parties {
    pub client_did: Option<Did>,
    pub server_did: Option<Did>,
}

/// A DID to store by hand.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDid {
    pub did: Did,
    pub key: PublicKey,
    pub owner_address: Option<String>,
}

/// What came of storing a DID.
#[derive(Debug, Clone, PartialEq)]
pub enum DidStored {
    Created(DidRecord),
    Replaced(DidRecord),
    /// It is revoked; nothing changed.
    Revoked(DidRecord),
}

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

/// What came of forgetting a DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DidForgotten {
    Done,
    NotFound,
    /// A revocation is never forgotten.
    Revoked,
}

/// What came of revoking a DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DidRevoked {
    /// The first revocation's time.
    pub revoked_at: Timestamp,
    /// Whether this call was the first.
    pub first: bool,
}

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

/// A job's lease, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    pub holder: String,
    pub taken_at: Timestamp,
    pub until: Timestamp,
    /// When a holder last finished the job.
    pub finished_at: Option<Timestamp>,
    /// The database's clock when this row was read.
    pub observed_at: Timestamp,
}

/// Counts that are cheap enough to sample while the service runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub active_sessions: u64,
    pub ended_sessions: u64,
    /// Nonces held, of both scopes. An estimate where counting would be slow.
    pub live_nonces: u64,
    pub dids: u64,
    pub revoked_dids: u64,
}

/// One table's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSize {
    pub name: String,
    /// Table and indexes, in bytes.
    pub bytes: u64,
}

/// What `GET /v1/stats` tells about the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    pub counts: Counts,
    pub database_bytes: u64,
    pub tables: Vec<TableSize>,
    /// The clients with the most active sessions, most first.
    pub top_clients: Vec<(Did, u64)>,
}

/// The general pool, for `doctor`, `/readyz` and the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStatus {
    pub max: u32,
    pub open: u32,
    pub in_use: u32,
}

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRecord {
    pub id: Uuid,
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub subject: String,
    pub outcome: String,
    pub detail: serde_json::Value,
}
