//! The purge of callers' events: it empties those past their retention, as an erasure does. A reader
//! walks along them, a bounded number at a time, and wakes the writer only for those to empty. The
//! writer's transaction leaves an event that names them.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool};

use crate::domain::{Cursor, OWN_SOURCE, PURGED_BATCH, Timestamp};
use crate::storage::purge::{LOOKED_AT, OldEvents, OldPlace, as_linked, events_purged};
use crate::storage::sqlite::SqliteStore;
use crate::storage::sqlite::erasure::empty;
use crate::storage::sqlite::events::{LinkedRow, write_linked};
use crate::storage::sqlite::schema::events;
use crate::storage::sqlite::types::{before, number, stored};
use crate::storage::{PurgeBatch, Purged, Result};

/// Events of callers written before `?1`, and whether a webhook needs them: it hears them, has not been
/// given them, and they are no older than `?2`; or it was given them since then, in vain so far.
macro_rules! old_events {
    () => {
        "SELECT at, sequence,
            (
                at >= ?2 AND EXISTS (
                    SELECT 1 FROM webhooks AS w
                    WHERE w.last_sequence < e.sequence AND EXISTS (
                        SELECT 1 FROM json_each(w.types) AS heard WHERE heard.value IN ('*', e.type)
                    )
                )
            ) OR EXISTS (
                SELECT 1 FROM webhooks AS w
                JOIN webhook_deliveries AS d ON d.webhook = w.id AND d.sequence = e.sequence
                WHERE d.state <> 'delivered' AND d.created_at >= ?2
            ) AS needed
        FROM events AS e INDEXED BY events_callers
        WHERE source <> 'onceguard' AND sequence IS NOT NULL AND at < ?1"
    };
}

const OLD: &str =
    concat!(old_events!(), " AND (at, sequence) > (?3, ?4) ORDER BY at, sequence LIMIT ?5");

/// What the purge would empty, beside what it would delete.
const PREVIEW: &str = concat!(
    "SELECT count(*) AS count FROM (",
    old_events!(),
    " AND sequence > ?3) WHERE NOT needed"
);

#[derive(QueryableByName)]
struct OldEvent {
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = Bool)]
    needed: bool,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

impl SqliteStore {
    /// Empties up to `limit` of the next events after `from`: those that no webhook needs.
    pub(super) async fn empty_events(
        &self,
        retention: Duration,
        undelivered: Duration,
        from: &Cursor,
        limit: u32,
    ) -> Result<PurgeBatch> {
        let (from, limit) = (OldPlace::of(from), limit.min(PURGED_BATCH));
        let find = move |conn: &mut _, now| find(conn, now, retention, undelivered, from, limit);
        let OldEvents { due, next } = self.0.read("find_old_events", find).await?;
        let events_emptied = if due.is_empty() {
            0
        } else {
            self.0.write("purge", move |conn, now| empty_due(conn, now, &due)).await?
        };
        Ok(PurgeBatch { purged: Purged { events_emptied, ..Purged::default() }, next })
    }
}

fn find(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
    undelivered: Duration,
    from: OldPlace,
    limit: u32,
) -> QueryResult<OldEvents> {
    let old: Vec<OldEvent> = diesel::sql_query(OLD)
        .bind::<BigInt, _>(before(now, retention))
        .bind::<BigInt, _>(before(now, undelivered))
        .bind::<BigInt, _>(from.at)
        .bind::<BigInt, _>(from.sequence)
        .bind::<BigInt, _>(i64::from(LOOKED_AT))
        .load(conn)?;
    let old = old
        .into_iter()
        .map(|OldEvent { at, sequence, needed }| (OldPlace { at, sequence }, needed));
    Ok(OldEvents::of(&old.collect::<Vec<_>>(), limit))
}

/// Empties those of these events that were not emptied meanwhile, and returns how many.
fn empty_due(conn: &mut SqliteConnection, now: Timestamp, due: &[i64]) -> QueryResult<u64> {
    let rows: Vec<LinkedRow> = events::table
        .filter(events::sequence.eq_any(due))
        .filter(events::source.ne(OWN_SOURCE))
        .order(events::sequence)
        .select(LinkedRow::as_select())
        .load(conn)?;
    let linked: Vec<_> = rows.into_iter().map(LinkedRow::read).collect::<QueryResult<_>>()?;
    let places = as_linked(&linked);
    if places.is_empty() {
        return Ok(0);
    }
    let emptied: Vec<i64> = places.all().map(stored).collect();
    empty(conn, &emptied)?;
    write_linked(conn, now, &events_purged(&places))?;
    Ok(emptied.len() as u64)
}

/// How many events the purge would empty, of those after the place up to which it cuts the log.
pub(super) fn preview(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
    undelivered: Duration,
    cut: i64,
) -> QueryResult<u64> {
    let Count { count } = diesel::sql_query(PREVIEW)
        .bind::<BigInt, _>(before(now, retention))
        .bind::<BigInt, _>(before(now, undelivered))
        .bind::<BigInt, _>(cut)
        .get_result(conn)?;
    number(count)
}
