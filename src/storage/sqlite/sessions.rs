//! Sessions: opening, reading, changing and ending them, one transaction each.

use std::net::IpAddr;

use chrono::Duration;
use diesel::prelude::*;

use crate::domain::{
    AuditEvent, EndReason, NewSession, SealedKey, Session, SessionId, SessionPatch, SessionState,
    Timestamp, activity_granularity,
};
use crate::storage::{Changed, Opened};

use super::audit;
use super::dids::is_revoked;
use super::schema::sessions;
use super::types::{
    did, end_reason, number, optional_timestamp, stored, timestamp, unreadable, uuid,
};

/// Everything of a session but its key.
#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = sessions)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
pub(super) struct SessionRow {
    id: Vec<u8>,
    client_did: String,
    server_did: String,
    created_at: i64,
    expires_at: i64,
    deadline: i64,
    last_activity: i64,
    idle_timeout_seconds: Option<i64>,
    max_claims: Option<i64>,
    claims: i64,
    metadata: String,
    user_agent: Option<String>,
    ip_address: Option<String>,
    ended_at: Option<i64>,
    end_reason: Option<String>,
    version: i64,
}

impl SessionRow {
    pub(super) fn read(self, observed_at: Timestamp) -> QueryResult<Session> {
        let ip_address: Option<IpAddr> = self
            .ip_address
            .map(|text| text.parse().map_err(|_| unreadable("IP address")))
            .transpose()?;
        Ok(Session {
            id: SessionId(uuid(&self.id)?),
            client_did: did(&self.client_did)?,
            server_did: did(&self.server_did)?,
            created_at: timestamp(self.created_at)?,
            expires_at: timestamp(self.expires_at)?,
            deadline: timestamp(self.deadline)?,
            last_activity: timestamp(self.last_activity)?,
            idle_timeout_seconds: self.idle_timeout_seconds.map(number).transpose()?,
            max_claims: self.max_claims.map(number).transpose()?,
            claims: number(self.claims)?,
            metadata: serde_json::from_str(&self.metadata)
                .map_err(|_| unreadable("metadata object"))?,
            user_agent: self.user_agent,
            ip_address,
            ended_at: optional_timestamp(self.ended_at)?,
            end_reason: end_reason(self.end_reason.as_deref())?,
            version: self.version,
            observed_at,
        })
    }
}

fn object(metadata: &serde_json::Map<String, serde_json::Value>) -> QueryResult<String> {
    serde_json::to_string(metadata)
        .map_err(|e| diesel::result::Error::SerializationError(Box::new(e)))
}

/// No revocation can come between the check and the insert: there is one writer.
pub(super) fn open(
    conn: &mut SqliteConnection,
    now: Timestamp,
    new: &NewSession,
) -> QueryResult<Opened> {
    for party in [&new.client_did, &new.server_did] {
        if is_revoked(conn, party)? {
            return Ok(Opened::Revoked(party.clone()));
        }
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
            sessions::metadata.eq(object(&new.metadata)?),
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
    find(conn, now, new.id)?.map(Opened::Created).ok_or(diesel::result::Error::NotFound)
}

pub(super) fn find(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: SessionId,
) -> QueryResult<Option<Session>> {
    sessions::table
        .find(id.0.as_bytes().as_slice())
        .select(SessionRow::as_select())
        .first(conn)
        .optional()?
        .map(|row| row.read(now))
        .transpose()
}

pub(super) fn find_with_key(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: SessionId,
) -> QueryResult<Option<(Session, Option<SealedKey>)>> {
    let row: Option<(SessionRow, Option<String>, Option<Vec<u8>>)> = sessions::table
        .find(id.0.as_bytes().as_slice())
        .select((SessionRow::as_select(), sessions::key_id, sessions::session_key))
        .first(conn)
        .optional()?;
    let Some((row, key_id, ciphertext)) = row else { return Ok(None) };
    let key = key_id.zip(ciphertext).map(|(key_id, ciphertext)| SealedKey { key_id, ciphertext });
    Ok(Some((row.read(now)?, key)))
}

pub(super) fn update(
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
        // The expiry stays after the creation even if the machine's clock was set back.
        .map(|at| at.max(session.created_at + Duration::microseconds(1)))
        .map(|at| at.timestamp_micros());
    // Without a value a column is left out, and keeps what it has.
    diesel::update(sessions::table.find(id.0.as_bytes().as_slice()))
        .set((
            patch.metadata.as_ref().map(object).transpose()?.map(|m| sessions::metadata.eq(m)),
            patch.session_key.as_ref().map(|key| {
                (sessions::session_key.eq(&key.ciphertext), sessions::key_id.eq(&key.key_id))
            }),
            expires_at.map(|at| sessions::expires_at.eq(at)),
            sessions::version.eq(sessions::version + 1),
        ))
        .execute(conn)?;
    changed(conn, now, id)
}

pub(super) fn touch(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: SessionId,
) -> QueryResult<Changed> {
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

pub(super) fn end(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: SessionId,
    reason: EndReason,
    event: Option<&AuditEvent>,
) -> QueryResult<Changed> {
    if let Err(refused) = live(conn, now, id)? {
        return Ok(refused);
    }
    record_end(conn, id.0.as_bytes(), now, reason)?;
    if let Some(event) = event {
        audit::write(conn, now, event)?;
    }
    changed(conn, now, id)
}

/// Ends one session and wipes its key.
pub(super) fn record_end(
    conn: &mut SqliteConnection,
    id: &[u8],
    at: Timestamp,
    reason: EndReason,
) -> QueryResult<()> {
    diesel::update(sessions::table.find(id))
        .set((
            sessions::ended_at.eq(at.timestamp_micros()),
            sessions::end_reason.eq(reason.as_str()),
            sessions::session_key.eq(None::<Vec<u8>>),
            sessions::key_id.eq(None::<String>),
            sessions::version.eq(sessions::version + 1),
        ))
        .execute(conn)?;
    Ok(())
}

/// The session, if it can be changed; else the answer that says why not.
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
