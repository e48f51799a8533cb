//! Sessions: opening, reading, changing and ending them.

use super::{Result, Store, on};
use crate::domain::{
    AuditEvent, Changed, Did, EndReason, NewSession, Opened, Page, PageRequest, Parties, SealedKey,
    Session, SessionFilter, SessionId, SessionPatch,
};

impl Store {
    /// Opens a session unless its id is taken or a party is revoked. Cannot cross a revocation:
    /// either this call sees it, or the revocation's ending of sessions sees this session.
    pub async fn open_session(&self, new: NewSession) -> Result<Opened> {
        on!(self, store => store.open_session(new).await)
    }

    /// How many sessions of a client are not ended, but no more than `at_most`: no more are looked
    /// at. One that expired counts until the purge has ended it.
    pub async fn live_sessions(&self, client: &Did, at_most: u32) -> Result<u32> {
        on!(self, store => store.live_sessions(client, at_most).await)
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
}
