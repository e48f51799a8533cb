//! Records that go: erased by a call, expired, or tombstones past their retention. Each step takes
//! the lock of the owner first, as changes do.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::change::{lock_by_id, look, write};
use super::shares;
use crate::domain::{Did, NewEvent, Precondition, RecordChange};
use crate::storage::Result;
use crate::storage::postgres::connection::confirm::confirm;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::count::Count;
use crate::storage::postgres::events;
use crate::storage::postgres::sessions::row::unsigned;
use crate::storage::postgres::{PostgresStore, unreadable};
use crate::storage::records::plan;
use crate::storage::records::row::key;

/// From now on no call finds the owner. An agent's records count no more.
const ERASE: &str = "
    WITH erased AS (
        UPDATE record_owners SET did = NULL
        WHERE did = $1
            AND ($2 IS NULL OR last_accessed < now() - make_interval(secs => $2))
        RETURNING id, agent, records, bytes
    )
    SELECT id, agent, records, bytes,
        (SELECT count(*) FROM records WHERE owner = erased.id AND deleted_at IS NULL) AS live
    FROM erased";

const REMOVE_BLOBS: &str = "
    DELETE FROM record_blobs WHERE ctid = ANY (ARRAY(
        SELECT b.ctid FROM record_owners o JOIN record_blobs b ON b.owner = o.id
        WHERE o.did IS NULL LIMIT $1
    ))";

const REMOVE_RECORDS: &str = "
    DELETE FROM records WHERE ctid = ANY (ARRAY(
        SELECT r.ctid FROM record_owners o JOIN records r ON r.owner = o.id
        WHERE o.did IS NULL LIMIT $1
    ))";

const REMOVE_OWNERS: &str = "
    DELETE FROM record_owners WHERE id = ANY (ARRAY(
        SELECT id FROM record_owners o
        WHERE did IS NULL AND NOT EXISTS (SELECT FROM records WHERE owner = o.id)
        LIMIT $1 FOR UPDATE SKIP LOCKED
    ))";

const EXPIRED: &str = "
    SELECT owner, kind, r.id, did FROM records r JOIN record_owners o ON o.id = owner
    WHERE expires_at <= now() AND did IS NOT NULL AND ($2 IS NULL OR owner = $2)
    ORDER BY expires_at LIMIT $1";

const TOMBSTONES: &str = "
    SELECT owner, kind, r.id, did FROM records r JOIN record_owners o ON o.id = owner
    WHERE deleted_at < now() - make_interval(secs => $2) AND did IS NOT NULL
    ORDER BY deleted_at LIMIT $1";

const FORGET: &str = "
    WITH forgotten AS (
        DELETE FROM records WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM records
            WHERE owner = $1 AND deleted_at < now() - make_interval(secs => $2)
            ORDER BY sequence LIMIT $3
        ))
        RETURNING sequence
    ),
    counted AS (SELECT count(*) AS count, max(sequence) AS last FROM forgotten),
    updated AS (
        UPDATE record_owners
        SET records = records - count, forgotten = greatest(forgotten, last)
        FROM counted WHERE id = $1 AND count > 0
    )
    SELECT count FROM counted";

#[derive(QueryableByName)]
struct Erased {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Bool)]
    agent: bool,
    #[diesel(sql_type = BigInt)]
    records: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = BigInt)]
    live: i64,
}

#[derive(QueryableByName)]
struct Due {
    #[diesel(sql_type = SqlUuid)]
    owner: Uuid,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Text)]
    did: String,
}

impl Due {
    fn deletion(&self) -> QueryResult<RecordChange> {
        let key = key(&self.kind, &self.id).ok_or_else(|| unreadable("a record that is none"))?;
        let random = Uuid::new_v4().into_bytes();
        let random = random.first_chunk().copied().unwrap_or_default();
        Ok(RecordChange { key, precondition: Precondition::Absent, random, put: None })
    }
}

impl PostgresStore {
    pub async fn erase_records(
        &self,
        owner: &Did,
        inactive: Option<Duration>,
        event: NewEvent,
    ) -> Result<Option<u64>> {
        self.transaction("erase_records", async |c| {
            let erased = erase(c, owner, inactive).await?;
            if erased.is_some() {
                events::record(c, &event).await?;
            } else {
                confirm(c).await?;
            }
            Ok(erased)
        })
        .await
    }

    pub async fn remove_erased_records(&self, limit: u32) -> Result<u64> {
        self.transaction("remove_erased_records", async |c| {
            let mut removed = 0;
            for statement in [REMOVE_BLOBS, REMOVE_RECORDS, REMOVE_OWNERS] {
                let room = i64::from(limit) - removed;
                let remove = Prepared(sql_query(statement).bind::<BigInt, _>(room));
                removed += i64::try_from(remove.execute(c).await?).unwrap_or(i64::MAX);
                if removed >= i64::from(limit) {
                    break;
                }
            }
            unsigned(removed)
        })
        .await
    }

    /// Writes tombstones for up to `limit` records that expired.
    pub(in crate::storage::postgres) async fn expire_records(&self, limit: u32) -> Result<u64> {
        let due = self.read("expired_records", async |c| expired(c, limit, None).await).await?;
        let mut done = 0;
        for owner in owners(&due) {
            done += self
                .transaction("expire_records", async |c| {
                    let Some(locked) = lock_by_id(c, owner).await? else { return Ok(0) };
                    let due = expired(c, limit, Some(owner)).await?;
                    let room = usize::try_from(u64::from(limit) - done).unwrap_or(usize::MAX);
                    let due = due.get(..room.min(due.len())).unwrap_or_default();
                    let Some(first) = due.first() else { return Ok(0) };
                    let changes: QueryResult<Vec<_>> = due.iter().map(Due::deletion).collect();
                    let changes = changes?;
                    let known = look(c, &first.did, Some(&locked), &changes).await?;
                    let plan = plan::write(&locked, &known, &changes);
                    write(c, &locked, &plan, known.now).await?;
                    unsigned(changes.len())
                })
                .await?;
            if done >= u64::from(limit) {
                break;
            }
        }
        Ok(done)
    }

    /// Removes up to `limit` tombstones that are older than `retention`.
    pub(in crate::storage::postgres) async fn forget_tombstones(
        &self,
        retention: Duration,
        limit: u32,
    ) -> Result<u64> {
        let due: Vec<Due> = self
            .read("old_tombstones", async |c| {
                let old = sql_query(TOMBSTONES)
                    .bind::<BigInt, _>(i64::from(limit))
                    .bind::<Double, _>(retention.as_secs_f64());
                Prepared(old).load(c).await
            })
            .await?;
        let mut done: i64 = 0;
        for owner in owners(&due) {
            let room = i64::from(limit) - done;
            done += self
                .transaction("forget_tombstones", async |c| {
                    let Some(locked) = lock_by_id(c, owner).await? else { return Ok(0) };
                    let forget = sql_query(FORGET)
                        .bind::<SqlUuid, _>(owner)
                        .bind::<Double, _>(retention.as_secs_f64())
                        .bind::<BigInt, _>(room);
                    let Count { count } = Prepared(forget).get_result(c).await?;
                    shares::count(c, &locked, -count, 0).await?;
                    Ok(count)
                })
                .await?;
            if done >= i64::from(limit) {
                break;
            }
        }
        unsigned(done).map_err(|error| crate::storage::postgres::of_its_row(&error))
    }
}

/// Part of the transaction that records it.
pub(in crate::storage::postgres) async fn erase(
    c: &mut AsyncPgConnection,
    owner: &Did,
    inactive: Option<Duration>,
) -> QueryResult<Option<u64>> {
    let erase = sql_query(ERASE)
        .bind::<Text, _>(owner.as_str())
        .bind::<Nullable<Double>, _>(inactive.map(|inactive| inactive.as_secs_f64()));
    let erased: Option<Erased> = Prepared(erase).get_result(c).await.optional()?;
    let Some(Erased { id, agent, records, bytes, live }) = erased else { return Ok(None) };
    let owner = plan::Owner { id, agent, sequence: 0, records, bytes };
    shares::count(c, &owner, -records, -bytes).await?;
    unsigned(live).map(Some)
}

async fn expired(
    c: &mut AsyncPgConnection,
    limit: u32,
    owner: Option<Uuid>,
) -> QueryResult<Vec<Due>> {
    let expired =
        sql_query(EXPIRED).bind::<BigInt, _>(i64::from(limit)).bind::<Nullable<SqlUuid>, _>(owner);
    Prepared(expired).load(c).await
}

/// Each once, in an order in which no two purges wait for each other.
fn owners(due: &[Due]) -> Vec<Uuid> {
    let mut owners: Vec<_> = due.iter().map(|due| due.owner).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}
