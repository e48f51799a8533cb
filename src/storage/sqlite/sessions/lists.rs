//! Lists of sessions, newest first.

use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Text};
use diesel::sqlite::Sqlite;

use super::row::SessionRow;
use crate::domain::{
    Cursor, InvalidCursor, Page, PageFiller, PageRequest, Session, SessionFilter, SessionId,
    StateFilter, Timestamp,
};
use crate::storage::Result;
use crate::storage::readable::readable;
use crate::storage::sqlite::SqliteStore;
use crate::storage::sqlite::schema::sessions;

/// The session `s` is not over at the time of each `?`. The same rule as the domain's
/// `Lifetime::state`.
pub(super) const ACTIVE: &str =
    "(s.ended_at IS NULL AND s.expires_at > ? AND (s.idle_timeout_seconds IS NULL
    OR s.last_activity + s.idle_timeout_seconds * 1000000
        + min(5000000, s.idle_timeout_seconds * 100000) > ?))";

impl SqliteStore {
    pub async fn list_sessions(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
    ) -> Result<Page<Session>> {
        let (filter, limit) = (filter.clone(), page.limit);
        let after = page.after.as_ref().map(Position::try_from).transpose()?;
        let list = move |conn: &mut _, now| list(conn, now, &filter, after.as_ref(), limit);
        self.0.read("list_sessions", list).await
    }
}

/// A session as lists have it.
pub(crate) fn listed(
    conn: &mut SqliteConnection,
    now: Timestamp,
    id: SessionId,
) -> QueryResult<Option<Session>> {
    let row = sessions::table.find(id.0.as_bytes().as_slice()).select(SessionRow::as_select());
    let row = row.get_result(conn).optional()?;
    Ok(row.and_then(|row| readable(row.read(now), "session", id)))
}

/// Sessions, newest first.
fn list(
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
    // Row by row, so that rows beyond the page are not read.
    let rows = query
        .sql(" ORDER BY s.created_at DESC, s.id DESC LIMIT ?")
        .bind::<BigInt, _>(i64::from(limit) + 1)
        .load_iter::<SessionRow, DefaultLoadingMode>(conn)?;
    let mut room = PageFiller::new(limit);
    let (mut items, mut last, mut next) = (Vec::new(), None, None);
    for row in rows {
        let row = row?;
        if !room.takes(row.metadata_len()) {
            next = last.map(cursor_after);
            break;
        }
        let position = row.position();
        let id = base16ct::lower::encode_string(&position.1);
        last = Some(position);
        items.extend(readable(row.read(now), "session", id));
    }
    Ok(Page { items, next })
}

/// The end of a page: the creation time and id of its last session.
pub(crate) struct Position {
    created_at: i64,
    id: [u8; 16],
}

impl TryFrom<&Cursor> for Position {
    type Error = InvalidCursor;

    fn try_from(cursor: &Cursor) -> std::result::Result<Self, InvalidCursor> {
        let (created_at, id) = cursor.position().split_first_chunk().ok_or(InvalidCursor)?;
        let id = id.try_into().map_err(|_| InvalidCursor)?;
        Ok(Self { created_at: i64::from_be_bytes(*created_at), id })
    }
}

fn cursor_after((created_at, id): (i64, Vec<u8>)) -> Cursor {
    let mut bytes = created_at.to_be_bytes().to_vec();
    bytes.extend(id);
    Cursor::new(bytes)
}
