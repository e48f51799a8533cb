//! Many sessions at once: lists of them, and ending all of a party's.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::sqlite::Sqlite;
use serde_json::Value;

use crate::domain::{
    AuditEvent, Cursor, Did, EndReason, InvalidCursor, Page, Session, SessionFilter, StateFilter,
    Timestamp,
};
use crate::storage::Parties;

use super::audit;
use super::sessions::{SessionRow, record_end};

/// Not over at the time that is bound to each `?`; `s` is the session. The same rule as the
/// domain's `Lifetime::state`.
const ACTIVE: &str = "(s.ended_at IS NULL AND s.expires_at > ? AND (s.idle_timeout_seconds IS NULL
    OR s.last_activity + s.idle_timeout_seconds * 1000000
        + min(5000000, s.idle_timeout_seconds * 100000) > ?))";

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
}

/// Sessions, newest first.
pub(super) fn list(
    conn: &mut SqliteConnection,
    now: Timestamp,
    filter: &SessionFilter,
    after: Option<&Position>,
    limit: u32,
) -> QueryResult<Page<Session>> {
    let micros = now.timestamp_micros();
    let mut query = diesel::sql_query("SELECT s.* FROM sessions s WHERE ").into_boxed::<Sqlite>();
    query = match filter.state {
        StateFilter::Active => {
            query.sql(ACTIVE).bind::<BigInt, _>(micros).bind::<BigInt, _>(micros)
        }
        StateFilter::Ended => query
            .sql("s.ended_at IS NOT NULL AND s.end_reason IN ('ended', 'did_revoked', 'restored')"),
        StateFilter::Expired => query
            .sql("(s.ended_at IS NULL OR s.end_reason IN ('expired', 'idle')) AND NOT ")
            .sql(ACTIVE)
            .bind::<BigInt, _>(micros)
            .bind::<BigInt, _>(micros),
        StateFilter::All => query.sql("TRUE"),
    };
    if let Some(did) = &filter.client_did {
        query = query.sql(" AND s.client_did = ?").bind::<Text, _>(did.as_str());
    }
    if let Some(did) = &filter.server_did {
        query = query.sql(" AND s.server_did = ?").bind::<Text, _>(did.as_str());
    }
    if let Some(Position { created_at, id }) = after {
        query = query
            .sql(" AND (s.created_at, s.id) < (?, ?)")
            .bind::<BigInt, _>(*created_at)
            .bind::<Binary, _>(id.as_slice());
    }
    let rows: Vec<SessionRow> = query
        .sql(" ORDER BY s.created_at DESC, s.id DESC LIMIT ?")
        .bind::<BigInt, _>(i64::from(limit) + 1)
        .load(conn)?;
    let mut items =
        rows.into_iter().map(|row| row.read(now)).collect::<QueryResult<Vec<Session>>>()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(cursor_after);
    Ok(Page { items, next })
}

/// Where a page ended: the creation time and id of its last session.
pub(super) struct Position {
    created_at: i64,
    id: [u8; 16],
}

impl TryFrom<&Cursor> for Position {
    type Error = InvalidCursor;

    fn try_from(cursor: &Cursor) -> Result<Self, InvalidCursor> {
        let (created_at, id) = cursor.position().split_first_chunk().ok_or(InvalidCursor)?;
        let id = id.try_into().map_err(|_| InvalidCursor)?;
        Ok(Self { created_at: i64::from_be_bytes(*created_at), id })
    }
}

fn cursor_after(session: &Session) -> Cursor {
    let mut bytes = session.created_at.timestamp_micros().to_be_bytes().to_vec();
    bytes.extend_from_slice(session.id.0.as_bytes());
    Cursor::new(bytes)
}

/// Ends up to `limit` live sessions of `parties`.
pub(super) fn end_of_parties(
    conn: &mut SqliteConnection,
    now: Timestamp,
    parties: &Parties,
    reason: EndReason,
    event: Option<&AuditEvent>,
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
pub(super) fn end_of_revoked(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: Option<&Did>,
    event: Option<&AuditEvent>,
    limit: u32,
) -> QueryResult<u64> {
    let micros = now.timestamp_micros();
    let mut query = diesel::sql_query("SELECT id FROM (").into_boxed::<Sqlite>();
    // CROSS JOIN keeps the order: from the few revoked DIDs to the live sessions of each.
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

/// Ends these sessions, and writes the event, with the count, if there are any.
fn end_all(
    conn: &mut SqliteConnection,
    now: Timestamp,
    ids: Vec<IdRow>,
    reason: EndReason,
    event: Option<&AuditEvent>,
) -> QueryResult<u64> {
    let mut ended: u64 = 0;
    for IdRow { id } in ids {
        record_end(conn, &id, now, reason)?;
        ended += 1;
    }
    if let Some(event) = event.filter(|_| ended > 0) {
        let mut event = event.clone();
        if let Value::Object(detail) = &mut event.detail {
            detail.insert("sessions".into(), ended.into());
        }
        audit::write(conn, now, &event)?;
    }
    Ok(ended)
}
