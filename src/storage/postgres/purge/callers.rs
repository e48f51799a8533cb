//! The purge of callers' events: it empties those past their retention, as an erasure does. A read
//! walks along them, a bounded number at a time, and takes no lock. Then the chain's row is locked, so
//! that nothing else is emptied or linked meanwhile, and the events are looked at again. The
//! transaction leaves an event that names them.

use std::time::Duration;

use chrono::DateTime;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Double, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::domain::{Cursor, OWN_SOURCE, PURGED_BATCH};
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::count::Count;
use crate::storage::postgres::erasure::empty;
use crate::storage::postgres::events::{LinkedRow, lock_chain, place, record_linked};
use crate::storage::postgres::schema::events;
use crate::storage::postgres::sessions::row::unsigned;
use crate::storage::postgres::unreadable;
use crate::storage::purge::{LOOKED_AT, OldEvents, OldPlace, as_linked, events_purged};
use crate::storage::{PurgeBatch, Purged, Result};

/// Events of callers older than `$1`, and whether a webhook needs them: it hears them, has not been given
/// them, and they are younger than `$2`; or it was given them later than that ago, in vain so far.
macro_rules! old_events {
    () => {
        "SELECT at, sequence,
            (
                at >= now() - make_interval(secs => $2) AND EXISTS (
                    SELECT FROM webhooks AS w
                    WHERE w.last_sequence < e.sequence
                        AND w.types && ARRAY['*', e.type COLLATE \"C\"]
                )
            ) OR EXISTS (
                SELECT FROM webhooks AS w
                JOIN webhook_deliveries AS d ON d.webhook = w.id AND d.sequence = e.sequence
                WHERE d.state <> 'delivered'
                    AND d.created_at >= now() - make_interval(secs => $2)
            ) AS needed
        FROM events AS e
        WHERE source <> 'onceguard' AND sequence IS NOT NULL
            AND at < now() - make_interval(secs => $1)"
    };
}

const OLD: &str =
    concat!(old_events!(), " AND (at, sequence) > ($3, $4) ORDER BY at, sequence LIMIT $5");

/// What the purge would empty, beside what it would delete.
const PREVIEW: &str =
    concat!("SELECT count(*) FROM (", old_events!(), " AND sequence > $3) AS old WHERE NOT needed");

#[derive(QueryableByName)]
struct OldEvent {
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<chrono::Utc>,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = Bool)]
    needed: bool,
}

impl PostgresStore {
    /// Empties up to `limit` of the next events after `from`: those that no webhook needs.
    pub(super) async fn empty_events(
        &self,
        retention: Duration,
        undelivered: Duration,
        from: &Cursor,
        limit: u32,
    ) -> Result<PurgeBatch> {
        let (from, limit) = (OldPlace::of(from), limit.min(PURGED_BATCH));
        let look = async |c: &mut _| find(c, retention, undelivered, from, limit).await;
        let OldEvents { due, next } = self.read("find_old_events", look).await?;
        let events_emptied = if due.is_empty() {
            0
        } else {
            self.transaction("empty_events", async |c| empty_due(c, &due).await).await?
        };
        Ok(PurgeBatch { purged: Purged { events_emptied, ..Purged::default() }, next })
    }
}

async fn find(
    c: &mut AsyncPgConnection,
    retention: Duration,
    undelivered: Duration,
    from: OldPlace,
    limit: u32,
) -> QueryResult<OldEvents> {
    let at = DateTime::from_timestamp_micros(from.at).ok_or_else(|| unreadable("a time"))?;
    let query = sql_query(OLD)
        .bind::<Double, _>(retention.as_secs_f64())
        .bind::<Double, _>(undelivered.as_secs_f64())
        .bind::<Timestamptz, _>(at)
        .bind::<BigInt, _>(from.sequence)
        .bind::<BigInt, _>(i64::from(LOOKED_AT));
    let old: Vec<OldEvent> = Prepared(query).load(c).await?;
    let old = old.into_iter().map(|OldEvent { at, sequence, needed }| {
        (OldPlace { at: at.timestamp_micros(), sequence }, needed)
    });
    Ok(OldEvents::of(&old.collect::<Vec<_>>(), limit))
}

/// Empties those of these events that were not emptied meanwhile, and returns how many.
async fn empty_due(c: &mut AsyncPgConnection, due: &[i64]) -> QueryResult<u64> {
    let tip = lock_chain(c).await?;
    let rows: Vec<LinkedRow> = events::table
        .filter(events::sequence.eq_any(due))
        .filter(events::source.ne(OWN_SOURCE))
        .order(events::sequence)
        .select(LinkedRow::as_select())
        .load(c)
        .await?;
    let linked: Vec<_> = rows.into_iter().map(LinkedRow::read).collect::<QueryResult<_>>()?;
    let places = as_linked(&linked);
    if places.is_empty() {
        return Ok(0);
    }
    let emptied = places.all().map(place).collect::<QueryResult<Vec<_>>>()?;
    empty(c, &emptied).await?;
    record_linked(c, tip, &events_purged(&places)).await?;
    unsigned(emptied.len())
}

/// How many events the purge would empty, of those after the place up to which it cuts the log.
pub(super) async fn preview(
    c: &mut AsyncPgConnection,
    retention: Duration,
    undelivered: Duration,
    cut: i64,
) -> QueryResult<u64> {
    let count = sql_query(PREVIEW)
        .bind::<Double, _>(retention.as_secs_f64())
        .bind::<Double, _>(undelivered.as_secs_f64())
        .bind::<BigInt, _>(cut);
    let Count { count } = Prepared(count).get_result(c).await?;
    unsigned(count)
}
