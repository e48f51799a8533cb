//! Sessions from the view of claims: whether a session accepts a nonce, and what it records of it.
//! The rules are the same for claims in a session and for signers' claims that name a session.

use std::collections::BTreeMap;

use diesel::prelude::*;

use super::statements::{FindSession, MoveActivity};
use crate::domain::{Did, Lifetime, Refusal, SessionState, Timestamp, activity_granularity};
use crate::storage::sqlite::types::{end, number, stored, timestamp};

type Key = [u8; 16];

/// The fields of a session that a claim needs, without its metadata, which may be long. In the
/// order of [`FindSession`]'s columns.
#[derive(Queryable)]
pub(crate) struct ClaimedSession {
    number: i64,
    expires_at: i64,
    deadline: i64,
    last_activity: i64,
    idle_timeout_seconds: Option<i64>,
    max_claims: Option<i64>,
    claims: i64,
    ended_at: Option<i64>,
    end_reason: Option<String>,
    party_is_revoked: bool,
    client_did: String,
    server_did: String,
}

impl ClaimedSession {
    pub(crate) fn find(conn: &mut SqliteConnection, id: &[u8]) -> QueryResult<Option<Self>> {
        FindSession { id }.get_result(conn).optional()
    }

    pub(crate) fn lifetime(&self) -> QueryResult<Lifetime> {
        Ok(Lifetime {
            expires_at: timestamp(self.expires_at)?,
            last_activity: timestamp(self.last_activity)?,
            idle_timeout_seconds: self.idle_timeout_seconds.map(number).transpose()?,
            end: end(self.ended_at, self.end_reason.as_deref())?,
        })
    }

    fn live(&self, now: Timestamp) -> QueryResult<Result<LiveSession, Refusal>> {
        let lifetime = self.lifetime()?;
        match lifetime.state(now) {
            SessionState::Active if self.party_is_revoked => return Ok(Err(Refusal::DidRevoked)),
            SessionState::Active => {}
            SessionState::Over(end) => return Ok(Err(Refusal::SessionOver(end))),
        }
        let room = self.max_claims.map(|max| number((max - self.claims).max(0))).transpose()?;
        Ok(Ok(LiveSession {
            number: self.number,
            deadline: timestamp(self.deadline)?,
            last_activity: lifetime.last_activity,
            idle_timeout_seconds: lifetime.idle_timeout_seconds,
            room,
        }))
    }
}

/// A session that is not over, and that has no revoked party.
pub(super) struct LiveSession {
    /// By which its nonces name it.
    pub(crate) number: i64,
    pub(crate) deadline: Timestamp,
    last_activity: Timestamp,
    idle_timeout_seconds: Option<u32>,
    /// `None` for a session without `max_claims`.
    pub(crate) room: Option<usize>,
}

impl LiveSession {
    pub(crate) fn find(
        conn: &mut SqliteConnection,
        now: Timestamp,
        id: &Key,
    ) -> QueryResult<Result<Self, Refusal>> {
        match ClaimedSession::find(conn, id)? {
            Some(session) => session.live(now),
            None => Ok(Err(Refusal::SessionNotFound)),
        }
    }

    /// Counts inserted nonces. A session without `max_claims` is written only when its activity is
    /// due, so that a busy session is not rewritten with every claim.
    pub(crate) fn record(
        &self,
        conn: &mut SqliteConnection,
        now: Timestamp,
        inserted: usize,
    ) -> QueryResult<()> {
        let due = now - self.last_activity > activity_granularity(self.idle_timeout_seconds);
        if due || self.room.is_some() {
            let last_activity = if due { now } else { self.last_activity };
            let last_activity = last_activity.timestamp_micros();
            MoveActivity { session: self.number, inserted: stored(inserted), last_activity }
                .execute(conn)?;
        }
        Ok(())
    }
}

/// The sessions that the signers' claims of a group name, each looked up once. Claims that compete
/// for the last room of a session are served in the order of the signers, not of asking.
#[derive(Default)]
pub(super) struct NamedSessions(BTreeMap<Key, Named>);

struct Named {
    /// Of a session that there is.
    parties: Option<[String; 2]>,
    session: Result<LiveSession, Refusal>,
    inserted: usize,
}

/// Whether the session that a claim names lets the claim pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    /// It does, or the claim names no session.
    Open,
    UsedUp,
    Closed(Refusal),
}

impl NamedSessions {
    pub(super) fn passage(
        &mut self,
        conn: &mut SqliteConnection,
        now: Timestamp,
        named: Option<(&Key, &Did)>,
    ) -> QueryResult<Passage> {
        let Some((id, signer)) = named else { return Ok(Passage::Open) };
        if let Some(named) = self.0.get(id) {
            return Ok(named.passage(signer));
        }
        let named = match ClaimedSession::find(conn, id)? {
            Some(session) => Named {
                session: session.live(now)?,
                parties: Some([session.client_did, session.server_did]),
                inserted: 0,
            },
            None => Named { session: Err(Refusal::SessionNotFound), parties: None, inserted: 0 },
        };
        let passage = named.passage(signer);
        self.0.insert(*id, named);
        Ok(passage)
    }

    /// A claim that names the session has inserted a nonce.
    pub(crate) fn count(&mut self, named: Option<(&Key, &Did)>) {
        if let Some(named) = named.and_then(|(id, _)| self.0.get_mut(id)) {
            named.inserted += 1;
        }
    }

    /// Writes the counts, once for each session.
    pub(crate) fn record(&self, conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<()> {
        for Named { session, inserted, .. } in self.0.values() {
            if let Ok(session) = session
                && *inserted > 0
            {
                session.record(conn, now, *inserted)?;
            }
        }
        Ok(())
    }
}

impl Named {
    fn passage(&self, signer: &Did) -> Passage {
        let is_party = |parties: &[String; 2]| parties.iter().any(|did| did == signer.as_str());
        match &self.session {
            _ if !self.parties.as_ref().is_none_or(is_party) => Passage::Closed(Refusal::NotAParty),
            Err(refusal) => Passage::Closed(*refusal),
            Ok(session) if session.room.is_some_and(|room| self.inserted >= room) => {
                Passage::UsedUp
            }
            Ok(_) => Passage::Open,
        }
    }
}
