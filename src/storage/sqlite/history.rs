//! What the database's rows no longer show: its generations, and the latest expiry among the
//! signers' nonces that were purged. That is never lowered, not even when the clock is set back.

use std::time::Duration;

use diesel::prelude::*;
use uuid::Uuid;

use super::SqliteStore;
use super::schema::history;
use super::types::{number, optional_timestamp, uuid};
use crate::storage::history::whole_seconds;
use crate::storage::{History, Result};

impl SqliteStore {
    pub async fn history(&self) -> Result<History> {
        self.0.read("history", |conn, _| read(conn)).await
    }

    pub async fn raise_skew(&self, skew: Duration) -> Result<()> {
        let seconds = i64::from(whole_seconds(skew));
        let raise = move |conn: &mut SqliteConnection, _| {
            diesel::update(history::table.filter(history::skew_seconds.lt(seconds)))
                .set(history::skew_seconds.eq(seconds))
                .execute(conn)
                .map(drop)
        };
        self.0.write("raise_skew", raise).await
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = history, check_for_backend(diesel::sqlite::Sqlite))]
struct HistoryRow {
    generation: Vec<u8>,
    ancestors: Vec<u8>,
    recovered_at: Option<i64>,
    not_before: Option<i64>,
    ahead_until: Option<i64>,
    skew_seconds: i64,
    purged_until: Option<i64>,
}

pub(super) fn read(conn: &mut SqliteConnection) -> QueryResult<History> {
    let row: HistoryRow = history::table.select(HistoryRow::as_select()).get_result(conn)?;
    Ok(History {
        generation: uuid(&row.generation)?,
        ancestors: row.ancestors.chunks(size_of::<Uuid>()).map(uuid).collect::<QueryResult<_>>()?,
        recovered_at: optional_timestamp(row.recovered_at)?,
        not_before: optional_timestamp(row.not_before)?,
        ahead_until: optional_timestamp(row.ahead_until)?,
        skew: Duration::from_secs(number(row.skew_seconds)?),
        purged_until: optional_timestamp(row.purged_until)?,
    })
}

/// Records that a nonce with this expiry, in microseconds, was removed; part of the transaction
/// that removes it.
pub(super) fn purged(conn: &mut SqliteConnection, expiry: i64) -> QueryResult<()> {
    let earlier = history::purged_until.is_null().or(history::purged_until.lt(expiry));
    diesel::update(history::table.filter(earlier))
        .set(history::purged_until.eq(expiry))
        .execute(conn)?;
    Ok(())
}
