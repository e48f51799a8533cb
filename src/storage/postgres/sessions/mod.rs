//! One session: opening, reading, changing, touching.

mod endings;
pub(super) mod lists;
pub(super) mod row;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bytea, Inet, Integer, Nullable, Text, Uuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;

use self::row::{KeyedSessionRow, SessionRow, did, session_columns};
use super::PostgresStore;
use super::audit;
use super::connection::confirm::confirm;
use super::connection::statement::Prepared;
use super::purge::Count;
use crate::domain::{
    Changed, Did, Metadata, NewSession, Opened, SealedKey, Session, SessionId, SessionPatch,
    SessionState,
};
use crate::storage::Result;

/// Shared locks on the parties, always in the same order. Whoever revokes one takes it
/// exclusively, so what the next statement sees of them holds until this transaction ends.
const LOCK_PARTIES: &str = "
    SELECT pg_advisory_xact_lock_shared(party)
    FROM (
        SELECT DISTINCT hashtextextended(did, 0) AS party
        FROM unnest($1) AS parties (did) ORDER BY party
    ) AS ordered";

/// The client comes first, should both be revoked.
const REVOKED_PARTY: &str = "
    SELECT did FROM unnest($1) WITH ORDINALITY AS parties (did, place)
    JOIN dids USING (did) WHERE revoked ORDER BY place LIMIT 1";

const OPEN: &str = concat!(
    "INSERT INTO sessions (
         id, client_did, server_did, session_key, key_id, created_at, expires_at, deadline,
         last_activity, idle_timeout_seconds, max_claims, metadata, user_agent, ip_address
     )
     VALUES (
         $1, $2, $3, $4, $5, now(), now() + least($6, $7) * interval '1 second',
         now() + $7 * interval '1 second', now(), $8, $9, $10::jsonb, $11, $12
     )
     ON CONFLICT (id) DO NOTHING
     RETURNING ",
    session_columns!()
);

/// By the index of live sessions.
const LIVE_OF_CLIENT: &str = "
    SELECT count(*) AS count FROM (
        SELECT 1 FROM sessions WHERE client_did = $1 AND ended_at IS NULL LIMIT $2
    ) AS live";

const READ: &str = concat!("SELECT ", session_columns!(), " FROM sessions WHERE id = $1");

const READ_KEY: &str =
    concat!("SELECT session_key, key_id, ", session_columns!(), " FROM sessions WHERE id = $1");

const LOCK: &str =
    concat!("SELECT ", session_columns!(), " FROM sessions WHERE id = $1 FOR NO KEY UPDATE");

/// The expiry stays after the creation even if the database's clock was set back.
const CHANGE: &str = concat!(
    "UPDATE sessions SET
         metadata = coalesce($2::jsonb, metadata),
         session_key = coalesce($3, session_key),
         key_id = coalesce($4, key_id),
         expires_at = CASE WHEN $5 IS NULL THEN expires_at ELSE greatest(
             least(now() + $5 * interval '1 second', deadline),
             created_at + interval '1 microsecond'
         ) END,
         version = version + 1
     WHERE id = $1
     RETURNING ",
    session_columns!()
);

const TOUCH: &str = concat!(
    "UPDATE sessions SET last_activity = now()
     WHERE id = $1 AND ended_at IS NULL
         AND session_over_at(expires_at, last_activity, idle_timeout_seconds) > now()
         AND last_activity < now() - session_granularity(idle_timeout_seconds)
     RETURNING ",
    session_columns!()
);

#[derive(QueryableByName)]
struct Party {
    #[diesel(sql_type = Text)]
    did: String,
}

impl PostgresStore {
    pub async fn open_session(&self, new: NewSession) -> Result<Opened> {
        self.transaction("open_session", async |c| open(c, &new).await).await
    }

    pub async fn live_sessions(&self, client: &Did, at_most: u32) -> Result<u32> {
        self.read("live_sessions", async |c| {
            let query = sql_query(LIVE_OF_CLIENT)
                .bind::<Text, _>(client.as_str())
                .bind::<BigInt, _>(i64::from(at_most));
            let live: Count = Prepared(query).get_result(c).await?;
            Ok(u32::try_from(live.count).unwrap_or(at_most))
        })
        .await
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        self.read("session", async |c| find(c, id, READ).await).await
    }

    pub async fn session_key(&self, id: SessionId) -> Result<Option<(Session, Option<SealedKey>)>> {
        self.read("session_key", async |c| {
            let query = Prepared(sql_query(READ_KEY).bind::<Uuid, _>(id.0));
            let row: Option<KeyedSessionRow> = query.get_result(c).await.optional()?;
            row.map(|row| Ok((row.session.read()?, row.key.read()))).transpose()
        })
        .await
    }

    pub async fn update_session(&self, id: SessionId, patch: SessionPatch) -> Result<Changed> {
        self.transaction("update_session", async |c| {
            let session = match lock(c, id).await? {
                Ok(session) => session,
                Err(refused) => return Ok(refused),
            };
            if patch.expected_version.is_some_and(|version| version != session.version) {
                return Ok(Changed::VersionMismatch(session));
            }
            let key = patch.session_key.as_ref();
            let query = sql_query(CHANGE)
                .bind::<Uuid, _>(id.0)
                .bind::<Nullable<Text>, _>(patch.metadata.as_ref().map(Metadata::as_str))
                .bind::<Nullable<Bytea>, _>(key.map(|key| key.ciphertext.as_slice()))
                .bind::<Nullable<Text>, _>(key.map(|key| key.key_id.as_str()))
                .bind::<Nullable<BigInt>, _>(patch.ttl_seconds.map(i64::from));
            let row: SessionRow = Prepared(query).get_result(c).await?;
            if let Some(event) = &patch.audit {
                audit::record(c, event).await?;
            }
            row.read().map(Changed::Done)
        })
        .await
    }

    pub async fn touch_session(&self, id: SessionId) -> Result<Changed> {
        self.write("touch_session", async |c| {
            let session = match find(c, id, TOUCH).await? {
                Some(session) => Some(session),
                // Over, not there, or active so recently that nothing needs writing.
                None => find(c, id, READ).await?,
            };
            Ok(match session {
                None => Changed::NotFound,
                Some(session) if session.state() == SessionState::Active => Changed::Done(session),
                Some(session) => Changed::Over(session),
            })
        })
        .await
    }
}

async fn open(c: &mut AsyncPgConnection, new: &NewSession) -> QueryResult<Opened> {
    let parties = vec![new.client_did.as_str(), new.server_did.as_str()];
    Prepared(sql_query(LOCK_PARTIES).bind::<Array<Text>, _>(&parties)).execute(c).await?;
    let revoked = Prepared(sql_query(REVOKED_PARTY).bind::<Array<Text>, _>(&parties));
    if let Some(Party { did: revoked }) = revoked.get_result(c).await.optional()? {
        confirm(c).await?;
        return did(&revoked).map(Opened::Revoked);
    }
    let key = new.session_key.as_ref();
    // What is too large to be reached is as good as the largest number.
    let idle_timeout = new.idle_timeout_seconds.map(|n| i32::try_from(n).unwrap_or(i32::MAX));
    let max_claims = new.max_claims.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    let query = sql_query(OPEN)
        .bind::<Uuid, _>(new.id.0)
        .bind::<Text, _>(new.client_did.as_str())
        .bind::<Text, _>(new.server_did.as_str())
        .bind::<Nullable<Bytea>, _>(key.map(|key| key.ciphertext.as_slice()))
        .bind::<Nullable<Text>, _>(key.map(|key| key.key_id.as_str()))
        .bind::<BigInt, _>(i64::from(new.ttl_seconds))
        .bind::<BigInt, _>(i64::from(new.max_ttl_seconds))
        .bind::<Nullable<Integer>, _>(idle_timeout)
        .bind::<Nullable<BigInt>, _>(max_claims)
        .bind::<Text, _>(new.metadata.as_str())
        .bind::<Nullable<Text>, _>(new.user_agent.as_deref())
        .bind::<Nullable<Inet>, _>(new.ip_address.map(IpNet::from));
    let row: Option<SessionRow> = Prepared(query).get_result(c).await.optional()?;
    match row {
        Some(row) => row.read().map(Opened::Created),
        None => confirm(c).await.map(|()| Opened::Exists),
    }
}

async fn find(
    c: &mut AsyncPgConnection,
    id: SessionId,
    statement: &'static str,
) -> QueryResult<Option<Session>> {
    let query = Prepared(sql_query(statement).bind::<Uuid, _>(id.0));
    let row: Option<SessionRow> = query.get_result(c).await.optional()?;
    row.map(SessionRow::read).transpose()
}

/// Locks a session that is not over, until the transaction ends; or says why not. The lock also
/// confirms what is found, see [`confirm`](super::connection::confirm).
pub(super) async fn lock(
    c: &mut AsyncPgConnection,
    id: SessionId,
) -> QueryResult<std::result::Result<Session, Changed>> {
    Ok(match find(c, id, LOCK).await? {
        None => Err(Changed::NotFound),
        Some(session) if session.state() == SessionState::Active => Ok(session),
        Some(session) => Err(Changed::Over(session)),
    })
}
