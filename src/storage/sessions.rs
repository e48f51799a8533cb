//! Sessions: opening, reading, changing and ending them.

use super::{OnLock, Result, Store, StoreError, on};
use crate::domain::{
    Changed, Did, EndReason, NewEvent, NewSession, Opened, Page, PageRequest, Parties, SealedKey,
    Session, SessionFilter, SessionId, SessionPatch,
};

/// A session to end.
#[derive(Debug, Clone)]
pub struct Ending {
    pub id: SessionId,
    pub reason: EndReason,
    /// Written if this ends the session.
    pub audit: Option<NewEvent>,
}

/// What came of a call that was asked together with others.
#[derive(Debug, Clone, PartialEq)]
pub enum Tried<T> {
    Done(T),
    /// Nothing was decided: another transaction holds what the call needs.
    Busy(Held),
}

/// What another transaction holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// A DID, which is being revoked.
    Party(Did),
    Session(SessionId),
}

impl Store {
    /// Opens each session unless its id is taken or a party is revoked; of two with one id, the
    /// first. Cannot cross a revocation: either this call sees it, or the revocation's ending of
    /// sessions sees the session. The answers are in the order given, and what is wrong with one
    /// session fails no other.
    pub async fn open_each(
        &self,
        new: &[NewSession],
        on_lock: OnLock,
    ) -> Vec<Result<Tried<Opened>>> {
        match self {
            Self::Postgres(store) => store.open_each(new, on_lock).await,
            // Nothing is locked but the whole database, for which every call waits.
            Self::Sqlite(store) => done(store.open_each(new).await),
        }
    }

    /// [`Self::open_each`] of one session, which waits for locks.
    pub async fn open_session(&self, new: NewSession) -> Result<Opened> {
        only(self.open_each(&[new], OnLock::Wait).await)
    }

    /// How many sessions of a client are not ended, but no more than `at_most`: no more are looked
    /// at. One that expired counts until the purge has ended it.
    pub async fn live_sessions(&self, client: &Did, at_most: u32) -> Result<u32> {
        on!(self, store => store.live_sessions(client, at_most).await)
    }

    /// Each session, if it is there, in the order given.
    pub async fn read_each(&self, ids: &[SessionId]) -> Vec<Result<Option<Session>>> {
        on!(self, store => store.read_each(ids).await)
    }

    /// [`Self::read_each`] of one session.
    pub async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        self.read_each(&[id]).await.pop().unwrap_or_else(|| Err(unanswered()))
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

    /// Records activity now in each session (not more often than the idle granularity). The
    /// answers are in the order given.
    pub async fn touch_each(
        &self,
        ids: &[SessionId],
        on_lock: OnLock,
    ) -> Vec<Result<Tried<Changed>>> {
        match self {
            Self::Postgres(store) => store.touch_each(ids, on_lock).await,
            Self::Sqlite(store) => done(store.touch_each(ids).await),
        }
    }

    /// [`Self::touch_each`] of one session, which waits for its lock.
    pub async fn touch_session(&self, id: SessionId) -> Result<Changed> {
        only(self.touch_each(&[id], OnLock::Wait).await)
    }

    /// Ends each session and wipes its key; its nonces stay. The answers are in the order given,
    /// and what is wrong with one session fails no other.
    pub async fn end_each(
        &self,
        endings: &[Ending],
        on_lock: OnLock,
    ) -> Vec<Result<Tried<Changed>>> {
        match self {
            Self::Postgres(store) => store.end_each(endings, on_lock).await,
            Self::Sqlite(store) => done(store.end_each(endings).await),
        }
    }

    /// [`Self::end_each`] of one session, which waits for its lock.
    pub async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        audit: Option<NewEvent>,
    ) -> Result<Changed> {
        only(self.end_each(&[Ending { id, reason, audit }], OnLock::Wait).await)
    }

    /// Ends up to `limit` live sessions of these parties, and returns how many it ended; fewer
    /// than `limit` means that none is left. Sessions opened meanwhile may be left out. The
    /// audit event, with `sessions` added to its data, is written if any was ended.
    pub async fn end_sessions(
        &self,
        parties: &Parties,
        reason: EndReason,
        audit: Option<NewEvent>,
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
        audit: Option<NewEvent>,
        limit: u32,
    ) -> Result<u64> {
        on!(self, store => store.end_sessions_of_revoked(did, audit, limit).await)
    }
}

/// Where no call is ever busy.
fn done<T>(answers: Vec<Result<T>>) -> Vec<Result<Tried<T>>> {
    answers.into_iter().map(|answer| answer.map(Tried::Done)).collect()
}

/// The answer to the only call of a batch.
fn only<T>(mut answers: Vec<Result<Tried<T>>>) -> Result<T> {
    match answers.pop() {
        Some(Ok(Tried::Done(answer))) => Ok(answer),
        Some(Ok(Tried::Busy(held))) => Err(held.into()),
        Some(Err(error)) => Err(error),
        None => Err(unanswered()),
    }
}

impl From<Held> for StoreError {
    fn from(held: Held) -> Self {
        let what = match held {
            Held::Party(_) => "a DID",
            Held::Session(_) => "a session",
        };
        Self::Locked(format!("another transaction keeps {what} locked"))
    }
}

fn unanswered() -> StoreError {
    StoreError::Unexpected("the store left a call unanswered".into())
}
