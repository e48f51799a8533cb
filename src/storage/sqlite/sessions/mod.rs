//! One session: opening, reading, changing and touching it. Each change is a write of its own; the
//! writer's thread groups those that wait for it.

pub(super) mod endings;
pub(super) mod lists;
mod row;

use chrono::Duration;
use diesel::prelude::*;
use futures_util::future::join_all;

use self::row::SessionRow;
use super::connection::errors::store_error;
use super::dids::is_revoked;
use super::schema::sessions;
use super::types::stored;
use super::words::index_session;
use super::{SqliteStore, events, history};
use crate::domain::{
    Changed, Did, NewSession, Opened, SealedKey, Session, SessionId, SessionPatch, SessionState,
    Timestamp, activity_granularity,
};
use crate::storage::{History, Result};

impl SqliteStore {
    pub async fn open_each(&self, new: &[NewSession]) -> Vec<Result<Opened>> {
        let open =
            |new: NewSession| self.0.write("open_session", move |conn, now| open(conn, now, &new));
        join_all(new.iter().cloned().map(open)).await
    }

    pub async fn live_sessions(&self, client: &Did, at_most: u32) -> Result<u32> {
        let client = client.clone();
        let count = move |conn: &mut _, _| live_of_client(conn, &client, at_most);
        self.0.read("live_sessions", count).await
    }

    pub async fn read_each(&self, ids: &[SessionId]) -> Vec<Result<Option<Session>>> {
        let asked = ids.to_vec();
        let find_each = move |conn: &mut _, now| {
            let found = asked.into_iter().map(|id| find(conn, now, id));
            Ok(found.map(|found| found.map_err(|error| store_error(&error))).collect())
        };
        let found: Result<Vec<_>> = self.0.read("session", find_each).await;
        found.unwrap_or_else(|error| ids.iter().map(|_| Err(error.clone())).collect())
    }

    pub async fn session_key(&self, id: SessionId) -> Result<Option<(Session, Option<SealedKey>)>> {
        self.0.read("session_key", move |conn, now| find_with_key(conn, now, id)).await
    }

    pub async fn update_session(&self, id: SessionId, patch: SessionPatch) -> Result<Changed> {
        self.0.write("update_session", move |conn, now| update(conn, now, id, &patch)).await
    }

    pub async fn touch_each(&self, ids: &[SessionId]) -> Vec<Result<Changed>> {
        let touch = |id| self.0.write("touch_session", move |conn, now| touch(conn, now, id));
        join_all(ids.iter().copied().map(touch)).await
    }
}

/// Counts by the index of live sessions, up to `at_most`.
fn live_of_client(conn: &mut SqliteConnection, client: &Did, at_most: u32) -> QueryResult<u32> {
    let live = sessions::client_did.eq(client.as_str()).and(sessions::ended_at.is_null());
    let live: Vec<i64> = sessions::table
        .filter(live)
        .order(sessions::created_at)
        .select(sessions::created_at)
        .limit(at_most.into())
        .load(conn)?;
    Ok(u32::try_from(live.len()).unwrap_or(at_most))
}

/// The longest that a session lasts.
const LONGEST: Duration = Duration::days(1);

/// With only one writer, no revocation can come between the check and the insert.
fn open(conn: &mut SqliteConnection, now: Timestamp, new: &NewSession) -> QueryResult<Opened> {
    for party in [&new.client_did, &new.server_did] {
        if is_revoked(conn, party)? {
            return Ok(Opened::Revoked(party.clone()));
        }
    }
    if new.id_is_chosen
        && let Some(refused) = refused_id(&history::read(conn)?, now, new)
    {
        return Ok(if find(conn, now, new.id)?.is_some() { Opened::Exists } else { refused });
    }
    let after = |seconds: u32| (now + Duration::seconds(i64::from(seconds))).timestamp_micros();
    let created = diesel::insert_into(sessions::table)
        .values((
            sessions::id.eq(new.id.0.as_bytes().as_slice()),
            sessions::client_did.eq(new.client_did.as_str()),
            sessions::server_did.eq(new.server_did.as_str()),
            sessions::session_key.eq(new.session_key.as_ref().map(|key| &key.ciphertext)),
            sessions::key_id.eq(new.session_key.as_ref().map(|key| &key.key_id)),
            sessions::created_at.eq(now.timestamp_micros()),
            sessions::expires_at.eq(after(new.ttl_seconds)),
            sessions::deadline.eq(after(new.max_ttl_seconds)),
            sessions::last_activity.eq(now.timestamp_micros()),
            sessions::idle_timeout_seconds.eq(new.idle_timeout_seconds.map(i64::from)),
            sessions::max_claims.eq(new.max_claims.map(stored)),
            sessions::claims.eq(0),
            sessions::metadata.eq(new.metadata.as_str()),
            sessions::user_agent.eq(new.user_agent.as_ref()),
            sessions::ip_address.eq(new.ip_address.map(|ip| ip.to_string())),
            sessions::version.eq(1),
        ))
        .on_conflict(sessions::id)
        .do_nothing()
        .execute(conn)?;
    if created == 0 {
        return Ok(Opened::Exists);
    }
    index_session(conn, new.id.0.as_bytes(), &new.metadata)?;
    find(conn, now, new.id)?.map(Opened::Created).ok_or(diesel::result::Error::NotFound)
}

/// Why the id that the caller chose may not be used: an id that says that it was made later than
/// now, so that an id that is newer than a recovery was never used before it; or one that may have
/// been used in the past that the database lost, as long as it would still be refused if it had
/// not.
fn refused_id(history: &History, now: Timestamp, new: &NewSession) -> Option<Opened> {
    let made_at = new.id.made_at();
    if made_at.is_some_and(|made_at| made_at > now + history.skew) {
        return Some(Opened::Ahead);
    }
    let not_before = history.not_before.max(history.ahead_until)?;
    let kept = LONGEST + Duration::seconds(i64::from(new.retention_seconds));
    let may_be_old = made_at.is_none_or(|made_at| made_at <= not_before);
    (may_be_old && now <= not_before + kept).then_some(Opened::BeforeRestore)
}

pub(super) fn find(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: SessionId,
) -> QueryResult<Option<Session>> {
    sessions::table
        .find(id.0.as_bytes().as_slice())
        .select(SessionRow::as_select())
        .get_result(conn)
        .optional()?
        .map(|row| row.read(now))
        .transpose()
}

fn find_with_key(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: SessionId,
) -> QueryResult<Option<(Session, Option<SealedKey>)>> {
    let row: Option<(SessionRow, Option<String>, Option<Vec<u8>>)> = sessions::table
        .find(id.0.as_bytes().as_slice())
        .select((SessionRow::as_select(), sessions::key_id, sessions::session_key))
        .get_result(conn)
        .optional()?;
    let Some((row, key_id, ciphertext)) = row else { return Ok(None) };
    let key = key_id.zip(ciphertext).map(|(key_id, ciphertext)| SealedKey { key_id, ciphertext });
    Ok(Some((row.read(now)?, key)))
}

fn update(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: SessionId,
    patch: &SessionPatch,
) -> QueryResult<Changed> {
    let session = match live(conn, now, id)? {
        Ok(session) => session,
        Err(refused) => return Ok(refused),
    };
    if patch.expected_version.is_some_and(|version| version != session.version) {
        return Ok(Changed::VersionMismatch(session));
    }
    let expires_at = patch
        .ttl_seconds
        .map(|ttl| (now + Duration::seconds(i64::from(ttl))).min(session.deadline))
        // Keeps the expiry after the creation, even when the machine's clock was set back.
        .map(|at| at.max(session.created_at + Duration::microseconds(1)))
        .map(|at| at.timestamp_micros());
    // A column without a new value is left out, and keeps its value.
    diesel::update(sessions::table.find(id.0.as_bytes().as_slice()))
        .set((
            patch.metadata.as_ref().map(|metadata| sessions::metadata.eq(metadata.as_str())),
            patch.session_key.as_ref().map(|key| {
                (sessions::session_key.eq(&key.ciphertext), sessions::key_id.eq(&key.key_id))
            }),
            expires_at.map(|at| sessions::expires_at.eq(at)),
            sessions::version.eq(sessions::version + 1),
        ))
        .execute(conn)?;
    // Another one's words have left with it.
    if let Some(metadata) = patch.metadata.as_ref().filter(|new| **new != session.metadata) {
        index_session(conn, id.0.as_bytes(), metadata)?;
    }
    if let Some(event) = &patch.audit {
        events::write(conn, now, event)?;
    }
    changed(conn, now, id)
}

fn touch(conn: &mut SqliteConnection, now: Timestamp, id: SessionId) -> QueryResult<Changed> {
    let session = match live(conn, now, id)? {
        Ok(session) => session,
        Err(refused) => return Ok(refused),
    };
    if now - session.last_activity <= activity_granularity(session.idle_timeout_seconds) {
        return Ok(Changed::Done(session));
    }
    diesel::update(sessions::table.find(id.0.as_bytes().as_slice()))
        .set(sessions::last_activity.eq(now.timestamp_micros()))
        .execute(conn)?;
    changed(conn, now, id)
}

/// The session, if it can be changed; else the outcome that says why not.
fn live(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: SessionId,
) -> QueryResult<std::result::Result<Session, Changed>> {
    Ok(match find(conn, now, id)? {
        None => Err(Changed::NotFound),
        Some(session) if session.state() == SessionState::Active => Ok(session),
        Some(session) => Err(Changed::Over(session)),
    })
}

fn changed(conn: &mut SqliteConnection, now: Timestamp, id: SessionId) -> QueryResult<Changed> {
    Ok(find(conn, now, id)?.map_or(Changed::NotFound, Changed::Done))
}
