//! What the database's rows no longer show: the latest expiry among the signers' nonces that were
//! purged. It is never lowered, not even when the clock is set back.

use diesel::prelude::*;

use super::SqliteStore;
use super::schema::history;
use super::types::optional_timestamp;
use crate::domain::Timestamp;
use crate::storage::Result;

impl SqliteStore {
    pub async fn purged_until(&self) -> Result<Option<Timestamp>> {
        self.0.read("purged_until", |conn, _| purged_until(conn)).await
    }
}

/// The latest expiry of a nonce that the purge removed.
pub(super) fn purged_until(conn: &mut SqliteConnection) -> QueryResult<Option<Timestamp>> {
    let micros = history::table.select(history::purged_until).first(conn)?;
    optional_timestamp(micros)
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
