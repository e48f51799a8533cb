//! Lists of sessions, newest first, in pages that start after a session rather than at an
//! offset: what is opened or ended meanwhile moves nothing into another page.

use chrono::DateTime;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Nullable, Timestamptz};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::row::SessionRow;
use crate::domain::{
    Cursor, EndReason, InvalidCursor, Page, PageFiller, PageRequest, Session, SessionFilter,
    StateFilter, Timestamp,
};
use crate::storage::Result;
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::schema::sessions;
use crate::storage::readable::readable;

#[diesel::declare_sql_function]
extern "SQL" {
    fn session_over_at(
        expires_at: Timestamptz,
        last_activity: Timestamptz,
        idle_timeout_seconds: Nullable<Integer>,
    ) -> Timestamptz;
}

impl PostgresStore {
    pub async fn list_sessions(
        &self,
        filter: &SessionFilter,
        page: &PageRequest,
    ) -> Result<Page<Session>> {
        let after = page.after.as_ref().map(position).transpose()?;
        self.read("list_sessions", async |c| {
            let listed = || {
                let mut query = sessions::table.into_boxed::<Pg>();
                if let Some(client) = &filter.client_did {
                    query = query.filter(sessions::client_did.eq(client.as_str()));
                }
                if let Some(server) = &filter.server_did {
                    query = query.filter(sessions::server_did.eq(server.as_str()));
                }
                let over_at = session_over_at(
                    sessions::expires_at,
                    sessions::last_activity,
                    sessions::idle_timeout_seconds,
                );
                let now = diesel::dsl::now.into_sql::<Timestamptz>();
                let overdue = [EndReason::Expired.as_str(), EndReason::Idle.as_str()];
                query = match filter.state {
                    StateFilter::All => query,
                    StateFilter::Active => {
                        query.filter(sessions::ended_at.is_null()).filter(over_at.gt(now))
                    }
                    StateFilter::Expired => query.filter(
                        sessions::end_reason
                            .eq_any(overdue)
                            .or(sessions::ended_at.is_null().and(over_at.le(now))),
                    ),
                    StateFilter::Ended => query.filter(sessions::end_reason.ne_all(overdue)),
                };
                query.order((sessions::created_at.desc(), sessions::id.desc()))
            };
            // Which sessions, and how long; then those that a page has room for.
            let mut places = listed().select((sessions::created_at, sessions::id, metadata_len()));
            if let Some((created_at, id)) = after {
                places = places
                    .filter(sessions::created_at.le(created_at))
                    .filter(sessions::created_at.lt(created_at).or(sessions::id.lt(id)));
            }
            let places: Vec<(Timestamp, Uuid, i32)> =
                places.limit(i64::from(page.limit) + 1).load(c).await?;
            let mut room = PageFiller::new(page.limit);
            let (mut last, mut ids) = (None, Vec::new());
            for (created_at, id, length) in &places {
                if !room.takes(usize::try_from(*length).unwrap_or(0)) {
                    break;
                }
                last = Some((created_at, id));
                ids.push(*id);
            }
            let next = last.filter(|_| ids.len() < places.len()).map(cursor_after);
            let rows = listed()
                .select(SessionRow::as_select())
                .filter(sessions::id.eq_any(&ids))
                .load::<SessionRow>(c)
                .await?;
            let items = rows.into_iter().filter_map(|row| {
                let id = row.id;
                readable(row.read(), "session", id)
            });
            Ok(Page { items: items.collect(), next })
        })
        .await
    }
}

/// The bytes of a session's metadata when it is read.
fn metadata_len() -> SqlLiteral<Integer> {
    sql("octet_length(metadata::text)")
}

fn cursor_after((created_at, id): (&Timestamp, &Uuid)) -> Cursor {
    let mut position = created_at.timestamp_micros().to_be_bytes().to_vec();
    position.extend_from_slice(id.as_bytes());
    Cursor::new(position)
}

fn position(cursor: &Cursor) -> std::result::Result<(Timestamp, Uuid), InvalidCursor> {
    let (micros, id) = cursor.position().split_first_chunk().ok_or(InvalidCursor)?;
    let created_at =
        DateTime::from_timestamp_micros(i64::from_be_bytes(*micros)).ok_or(InvalidCursor)?;
    Ok((created_at, Uuid::from_slice(id).map_err(|_| InvalidCursor)?))
}

/// A page of what was read for it with one item more, which only tells that there is more.
pub(crate) fn cut<T>(mut items: Vec<T>, limit: u32, position: impl Fn(&T) -> Vec<u8>) -> Page<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| Cursor::new(position(last)));
    Page { items, next }
}
