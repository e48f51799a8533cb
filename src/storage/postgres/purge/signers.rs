//! The purge of signers' nonces. It walks the table in the order of its pages, a bounded number at a
//! time: what was claimed together lies together, and leaves together. The walk takes no lock. Then
//! the counters of those signers are locked, in the order that claims lock them, and the rows are
//! looked at again.

use std::fmt;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bytea, Double, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::{Count, NEED_NOT_BE_ON_DISK};
use crate::domain::Cursor;
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::sessions::row::unsigned;
use crate::storage::postgres::unreadable;
use crate::storage::{PurgeBatch, Purged, Result, StoreError};

/// Pages that one query looks at: about ten milliseconds of work.
const PAGES_LOOKED_AT: i64 = 1_024;

const PAGES: &str = "
    SELECT pg_relation_size('signer_nonces') / current_setting('block_size')::bigint AS count";

/// In whatever order: a row that is passed over is found by the next run.
const FIND: &str = "
    SELECT ctid::text AS place, signer FROM signer_nonces
    WHERE ctid > $1::text::tid AND ctid < $2::text::tid
        AND expires_at < now() - make_interval(secs => $3)
    LIMIT $4";

const LOCK_SIGNERS: &str = "
    SELECT signer FROM signers WHERE signer = ANY ($1) ORDER BY signer FOR NO KEY UPDATE";

/// Records in the same transaction until when nonces may be gone, so that none that it removed is
/// accepted again, even if the clock is set back later.
const DELETE: &str = "
    WITH deleted AS (
        DELETE FROM signer_nonces
        WHERE ctid = ANY ($1::text[]::tid[]) AND expires_at < now() - make_interval(secs => $2)
        RETURNING signer, expires_at
    ),
    remembered AS (
        UPDATE history SET purged_until = latest.expires_at
        FROM (SELECT max(expires_at) AS expires_at FROM deleted) AS latest
        WHERE latest.expires_at > coalesce(purged_until, '-infinity')
    ),
    lowered AS (
        UPDATE signers SET live = live - gone.count
        FROM (SELECT signer, count(*) FROM deleted GROUP BY signer) AS gone
        WHERE signers.signer = gone.signer
    )
    SELECT count(*) FROM deleted";

/// A claim that waits for one of these rows finds it gone, and adds it anew.
const DELETE_UNUSED_SIGNERS: &str = "
    DELETE FROM signers WHERE signer = ANY ($1) AND live = 0";

/// Where a row lies (its `ctid`). The first of a page has the number 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    page: i64,
    number: i64,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (page, number) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
        Some(Self { page: page.parse().ok()?, number: number.parse().ok()? })
    }

    fn of(cursor: &Cursor) -> QueryResult<Self> {
        if cursor.position().is_empty() {
            return Ok(Self::default());
        }
        let text = std::str::from_utf8(cursor.position()).ok();
        text.and_then(Self::parse).ok_or_else(|| unreadable("a row's place"))
    }

    fn into_cursor(self) -> Cursor {
        Cursor::new(self.to_string().into_bytes())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.page, self.number)
    }
}

#[derive(QueryableByName)]
struct Expired {
    #[diesel(sql_type = Text)]
    place: String,
    #[diesel(sql_type = Bytea)]
    signer: Vec<u8>,
}

#[derive(QueryableByName)]
struct Signer {
    #[diesel(sql_type = Bytea)]
    signer: Vec<u8>,
}

impl PostgresStore {
    /// One batch: what one query finds from `from` on.
    pub(super) async fn purge_signer_nonces(
        &self,
        margin: Duration,
        from: &Cursor,
        limit: u32,
    ) -> Result<PurgeBatch> {
        let from = Place::of(from).map_err(|e| StoreError::Unexpected(e.to_string()))?;
        let Found { expired, last } = self
            .read("find_signer_nonces", async |c| find(c, margin, from, i64::from(limit)).await)
            .await?;
        let purged = if expired.is_empty() {
            Purged::default()
        } else {
            let delete = async |c: &mut _| delete(c, margin, &expired).await;
            self.errand("delete_signer_nonces", delete).await?
        };
        Ok(PurgeBatch { purged, next: last.map(Place::into_cursor) })
    }
}

/// What one query found.
struct Found {
    expired: Vec<Expired>,
    /// What it looked at last; `None` at the end of the table.
    last: Option<Place>,
}

/// Up to `limit` rows after `from` that expired more than `margin` ago.
async fn find(
    c: &mut AsyncPgConnection,
    margin: Duration,
    from: Place,
    limit: i64,
) -> QueryResult<Found> {
    let Count { count: pages } = Prepared(sql_query(PAGES)).get_result(c).await?;
    let until = Place { page: from.page + PAGES_LOOKED_AT, number: 0 };
    let query = sql_query(FIND)
        .bind::<Text, _>(from.to_string())
        .bind::<Text, _>(until.to_string())
        .bind::<Double, _>(margin.as_secs_f64())
        .bind::<BigInt, _>(limit);
    let expired: Vec<Expired> = Prepared(query).load(c).await?;
    let last = match expired.last() {
        Some(row) if unsigned::<_, i64>(expired.len())? == limit => {
            let place = Place::parse(&row.place);
            Some(place.ok_or_else(|| unreadable("a row's place"))?)
        }
        _ if until.page < pages => Some(until),
        _ => None,
    };
    Ok(Found { expired, last })
}

/// Deletes these rows, lowers their signers' counters by as much, and forgets signers without any.
async fn delete(
    c: &mut AsyncPgConnection,
    margin: Duration,
    expired: &[Expired],
) -> QueryResult<Purged> {
    c.batch_execute(NEED_NOT_BE_ON_DISK).await?;
    let mut signers: Vec<_> = expired.iter().map(|row| row.signer.as_slice()).collect();
    signers.sort_unstable();
    signers.dedup();
    let lock = sql_query(LOCK_SIGNERS).bind::<Array<Bytea>, _>(&signers);
    let locked: Vec<Signer> = Prepared(lock).load(c).await?;
    let locked: Vec<_> = locked.into_iter().map(|row| row.signer).collect();
    // Another process deleted the others' last nonces.
    let places: Vec<_> = expired
        .iter()
        .filter(|row| locked.binary_search(&row.signer).is_ok())
        .map(|row| row.place.as_str())
        .collect();
    let delete =
        sql_query(DELETE).bind::<Array<Text>, _>(places).bind::<Double, _>(margin.as_secs_f64());
    let Count { count } = Prepared(delete).get_result(c).await?;
    let unused = sql_query(DELETE_UNUSED_SIGNERS).bind::<Array<Bytea>, _>(&locked);
    Prepared(unused).execute(c).await?;
    Ok(Purged { signer_nonces_deleted: unsigned(count)?, ..Purged::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = Place { page: 12, number: 34 };
        assert_eq!(place.to_string(), "(12,34)");
        assert_eq!(Place::parse("(12,34)"), Some(place));
        for text in ["", "12,34", "(12)", "(12,x)", "(12,34"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }
}
