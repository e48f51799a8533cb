//! The purge of the log: it cuts off the beginning, up to a signed head.

use std::time::Duration;

use diesel::prelude::*;

use super::before;
use crate::domain::Timestamp;
use crate::storage::Purged;
use crate::storage::purge::log_cut;
use crate::storage::sqlite::events::{chain_tip, link_all, write};
use crate::storage::sqlite::schema::{event_chain, event_heads, events};
use crate::storage::sqlite::types::number;

/// Deletes up to `limit` events of what is cut off.
pub(super) fn cut(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
    limit: u32,
) -> QueryResult<Purged> {
    move_cut(conn, now, retention)?;
    let old: Vec<Vec<u8>> = events::table
        .filter(events::sequence.le(cut_sequence(conn)?))
        .order(events::sequence)
        .limit(i64::from(limit))
        .select(events::id)
        .load(conn)?;
    let mut events_deleted = 0;
    for id in old {
        diesel::delete(events::table.find(id)).execute(conn)?;
        events_deleted += 1;
    }
    Ok(Purged { events_deleted, ..Purged::default() })
}

/// How many events the purge would delete.
pub(super) fn preview(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
) -> QueryResult<u64> {
    let cut = match head(conn, now, retention)? {
        Some((sequence, _)) => sequence,
        None => cut_sequence(conn)?,
    };
    number(events::table.filter(events::sequence.le(cut)).count().get_result(conn)?)
}

fn cut_sequence(conn: &mut SqliteConnection) -> QueryResult<i64> {
    event_chain::table.select(event_chain::cut_sequence).get_result(conn)
}

/// The newest head with nothing before it that is younger than the retention.
fn head(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
) -> QueryResult<Option<(i64, Vec<u8>)>> {
    let cut = cut_sequence(conn)?;
    let younger: Option<Option<i64>> = events::table
        .filter(events::sequence.gt(cut))
        .filter(events::at.ge(before(now, retention)))
        .order(events::sequence)
        .select(events::sequence)
        .first(conn)
        .optional()?;
    event_heads::table
        .filter(event_heads::sequence.gt(cut))
        .filter(event_heads::sequence.lt(younger.flatten().unwrap_or(i64::MAX)))
        .order(event_heads::sequence.desc())
        .select((event_heads::sequence, event_heads::hash))
        .first(conn)
        .optional()
}

/// Says up to where the log is cut, before anything is deleted: whenever this stops, the chain says
/// what may be missing.
fn move_cut(conn: &mut SqliteConnection, now: Timestamp, retention: Duration) -> QueryResult<()> {
    let Some((sequence, hash)) = head(conn, now, retention)? else { return Ok(()) };
    diesel::update(event_chain::table)
        .set((event_chain::cut_sequence.eq(sequence), event_chain::cut_hash.eq(&hash)))
        .execute(conn)?;
    let older = event_heads::table.filter(event_heads::sequence.lt(sequence));
    diesel::delete(older).execute(conn)?;
    write(conn, now, &log_cut(sequence, &hash))?;
    let tip = chain_tip(conn)?;
    link_all(conn, now, tip).map(drop)
}
