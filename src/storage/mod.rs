//! What the service needs from a database, and the two databases that give it.
//!
//! [`Store`] is the only way to a database. Its two sides, [`postgres`] and [`sqlite`], keep the
//! same rules (`tests/storage` runs one suite on both) and share no SQL. Nothing outside them
//! writes SQL or names Diesel. A store decides by the database's clock, never by the process's.

mod did_changes;
mod error;
pub mod migrations;
pub mod postgres;
mod purge;
pub mod sqlite;
mod types;
mod url;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Database;
use crate::domain::{
    ApiToken, Ask, AuditEvent, Cursor, Did, DidFilter, DidRecord, EndReason, Facts, NewSession,
    NewToken, Page, PageRequest, SealedKey, Session, SessionFilter, SessionId, SessionPatch,
    Timestamp, TokenHash, UsedNonce,
};
use crate::metrics::Metrics;

pub use did_changes::{DidChange, DidChanges};
pub use error::StoreError;
pub use migrations::MigrationStatus;
pub use purge::{PurgeBatch, PurgeStep, Purged};
pub use types::{
    Answer, AuditRecord, Changed, ClaimLimits, Counts, DidForgotten, DidRevoked, DidStored,
    KnownSealingKey, Lease, NewDid, Opened, Parties, PoolStatus, Reading, SealedSession,
    Statistics, TableSize,
};
pub use url::{DatabaseUrl, InvalidDatabaseUrl, PostgresOptions, SqliteLocation, SslMode};

use postgres::PostgresStore;
use sqlite::SqliteStore;

/// The result of every call to a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A database. Clones share its connections.
#[derive(Clone)]
pub enum Store {
    Postgres(PostgresStore),
    Sqlite(SqliteStore),
}

/// Calls the same method on whichever store this is.
macro_rules! on {
    ($store:expr, $inner:ident => $call:expr) => {
        match $store {
            Store::Postgres($inner) => $call,
            Store::Sqlite($inner) => $call,
        }
    };
}

impl Store {
    /// Opens the database that the configuration names. Does not migrate it.
    ///
    /// Must be called on a multi-thread Tokio runtime that outlives the store: PostgreSQL's
    /// connections are driven there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the database cannot be reached (after the configured
    /// retries), refuses the log-in, or the file cannot be opened or is in use.
    pub async fn open(
        config: &Database,
        limits: ClaimLimits,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self> {
        match &config.url {
            DatabaseUrl::Postgres(options) => {
                PostgresStore::open(options, config, limits, metrics).await.map(Self::Postgres)
            }
            DatabaseUrl::Sqlite(location) => {
                SqliteStore::open(location, config, limits, metrics, clock).await.map(Self::Sqlite)
            }
        }
    }

    /// Finishes what is being written and closes every connection.
    pub async fn close(&self) {
        on!(self, store => store.close().await);
    }

    /// `postgresql` or `sqlite`.
    #[must_use]
    pub const fn backend(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgresql",
            Self::Sqlite(_) => "sqlite",
        }
    }

    /// How many batches of claims it pays to commit side by side.
    #[must_use]
    pub const fn claim_connections(&self) -> usize {
        match self {
            Self::Postgres(_) => 2,
            Self::Sqlite(_) => 1,
        }
    }

    // Operations.

    /// The database's clock; also the cheapest proof that it answers.
    pub async fn now(&self) -> Result<Timestamp> {
        on!(self, store => store.now().await)
    }

    /// The general pool at this moment.
    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        on!(self, store => store.pool_status())
    }

    /// Every migration this binary knows or the database has, oldest first.
    pub async fn migrations(&self) -> Result<Vec<MigrationStatus>> {
        on!(self, store => store.migrations().await)
    }

    /// Applies all pending migrations, one transaction each, and returns their names. Two
    /// instances that start at once take turns.
    pub async fn migrate_up(&self) -> Result<Vec<String>> {
        on!(self, store => store.migrate_up().await)
    }

    /// Reverts the newest `count` migrations (`None`: all), and returns their names.
    pub async fn migrate_down(&self, count: Option<u32>) -> Result<Vec<String>> {
        on!(self, store => store.migrate_down(count).await)
    }

    /// Counts for the gauges.
    pub async fn counts(&self) -> Result<Counts> {
        on!(self, store => store.counts().await)
    }

    /// Sizes and the `top` busiest clients. Slower than [`Self::counts`].
    pub async fn statistics(&self, top: u32) -> Result<Statistics> {
        on!(self, store => store.statistics(top).await)
    }

    /// Whether any table holds a row (but for those of migrations, leases, sealing keys, tokens
    /// and the audit log).
    pub async fn holds_data(&self) -> Result<bool> {
        on!(self, store => store.holds_data().await)
    }

    /// Writes an event of its own, when the change that it records is not in this database.
    pub async fn audit(&self, event: AuditEvent) -> Result<()> {
        on!(self, store => store.audit(event).await)
    }

    /// The newest audit events.
    pub async fn audit_events(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        on!(self, store => store.audit_events(limit).await)
    }

    // Claims.

    /// Decides every ask, atomically each, and commits before it returns: what `inserted` says
    /// is on disk. Asks succeed or fail independently, in the order given.
    ///
    /// # Errors
    /// Per ask: [`StoreError::OutcomeUnknown`] when the connection was lost between the send
    /// and the answer, any other error when nothing was written.
    pub async fn claim(&self, asks: &[Ask<'_>]) -> Vec<Result<Facts>> {
        on!(self, store => store.claim(asks).await)
    }

    /// The nonce's row in a session, if it was used there.
    pub async fn session_nonce(
        &self,
        session: SessionId,
        nonce: &crate::domain::Nonce,
    ) -> Result<Option<UsedNonce>> {
        on!(self, store => store.session_nonce(session, nonce).await)
    }

    // Sessions.

    /// Opens a session unless its id is taken or a party is revoked. Cannot cross a revocation:
    /// either this call sees it, or the revocation's ending of sessions sees this session.
    pub async fn open_session(&self, new: NewSession) -> Result<Opened> {
        on!(self, store => store.open_session(new).await)
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        on!(self, store => store.session(id).await)
    }

    /// A session with its sealed key.
    pub async fn session_key(&self, id: SessionId) -> Result<Option<(Session, Option<SealedKey>)>> {
        on!(self, store => store.session_key(id).await)
    }

    /// Sessions, newest first.
    pub async fn list_sessions(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
    ) -> Result<Page<Session>> {
        on!(self, store => store.list_sessions(filter, page).await)
    }

    pub async fn update_session(&self, id: SessionId, patch: SessionPatch) -> Result<Changed> {
        on!(self, store => store.update_session(id, patch).await)
    }

    /// Records activity now (not more often than the idle granularity).
    pub async fn touch_session(&self, id: SessionId) -> Result<Changed> {
        on!(self, store => store.touch_session(id).await)
    }

    /// Ends a session and wipes its key; its nonces stay.
    pub async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        audit: Option<AuditEvent>,
    ) -> Result<Changed> {
        on!(self, store => store.end_session(id, reason, audit).await)
    }

    /// Ends up to `limit` live sessions of these parties, and returns how many it ended; fewer
    /// than `limit` means that none is left. Sessions opened meanwhile may be left out. The
    /// audit event, with `sessions` added to its detail, is written if any was ended.
    pub async fn end_sessions(
        &self,
        parties: &Parties,
        reason: EndReason,
        audit: Option<AuditEvent>,
        limit: u32,
    ) -> Result<u64> {
        on!(self, store => store.end_sessions(parties, reason, audit, limit).await)
    }

    /// Ends up to `limit` live sessions in which any revoked DID (or just `did`) is a party,
    /// with reason `did_revoked`; fewer than `limit` means that none is left. The audit event is
    /// as in [`Self::end_sessions`].
    pub async fn end_sessions_of_revoked(
        &self,
        did: Option<&Did>,
        audit: Option<AuditEvent>,
        limit: u32,
    ) -> Result<u64> {
        on!(self, store => store.end_sessions_of_revoked(did, audit, limit).await)
    }

    // DIDs.

    pub async fn did(&self, did: &Did) -> Result<Option<DidRecord>> {
        on!(self, store => store.did(did).await)
    }

    /// Stores or replaces a DID's key, never a revoked one's. What a resolver read is forgotten.
    pub async fn put_did(&self, new: NewDid) -> Result<DidStored> {
        on!(self, store => store.put_did(new).await)
    }

    /// Records what a resolver said, and returns the row that stands then; `None` when nothing is
    /// stored. A revoked row is never touched, nor one of a higher version, nor one that was
    /// asked for later; but a key that was stored by hand gives way, whenever that was. That a
    /// DID is gone marks an existing row, which keeps its key and document.
    pub async fn record_did(&self, reading: Reading) -> Result<Option<DidRecord>> {
        on!(self, store => store.record_did(reading).await)
    }

    /// Forgets a DID that is not revoked.
    pub async fn forget_did(&self, did: &Did) -> Result<DidForgotten> {
        on!(self, store => store.forget_did(did).await)
    }

    /// Revokes a DID, seen before or not. The flag is committed when this returns; ending its
    /// sessions is [`Self::end_sessions_of_revoked`]. The event is written the first time.
    pub async fn revoke_did(&self, did: &Did, audit: AuditEvent) -> Result<DidRevoked> {
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

    // API tokens.

    pub async fn create_token(&self, new: NewToken, audit: AuditEvent) -> Result<ApiToken> {
        on!(self, store => store.create_token(new, audit).await)
    }

    /// The token with this hash, valid or not.
    pub async fn token(&self, hash: &TokenHash) -> Result<Option<ApiToken>> {
        on!(self, store => store.token(hash).await)
    }

    /// Every token, oldest first.
    pub async fn list_tokens(&self) -> Result<Vec<ApiToken>> {
        on!(self, store => store.list_tokens().await)
    }

    /// Revokes a token; the first revocation stands. `None` when there is no such token.
    pub async fn revoke_token(&self, id: Uuid, audit: AuditEvent) -> Result<Option<ApiToken>> {
        on!(self, store => store.revoke_token(id, audit).await)
    }

    /// Records that a token was used just now.
    pub async fn token_used(&self, id: Uuid) -> Result<()> {
        on!(self, store => store.token_used(id).await)
    }

    // Sealing keys.

    /// Every sealing key the database knows of, and how many sessions need it.
    pub async fn sealing_keys(&self) -> Result<Vec<KnownSealingKey>> {
        on!(self, store => store.sealing_keys().await)
    }

    /// Makes a sealing key known; does nothing when it is.
    pub async fn add_sealing_key(&self, key_id: &str, check_value: &[u8]) -> Result<()> {
        on!(self, store => store.add_sealing_key(key_id, check_value).await)
    }

    /// Forgets a sealing key that no session needs; `false` when one does.
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

    // Jobs.

    /// Takes or renews the lease of a job for `ttl`, unless another holder has it.
    pub async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        on!(self, store => store.take_lease(name, holder, ttl).await)
    }

    /// Gives a lease back; `finished` also records that the job is done.
    pub async fn release_lease(&self, name: &str, holder: &str, finished: bool) -> Result<()> {
        on!(self, store => store.release_lease(name, holder, finished).await)
    }

    pub async fn lease(&self, name: &str) -> Result<Option<Lease>> {
        on!(self, store => store.lease(name).await)
    }

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
