//! The SQLite store: one file, one writing thread that commits groups, a few reading ones.
//!
//! This file says which call runs what, and whether it reads or writes; the files beside it hold
//! the SQL. Every write is part of a transaction that took the write lock first, and by the time
//! a call returns it is on disk.

mod audit;
mod checkpoints;
mod claim_statements;
mod claimed_sessions;
mod claims;
mod clock;
mod connection;
mod dids;
mod errors;
mod leases;
mod migrations;
mod purge;
mod purge_preview;
mod readers;
mod readings;
mod schema;
mod sealing;
mod session_sets;
mod sessions;
mod signer_purge;
mod statistics;
mod tally;
mod threads;
mod tokens;
mod types;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{
    AuditRecord, Changed, ClaimLimits, Counts, DidChanges, DidForgotten, DidRevoked, DidStored,
    KnownSealingKey, Lease, MigrationStatus, NewDid, Opened, Parties, PoolStatus, PurgeBatch,
    PurgeStep, Purged, Reading, Result, SealedSession, SqliteLocation, Statistics, StoreError,
};
use crate::clock::Clock;
use crate::config::Database;
use crate::domain::{
    ApiToken, Ask, AuditEvent, Cursor, Did, DidFilter, DidRecord, EndReason, Facts, NewSession,
    NewToken, Nonce, Page, PageRequest, SealedKey, Session, SessionFilter, SessionId, SessionPatch,
    Timestamp, TokenHash, UsedNonce,
};
use crate::metrics::Metrics;

use signer_purge::Found;
use threads::Threads;

/// An SQLite database. Clones share its threads, which end with the last clone.
#[derive(Clone)]
pub struct SqliteStore(Arc<Threads>);

impl SqliteStore {
    /// Opens the database, and creates an empty file where there is none. Does not migrate it.
    pub async fn open(
        location: &SqliteLocation,
        config: &Database,
        limits: ClaimLimits,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self> {
        let (location, readers) = (location.clone(), config.sqlite_readers);
        let slow = config.slow_statement;
        let start = move || Threads::start(&location, readers, slow, limits, metrics, clock);
        match tokio::task::spawn_blocking(start).await {
            Ok(threads) => Ok(Self(Arc::new(threads?))),
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    pub async fn close(&self) {
        self.0.close().await;
    }

    /// Tells of changes by other processes within about a second, and of none by this one: it is
    /// the only one that serves.
    #[must_use]
    pub fn watch_dids(&self) -> DidChanges {
        DidChanges::of_file(self.0.changes.clone())
    }

    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        self.0.status()
    }

    pub async fn now(&self) -> Result<Timestamp> {
        if !self.0.is_writing() {
            return Err(StoreError::Unavailable("the thread that writes has ended".into()));
        }
        self.0.read("now", statistics::now).await
    }

    pub async fn migrations(&self) -> Result<Vec<MigrationStatus>> {
        self.0.read("migrations", |conn, _| Ok(migrations::status(conn))).await?
    }

    pub async fn migrate_up(&self) -> Result<Vec<String>> {
        self.0.alone("migrate_up", migrations::up).await
    }

    pub async fn migrate_down(&self, count: Option<u32>) -> Result<Vec<String>> {
        self.0.alone("migrate_down", move |conn| migrations::down(conn, count)).await
    }

    pub async fn counts(&self) -> Result<Counts> {
        let tally = Arc::clone(&self.0.tally);
        self.0.read("counts", move |conn, now| statistics::counts(conn, now, &tally)).await
    }

    pub async fn statistics(&self, top: u32) -> Result<Statistics> {
        let tally = Arc::clone(&self.0.tally);
        self.0
            .read("statistics", move |conn, now| statistics::statistics(conn, now, &tally, top))
            .await
    }

    pub async fn holds_data(&self) -> Result<bool> {
        self.0.read("holds_data", |conn, _| statistics::holds_data(conn)).await
    }

    pub async fn audit(&self, event: AuditEvent) -> Result<()> {
        self.0.write("audit", move |conn, now| audit::write(conn, now, &event)).await
    }

    pub async fn audit_events(&self, limit: u32) -> Result<Vec<AuditRecord>> {
        self.0.read("audit_events", move |conn, _| audit::newest(conn, limit)).await
    }

    pub async fn claim(&self, asks: &[Ask<'_>]) -> Vec<Result<Facts>> {
        self.0.claim(asks).await
    }

    pub async fn session_nonce(
        &self,
        session: SessionId,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>> {
        let nonce = nonce.clone();
        let find = move |conn: &mut _, _| {
            claims::session_nonce(conn, session.0.as_bytes(), nonce.as_str())
        };
        self.0.read("session_nonce", find).await
    }

    pub async fn open_session(&self, new: NewSession) -> Result<Opened> {
        self.0.write("open_session", move |conn, now| sessions::open(conn, now, &new)).await
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        self.0.read("session", move |conn, now| sessions::find(conn, now, id)).await
    }

    pub async fn session_key(&self, id: SessionId) -> Result<Option<(Session, Option<SealedKey>)>> {
        self.0.read("session_key", move |conn, now| sessions::find_with_key(conn, now, id)).await
    }

    pub async fn list_sessions(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
    ) -> Result<Page<Session>> {
        let (filter, limit) = (filter.clone(), page.limit);
        let after = page.after.as_ref().map(session_sets::Position::try_from).transpose()?;
        let list =
            move |conn: &mut _, now| session_sets::list(conn, now, &filter, after.as_ref(), limit);
        self.0.read("list_sessions", list).await
    }

    pub async fn update_session(&self, id: SessionId, patch: SessionPatch) -> Result<Changed> {
        self.0
            .write("update_session", move |conn, now| sessions::update(conn, now, id, &patch))
            .await
    }

    pub async fn touch_session(&self, id: SessionId) -> Result<Changed> {
        self.0.write("touch_session", move |conn, now| sessions::touch(conn, now, id)).await
    }

    pub async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        audit: Option<AuditEvent>,
    ) -> Result<Changed> {
        let end = move |conn: &mut _, now| sessions::end(conn, now, id, reason, audit.as_ref());
        self.0.write("end_session", end).await
    }

    pub async fn end_sessions(
        &self,
        parties: &Parties,
        reason: EndReason,
        audit: Option<AuditEvent>,
        limit: u32,
    ) -> Result<u64> {
        let parties = parties.clone();
        let end = move |conn: &mut _, now| {
            session_sets::end_of_parties(conn, now, &parties, reason, audit.as_ref(), limit)
        };
        self.0.write("end_sessions", end).await
    }

    pub async fn end_sessions_of_revoked(
        &self,
        did: Option<&Did>,
        audit: Option<AuditEvent>,
        limit: u32,
    ) -> Result<u64> {
        let did = did.cloned();
        let end = move |conn: &mut _, now| {
            session_sets::end_of_revoked(conn, now, did.as_ref(), audit.as_ref(), limit)
        };
        self.0.write("end_sessions_of_revoked", end).await
    }

    pub async fn did(&self, did: &Did) -> Result<Option<DidRecord>> {
        let did = did.clone();
        self.0.read("did", move |conn, now| dids::find(conn, now, &did)).await
    }

    pub async fn put_did(&self, new: NewDid) -> Result<DidStored> {
        self.0.write("put_did", move |conn, now| dids::put(conn, now, &new)).await
    }

    pub async fn record_did(&self, reading: Reading) -> Result<Option<DidRecord>> {
        self.0.write("record_did", move |conn, now| readings::record(conn, now, &reading)).await
    }

    pub async fn forget_did(&self, did: &Did) -> Result<DidForgotten> {
        let did = did.clone();
        self.0.write("forget_did", move |conn, _| dids::forget(conn, &did)).await
    }

    pub async fn revoke_did(&self, did: &Did, audit: AuditEvent) -> Result<DidRevoked> {
        let did = did.clone();
        self.0.write("revoke_did", move |conn, now| dids::revoke(conn, now, &did, &audit)).await
    }

    pub async fn list_dids(
        &self,
        filter: &DidFilter,
        page: &PageRequest,
    ) -> Result<Page<DidRecord>> {
        let (filter, limit) = (filter.clone(), page.limit);
        let after = page.after.as_ref().map(dids::position).transpose()?;
        let list = move |conn: &mut _, now| dids::list(conn, now, &filter, after.as_ref(), limit);
        self.0.read("list_dids", list).await
    }

    pub async fn create_token(&self, new: NewToken, audit: AuditEvent) -> Result<ApiToken> {
        self.0.write("create_token", move |conn, now| tokens::create(conn, now, &new, &audit)).await
    }

    pub async fn token(&self, hash: &TokenHash) -> Result<Option<ApiToken>> {
        let hash = *hash;
        self.0.read("token", move |conn, now| tokens::find_by_hash(conn, now, &hash)).await
    }

    pub async fn list_tokens(&self) -> Result<Vec<ApiToken>> {
        self.0.read("list_tokens", tokens::list).await
    }

    pub async fn revoke_token(&self, id: Uuid, audit: AuditEvent) -> Result<Option<ApiToken>> {
        self.0.write("revoke_token", move |conn, now| tokens::revoke(conn, now, id, &audit)).await
    }

    pub async fn token_used(&self, id: Uuid) -> Result<()> {
        self.0.write("token_used", move |conn, now| tokens::used(conn, now, id)).await
    }

    pub async fn sealing_keys(&self) -> Result<Vec<KnownSealingKey>> {
        self.0.read("sealing_keys", |conn, _| sealing::keys(conn)).await
    }

    pub async fn add_sealing_key(&self, key_id: &str, check_value: &[u8]) -> Result<()> {
        let (key_id, check_value) = (key_id.to_owned(), check_value.to_vec());
        self.0
            .write("add_sealing_key", move |conn, _| sealing::add(conn, &key_id, &check_value))
            .await
    }

    pub async fn retire_sealing_key(&self, key_id: &str) -> Result<bool> {
        let key_id = key_id.to_owned();
        self.0.write("retire_sealing_key", move |conn, _| sealing::retire(conn, &key_id)).await
    }

    pub async fn sessions_to_reseal(
        &self,
        key_id: &str,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Vec<SealedSession>> {
        let key_id = key_id.to_owned();
        let find = move |conn: &mut _, _| sealing::to_reseal(conn, &key_id, after, limit);
        self.0.read("sessions_to_reseal", find).await
    }

    pub async fn reseal(&self, id: SessionId, old: &SealedKey, new: &SealedKey) -> Result<bool> {
        let (old, new) = (old.clone(), new.clone());
        self.0.write("reseal", move |conn, _| sealing::reseal(conn, id, &old, &new)).await
    }

    pub async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.0
            .write("take_lease", move |conn, now| leases::take(conn, now, &name, &holder, ttl))
            .await
    }

    pub async fn release_lease(&self, name: &str, holder: &str, finished: bool) -> Result<()> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let release = move |conn: &mut _, now| leases::release(conn, now, &name, &holder, finished);
        self.0.write("release_lease", release).await
    }

    pub async fn lease(&self, name: &str) -> Result<Option<Lease>> {
        let name = name.to_owned();
        self.0.read("lease", move |conn, now| leases::find(conn, now, &name)).await
    }

    pub async fn purge(&self, step: PurgeStep, from: &Cursor, limit: u32) -> Result<PurgeBatch> {
        let purged = match step {
            PurgeStep::EndOverdueSessions => self.end_overdue_sessions(limit).await?,
            PurgeStep::DeleteEndedSessions { retention } => {
                let delete = move |conn: &mut _, now| {
                    purge::delete_ended_sessions(conn, now, retention, limit)
                };
                let purged = self.0.write("purge", delete).await?;
                self.0.tally.remove(purged.session_nonces_deleted);
                purged
            }
            PurgeStep::DeleteSignerNonces { margin } => {
                return self.delete_signer_nonces(margin, from.clone(), limit).await;
            }
            PurgeStep::DeleteAuditEvents { retention } => {
                let delete = move |conn: &mut _, now| {
                    purge::delete_audit_events(conn, now, retention, limit)
                };
                self.0.write("purge", delete).await?
            }
            PurgeStep::DeleteUnusedDids { unused } => {
                let delete =
                    move |conn: &mut _, now| purge::delete_unused_dids(conn, now, unused, limit);
                self.0.write("purge", delete).await?
            }
        };
        Ok(PurgeBatch::of_index(purged, limit))
    }

    async fn end_overdue_sessions(&self, limit: u32) -> Result<Purged> {
        let find = move |conn: &mut _, now| purge::overdue(conn, now, limit);
        let ids = self.0.read("purge_overdue", find).await?;
        if ids.is_empty() {
            return Ok(Purged::default());
        }
        let end = move |conn: &mut _, now| purge::end_overdue(conn, now, &ids);
        self.0.write("purge", end).await
    }

    async fn delete_signer_nonces(
        &self,
        margin: Duration,
        from: Cursor,
        limit: u32,
    ) -> Result<PurgeBatch> {
        let find = move |conn: &mut _, now| signer_purge::find(conn, now, margin, &from, limit);
        let Found { expired, next } = self.0.read("purge_signer_nonces", find).await?;
        let purged = if expired.is_empty() {
            Purged::default()
        } else {
            let delete = move |conn: &mut _, now| signer_purge::delete(conn, now, margin, &expired);
            self.0.write("purge", delete).await?
        };
        Ok(PurgeBatch { purged, next })
    }

    pub async fn purge_preview(&self, steps: &[PurgeStep]) -> Result<Purged> {
        let steps = steps.to_vec();
        self.0
            .read("purge_preview", move |conn, now| purge_preview::preview(conn, now, &steps))
            .await
    }
}
