//! What all owners that agents made may have together, exactly, although many write at once.
//!
//! Each owner counts in one row of `record_shares`. A write that adds to it locks that row, and then
//! reads the sum of all rows. The sum lacks what is being written at this moment: at most one write in
//! each other row. Where the quota has room for that, the write goes on. Else it locks all rows, so
//! that nothing is being written, and the sum is exact.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Integer};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::domain::RecordLimits;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::records::plan::{Owner, Plan, SHARES, Taken, stored};

/// The most that a write adds while it locks only one row.
const MOST: Taken = Taken { records: 100, bytes: 2 * 1024 * 1024 };

/// All lock them in this order, after the owner.
const LOCK: &str =
    "SELECT share FROM record_shares WHERE share = ANY ($1) ORDER BY share FOR NO KEY UPDATE";

/// A statement of its own, because the snapshot of the one that locks may be older than the lock.
const SUM: &str = "
    SELECT sum(records)::bigint AS records, sum(bytes)::bigint AS bytes FROM record_shares";

const COUNT: &str = "
    UPDATE record_shares SET records = records + $2, bytes = bytes + $3 WHERE share = $1";

/// Which rows a write locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Its owner's.
    One,
    All,
}

#[derive(QueryableByName)]
struct Sum {
    #[diesel(sql_type = BigInt)]
    records: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

/// Whether a plan has room for certain, also beside writes that are under way in the other rows.
pub(super) fn is_sure(agents: Taken, limits: &RecordLimits, plan: &Plan<'_>) -> bool {
    let is_sure = |more: i64, most: i64, had: i64, limit: u64| {
        more <= 0 || (more <= most && had + most * i64::from(SHARES) <= stored(limit))
    };
    is_sure(plan.records, MOST.records, agents.records, limits.agents_max_records)
        && is_sure(plan.bytes, MOST.bytes, agents.bytes, limits.agents_max_bytes)
}

/// Locks the rows until the transaction ends, and returns what agents have.
pub(super) async fn lock(
    c: &mut AsyncPgConnection,
    owner: &Owner,
    rows: Rows,
) -> QueryResult<Taken> {
    let shares: Vec<i32> = match rows {
        Rows::One => vec![owner.share()],
        Rows::All => (0..SHARES).collect(),
    };
    Prepared(sql_query(LOCK).bind::<Array<Integer>, _>(shares)).execute(c).await?;
    let Sum { records, bytes } = Prepared(sql_query(SUM)).get_result(c).await?;
    Ok(Taken { records, bytes })
}

/// Counts what an agent's owner has more, among all that agents have.
pub(super) async fn count(
    c: &mut AsyncPgConnection,
    owner: &Owner,
    records: i64,
    bytes: i64,
) -> QueryResult<()> {
    if !owner.agent || (records, bytes) == (0, 0) {
        return Ok(());
    }
    let count = sql_query(COUNT)
        .bind::<Integer, _>(owner.share())
        .bind::<BigInt, _>(records)
        .bind::<BigInt, _>(bytes);
    Prepared(count).execute(c).await.map(drop)
}
