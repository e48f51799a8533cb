//! Ending sessions, one or many at once. The end of a session wipes its sealed key.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::sqlite::Sqlite;
use futures_util::future::join_all;

use super::lists::ACTIVE;
use super::{changed, live};
use crate::domain::{Changed, Did, EndReason, NewEvent, Parties, Timestamp};
use crate::storage::sqlite::schema::sessions;
use crate::storage::sqlite::{SqliteStore, events};
use crate::storage::{Ending, Result};

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
}

impl SqliteStore {
    pub async fn end_each(&self, endings: &[Ending]) -> Vec<Result<Changed>> {
        let end =
            |ending: Ending| self.0.write("end_session", move |conn, now| end(conn, now, &ending));
        join_all(endings.iter().cloned().map(end)).await
    }

    pub async fn end_sessions(
        &self,
        parties: &Parties,
        reason: EndReason,
        audit: Option<NewEvent>,
        limit: u32,
    ) -> Result<u64> {
        let parties = parties.clone();
        let end = move |conn: &mut _, now| {
            end_of_parties(conn, now, &parties, reason, audit.as_ref(), limit)
        };
        self.0.write("end_sessions", end).await
    }

    pub async fn end_sessions_of_revoked(
        &self,
        did: Option<&Did>,
        audit: Option<NewEvent>,
        limit: u32,
    ) -> Result<u64> {
        let did = did.cloned();
        let end =
            move |conn: &mut _, now| end_of_revoked(conn, now, did.as_ref(), audit.as_ref(), limit);
        self.0.write("end_sessions_of_revoked", end).await
    }
}

fn end(conn: &mut SqliteConnection, now: Timestamp, ending: &Ending) -> QueryResult<Changed> {
    let Ending { id, reason, audit } = ending;
    if let Err(refused) = live(conn, now, *id)? {
        return Ok(refused);
    }
    record_end(conn, id.0.as_bytes(), now, *reason)?;
    if let Some(event) = audit {
        events::write(conn, now, event)?;
    }
    changed(conn, now, *id)
}

/// Ends one session and wipes its key.
pub(crate) fn record_end(
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

/// Ends up to `limit` live sessions of `parties`.
fn end_of_parties(
    conn: &mut SqliteConnection,
    now: Timestamp,
    parties: &Parties,
    reason: EndReason,
    event: Option<&NewEvent>,
    limit: u32,
) -> QueryResult<u64> {
    let micros = now.timestamp_micros();
    let mut query = diesel::sql_query("SELECT s.id FROM sessions s WHERE ")
        .into_boxed::<Sqlite>()
        .sql(ACTIVE)
        .bind::<BigInt, _>(micros)
        .bind::<BigInt, _>(micros);
    if let Some(did) = &parties.client_did {
        query = query.sql(" AND s.client_did = ?").bind::<Text, _>(did.as_str());
    }
    if let Some(did) = &parties.server_did {
        query = query.sql(" AND s.server_did = ?").bind::<Text, _>(did.as_str());
    }
    if parties.client_did.is_none() && parties.server_did.is_none() {
        query = query.sql(" AND FALSE");
    }
    let live = query.sql(" LIMIT ?").bind::<BigInt, _>(i64::from(limit)).load(conn)?;
    end_all(conn, now, live, reason, event)
}

/// Ends up to `limit` live sessions with a revoked party: any, or `did`.
fn end_of_revoked(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: Option<&Did>,
    event: Option<&NewEvent>,
    limit: u32,
) -> QueryResult<u64> {
    let micros = now.timestamp_micros();
    let mut query = diesel::sql_query("SELECT id FROM (").into_boxed::<Sqlite>();
    // CROSS JOIN fixes the order: from the few revoked DIDs to the live sessions of each.
    for (before, party) in [("", "client_did"), (" UNION ", "server_did")] {
        query = query
            .sql(before)
            .sql("SELECT s.id FROM dids d CROSS JOIN sessions s ON s.")
            .sql(party)
            .sql(" = d.did WHERE d.revoked = 1 AND ")
            .sql(ACTIVE)
            .bind::<BigInt, _>(micros)
            .bind::<BigInt, _>(micros);
        if let Some(did) = did {
            query = query.sql(" AND d.did = ?").bind::<Text, _>(did.as_str());
        }
    }
    let live = query.sql(") LIMIT ?").bind::<BigInt, _>(i64::from(limit)).load(conn)?;
    end_all(conn, now, live, EndReason::DidRevoked, event)
}

/// Ends these sessions. If there are any, writes the event with their number.
fn end_all(
    conn: &mut SqliteConnection,
    now: Timestamp,
    ids: Vec<IdRow>,
    reason: EndReason,
    event: Option<&NewEvent>,
) -> QueryResult<u64> {
    let mut ended: u64 = 0;
    for IdRow { id } in ids {
        record_end(conn, &id, now, reason)?;
        ended += 1;
    }
    if let Some(event) = event.filter(|_| ended > 0) {
        let mut event = event.clone();
        event.data.add("sessions", ended.into());
        events::write(conn, now, &event)?;
    }
    Ok(ended)
}
