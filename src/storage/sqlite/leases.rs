//! Leases: only one holder at a time runs a job.

use std::time::Duration;

use diesel::dsl::not;
use diesel::prelude::*;

use super::SqliteStore;
use super::schema::leases;
use super::types::{micros, optional_timestamp, timestamp};
use crate::domain::Timestamp;
use crate::storage::{Lease, Result, TAKEN_AHEAD};

impl SqliteStore {
    pub async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.0.write("take_lease", move |conn, now| take(conn, now, &name, &holder, ttl)).await
    }

    pub async fn release_lease(&self, name: &str, holder: &str, finished: bool) -> Result<()> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        let release = move |conn: &mut _, now| release(conn, now, &name, &holder, finished);
        self.0.write("release_lease", release).await
    }

    pub async fn lease(&self, name: &str) -> Result<Option<Lease>> {
        let name = name.to_owned();
        self.0.read("lease", move |conn, now| find(conn, now, &name)).await
    }
}

/// Takes the lease, or renews it for the same holder; `false` when another has it.
fn take(
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
        .filter(leases::taken_at.le(now.saturating_add(micros(TAKEN_AHEAD))))
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

fn release(
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
    let row: Option<Row> = leases::table.find(name).get_result(conn).optional()?;
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
