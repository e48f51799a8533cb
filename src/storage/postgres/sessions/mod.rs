//! One session: reading and changing it. What many callers ask at the same time (openings,
//! endings, touches, readings) is asked together.

mod endings;
pub(super) mod lists;
mod openings;
pub(super) mod row;
mod together;
mod touches;

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bytea, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use self::row::{KeyedSessionRow, SessionRow, session_columns};
use self::together::{Failed, Refusal, together_or_each};
use super::connection::statement::Prepared;
use super::count::Count;
use super::events;
use super::search::index_session;
use super::{PostgresStore, of_its_row};
use crate::domain::{
    Changed, Did, Metadata, SealedKey, Session, SessionId, SessionPatch, SessionState,
};
use crate::storage::Result;

/// By the index of live sessions.
const LIVE_OF_CLIENT: &str = "
    SELECT count(*) AS count FROM (
        SELECT 1 FROM sessions WHERE client_did = $1 AND ended_at IS NULL LIMIT $2
    ) AS live";

const READ: &str = concat!("SELECT ", session_columns!(), " FROM sessions WHERE id = ANY ($1)");

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

impl PostgresStore {
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

    pub async fn read_each(&self, ids: &[SessionId]) -> Vec<Result<Option<Session>>> {
        together_or_each(ids, |ids| self.read_together(ids)).await
    }

    async fn read_together(
        &self,
        ids: &[SessionId],
    ) -> std::result::Result<Vec<Result<Option<Session>>>, Failed> {
        let (refusal, asked) = (Refusal::default(), unique(ids.iter()));
        let work = async |c: &mut AsyncPgConnection| {
            let query = Prepared(sql_query(READ).bind::<Array<SqlUuid>, _>(&asked));
            let rows: Vec<SessionRow> = refusal.note(query.load(c).await)?;
            Ok(sessions(rows))
        };
        let found = self.read("read_sessions", work).await;
        let found = found.map_err(|error| refusal.failed(error))?;
        Ok(ids.iter().map(|id| found.get(&id.0).cloned().transpose()).collect())
    }

    pub async fn session_key(&self, id: SessionId) -> Result<Option<(Session, Option<SealedKey>)>> {
        self.read("session_key", async |c| {
            let query = Prepared(sql_query(READ_KEY).bind::<SqlUuid, _>(id.0));
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
                .bind::<SqlUuid, _>(id.0)
                .bind::<Nullable<Text>, _>(patch.metadata.as_ref().map(Metadata::as_str))
                .bind::<Nullable<Bytea>, _>(key.map(|key| key.ciphertext.as_slice()))
                .bind::<Nullable<Text>, _>(key.map(|key| key.key_id.as_str()))
                .bind::<Nullable<BigInt>, _>(patch.ttl_seconds.map(i64::from));
            let row: SessionRow = Prepared(query).get_result(c).await?;
            // Another one's words have left with it.
            if let Some(metadata) = patch.metadata.as_ref().filter(|new| **new != session.metadata)
            {
                index_session(c, id, metadata).await?;
            }
            if let Some(event) = &patch.audit {
                events::record(c, event).await?;
            }
            row.read().map(Changed::Done)
        })
        .await
    }
}

/// Each id once, in order.
fn unique<'a>(ids: impl Iterator<Item = &'a SessionId>) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> = ids.map(|id| id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The sessions by their ids. A row that cannot be read is no other's matter.
fn sessions(rows: Vec<SessionRow>) -> HashMap<Uuid, Result<Session>> {
    let read = |row: SessionRow| (row.id, row.read().map_err(|error| of_its_row(&error)));
    rows.into_iter().map(read).collect()
}

/// Locks a session that is not over, until the transaction ends; or says why not. The lock also
/// confirms what is found, see [`confirm`](super::connection::confirm).
async fn lock(
    c: &mut AsyncPgConnection,
    id: SessionId,
) -> QueryResult<std::result::Result<Session, Changed>> {
    let query = sql_query(LOCK).bind::<SqlUuid, _>(id.0);
    let row: Option<SessionRow> = Prepared(query).get_result(c).await.optional()?;
    Ok(match row.map(SessionRow::read).transpose()? {
        None => Err(Changed::NotFound),
        Some(session) if session.state() == SessionState::Active => Ok(session),
        Some(session) => Err(Changed::Over(session)),
    })
}
