//! Whether the database answers and can be written.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::SqliteStore;
use super::schema::leases;
use crate::domain::Timestamp;
use crate::storage::{PoolStatus, Result, StoreError};

/// The row for test writes. No job has this name.
const PROOF: &str = "readiness";

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    #[expect(dead_code)]
    number: i64,
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    quick_check: String,
}

impl SqliteStore {
    pub async fn now(&self) -> Result<Timestamp> {
        if !self.0.is_writing() {
            return Err(StoreError::Unavailable("the thread that writes has ended".into()));
        }
        self.0.read("now", now).await
    }

    /// Uses the same thread, and the same disk, as a claim.
    pub async fn prove_write(&self) -> Result<()> {
        self.0.write("prove_write", prove_write).await
    }

    pub async fn damage(&self) -> Result<Option<String>> {
        self.0.read("damage", |conn, _| damage(conn)).await
    }

    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        self.0.status()
    }
}

pub(super) fn damage(conn: &mut SqliteConnection) -> QueryResult<Option<String>> {
    let found: Vec<Found> = diesel::sql_query("PRAGMA quick_check(1)").load(conn)?;
    Ok(found.into_iter().map(|found| found.quick_check).find(|found| found != "ok"))
}

/// The clock, once the database has answered at all.
fn now(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<Timestamp> {
    let _: Number =
        diesel::sql_query("SELECT count(*) AS number FROM sqlite_schema").get_result(conn)?;
    Ok(now)
}

/// Changes a row that nothing reads.
fn prove_write(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<()> {
    let now = now.timestamp_micros();
    diesel::insert_into(leases::table)
        .values((
            leases::name.eq(PROOF),
            leases::holder.eq(PROOF),
            leases::taken_at.eq(now),
            leases::until.eq(now),
        ))
        .on_conflict(leases::name)
        .do_update()
        .set((leases::taken_at.eq(now), leases::until.eq(now)))
        .execute(conn)?;
    Ok(())
}
