//! The purge of the log: it cuts off the beginning, up to a signed head.

use std::time::Duration;

use diesel::dsl::min;
use diesel::prelude::*;

use crate::domain::{DeliveryState, Timestamp};
use crate::storage::Purged;
use crate::storage::purge::log_cut;
use crate::storage::sqlite::events::{chain_tip, link_all, write};
use crate::storage::sqlite::schema::{
    event_chain, event_heads, events, webhook_deliveries, webhooks,
};
use crate::storage::sqlite::types::{before, number};

/// Deletes up to `limit` events of what is cut off.
pub(super) fn cut(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
    undelivered: Duration,
    limit: u32,
) -> QueryResult<Purged> {
    move_cut(conn, now, retention, undelivered)?;
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

/// How many events the purge would delete, and up to which place.
pub(super) fn preview(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
    undelivered: Duration,
) -> QueryResult<(u64, i64)> {
    let cut = match head(conn, now, retention, undelivered)? {
        Some((sequence, _)) => sequence,
        None => cut_sequence(conn)?,
    };
    let count = events::table.filter(events::sequence.le(cut)).count().get_result(conn)?;
    Ok((number(count)?, cut))
}

fn cut_sequence(conn: &mut SqliteConnection) -> QueryResult<i64> {
    event_chain::table.select(event_chain::cut_sequence).get_result(conn)
}

/// The first event younger than `undelivered` that a webhook is still to be sent.
fn first_needed(
    conn: &mut SqliteConnection,
    now: Timestamp,
    undelivered: Duration,
) -> QueryResult<Option<i64>> {
    let given = webhooks::table.select(min(webhooks::last_sequence));
    let given: Option<i64> = given.get_result(conn)?;
    let left = [DeliveryState::Pending, DeliveryState::Dead].map(DeliveryState::as_str);
    let left = webhook_deliveries::table.filter(webhook_deliveries::state.eq_any(left));
    let left: Option<i64> = left.select(min(webhook_deliveries::sequence)).get_result(conn)?;
    let given = given.map(|given| given.saturating_add(1));
    let Some(first) = given.into_iter().chain(left).min() else { return Ok(None) };
    let needed: Option<Option<i64>> = events::table
        .filter(events::sequence.ge(first))
        .filter(events::at.ge(before(now, undelivered)))
        .order(events::sequence)
        .select(events::sequence)
        .first(conn)
        .optional()?;
    Ok(needed.flatten())
}

/// The newest head with nothing before it that is younger than the retention, or that a webhook is
/// still to be sent.
fn head(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
    undelivered: Duration,
) -> QueryResult<Option<(i64, Vec<u8>)>> {
    let cut = cut_sequence(conn)?;
    let younger: Option<Option<i64>> = events::table
        .filter(events::sequence.gt(cut))
        .filter(events::at.ge(before(now, retention)))
        .order(events::sequence)
        .select(events::sequence)
        .first(conn)
        .optional()?;
    let needed = first_needed(conn, now, undelivered)?;
    let stays = younger.flatten().into_iter().chain(needed).min();
    event_heads::table
        .filter(event_heads::sequence.gt(cut))
        .filter(event_heads::sequence.lt(stays.unwrap_or(i64::MAX)))
        .order(event_heads::sequence.desc())
        .select((event_heads::sequence, event_heads::hash))
        .first(conn)
        .optional()
}

/// Says up to where the log is cut, before anything is deleted: whenever this stops, the chain says
/// what may be missing.
fn move_cut(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
    undelivered: Duration,
) -> QueryResult<()> {
    let Some((sequence, hash)) = head(conn, now, retention, undelivered)? else { return Ok(()) };
    diesel::update(event_chain::table)
        .set((event_chain::cut_sequence.eq(sequence), event_chain::cut_hash.eq(&hash)))
        .execute(conn)?;
    let older = event_heads::table.filter(event_heads::sequence.lt(sequence));
    diesel::delete(older).execute(conn)?;
    write(conn, now, &log_cut(sequence, &hash))?;
    let tip = chain_tip(conn)?;
    link_all(conn, now, tip).map(drop)
}
