//! Leases: one holder at a time runs a job.

use std::time::Duration;

use diesel::dsl::not;
use diesel::prelude::*;

use crate::domain::Timestamp;
use crate::storage::Lease;

use super::schema::leases;
use super::types::{micros, optional_timestamp, timestamp};

/// Takes the lease, or renews it for the same holder; `false` when another has it.
pub(super) fn take(
    conn: &mut SqliteConnection,
    now: Timestamp,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> QueryResult<bool> {
    let now = now.timestamp_micros();
    let taken = leases::table
        .find(name)
        .filter(leases::until.gt(now))
        .filter(not(leases::holder.eq(holder)))
        .count()
        .get_result::<i64>(conn)?;
    if taken > 0 {
        return Ok(false);
    }
    let held = (
        leases::holder.eq(holder),
        leases::taken_at.eq(now),
        leases::until.eq(now.saturating_add(micros(ttl))),
    );
    diesel::insert_into(leases::table)
        .values((leases::name.eq(name), held))
        .on_conflict(leases::name)
        .do_update()
        .set(held)
        .execute(conn)?;
    Ok(true)
}

pub(super) fn release(
    conn: &mut SqliteConnection,
    now: Timestamp,
    name: &str,
    holder: &str,
    finished: bool,
) -> QueryResult<()> {
    let now = now.timestamp_micros();
    diesel::update(leases::table.find(name).filter(leases::holder.eq(holder)))
        .set((leases::until.eq(now), finished.then(|| leases::finished_at.eq(now))))
        .execute(conn)?;
    Ok(())
}

pub(super) fn find(
    conn: &mut SqliteConnection,
    now: Timestamp,
    name: &str,
) -> QueryResult<Option<Lease>> {
    type Row = (String, String, i64, i64, Option<i64>);
    let row: Option<Row> = leases::table.find(name).first(conn).optional()?;
    row.map(|(name, holder, taken_at, until, finished_at)| {
        Ok(Lease {
            name,
            holder,
            taken_at: timestamp(taken_at)?,
            until: timestamp(until)?,
            finished_at: optional_timestamp(finished_at)?,
            observed_at: now,
        })
    })
    .transpose()
}
