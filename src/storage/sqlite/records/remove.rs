//! Records that go: erased by a call, expired, or tombstones past their retention.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use uuid::Uuid;

use super::change::{count_share, look, owner_by_id, write};
use crate::domain::{Did, NewEvent, Precondition, RecordChange, Timestamp};
use crate::storage::Result;
use crate::storage::records::plan;
use crate::storage::records::row::key;
use crate::storage::sqlite::schema::{record_owners, records};
use crate::storage::sqlite::types::{before, number, stored, unreadable};
use crate::storage::sqlite::{SqliteStore, events};

/// What is left of erased owners, in the order in which it goes.
const REMOVE: [&str; 3] = [
    "DELETE FROM record_blobs WHERE rowid IN (
        SELECT b.rowid FROM record_owners o JOIN record_blobs b ON b.owner = o.id
        WHERE o.did IS NULL LIMIT ?)",
    "DELETE FROM records WHERE (owner, sequence) IN (
        SELECT r.owner, r.sequence FROM record_owners o JOIN records r ON r.owner = o.id
        WHERE o.did IS NULL LIMIT ?)",
    "DELETE FROM record_owners WHERE id IN (
        SELECT id FROM record_owners o
        WHERE did IS NULL AND NOT EXISTS (SELECT 1 FROM records WHERE owner = o.id) LIMIT ?)",
];

impl SqliteStore {
    pub async fn erase_records(
        &self,
        owner: &Did,
        inactive: Option<Duration>,
        event: NewEvent,
    ) -> Result<Option<u64>> {
        let owner = owner.clone();
        let erase = move |conn: &mut _, now| {
            let erased = erase(conn, now, &owner, inactive)?;
            if erased.is_some() {
                events::write(conn, now, &event)?;
            }
            Ok(erased)
        };
        self.0.write("erase_records", erase).await
    }

    pub async fn remove_erased_records(&self, limit: u32) -> Result<u64> {
        let remove = move |conn: &mut SqliteConnection, _| {
            let mut removed: i64 = 0;
            for statement in REMOVE {
                let room = i64::from(limit) - removed;
                let remove = diesel::sql_query(statement).bind::<BigInt, _>(room);
                removed += stored(remove.execute(conn)?);
                if removed >= i64::from(limit) {
                    break;
                }
            }
            number(removed)
        };
        self.0.write("remove_erased_records", remove).await
    }

    /// Writes tombstones for up to `limit` records that expired.
    pub(in crate::storage::sqlite) async fn expire_records(&self, limit: u32) -> Result<u64> {
        self.0.write("expire_records", move |conn, now| expire(conn, now, limit)).await
    }

    /// Removes up to `limit` tombstones that are older than `retention`.
    pub(in crate::storage::sqlite) async fn forget_tombstones(
        &self,
        retention: Duration,
        limit: u32,
    ) -> Result<u64> {
        let forget = move |conn: &mut _, now| forget(conn, now, retention, limit);
        self.0.write("forget_tombstones", forget).await
    }
}

/// From now on no call finds the owner. An agent's records count no more.
pub(in crate::storage::sqlite) fn erase(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: &Did,
    inactive: Option<Duration>,
) -> QueryResult<Option<u64>> {
    let latest = inactive.map_or(i64::MAX, |inactive| before(now, inactive));
    let id: Option<Vec<u8>> = record_owners::table
        .filter(record_owners::did.eq(did.as_str()))
        .filter(record_owners::last_accessed.lt(latest))
        .select(record_owners::id)
        .get_result(conn)
        .optional()?;
    let Some(id) = id else { return Ok(None) };
    let Some(owner) = owner_by_id(conn, &id)? else { return Ok(None) };
    diesel::update(record_owners::table.find(&id))
        .set(record_owners::did.eq(None::<String>))
        .execute(conn)?;
    count_share(conn, &owner, -owner.records, -owner.bytes)?;
    let of_owner = records::owner.eq(&id).and(records::deleted_at.is_null());
    let live: i64 = records::table.filter(of_owner).count().get_result(conn)?;
    number(live).map(Some)
}

type Place = (Vec<u8>, String, String);

fn expire(conn: &mut SqliteConnection, now: Timestamp, limit: u32) -> QueryResult<u64> {
    let due: Vec<Place> = records::table
        .inner_join(record_owners::table.on(record_owners::id.eq(records::owner)))
        .filter(record_owners::did.is_not_null())
        .filter(records::expires_at.le(now.timestamp_micros()))
        .order(records::expires_at)
        .limit(i64::from(limit))
        .select((records::owner, records::kind, records::id))
        .load(conn)?;
    let count = due.len();
    for (id, kind, name) in due {
        let Some(owner) = owner_by_id(conn, &id)? else { continue };
        let key = key(&kind, &name).ok_or_else(|| unreadable("key of a record"))?;
        let random = Uuid::new_v4().into_bytes().first_chunk().copied().unwrap_or_default();
        let precondition = Precondition::Absent;
        let changes = [RecordChange { key, precondition, random, put: None }];
        let known = look(conn, now, &owner, &changes)?;
        write(conn, &owner, &plan::write(&owner, &known, &changes), now)?;
    }
    number(stored(count))
}

fn forget(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
    limit: u32,
) -> QueryResult<u64> {
    let due: Vec<(Vec<u8>, i64)> = records::table
        .inner_join(record_owners::table.on(record_owners::id.eq(records::owner)))
        .filter(record_owners::did.is_not_null())
        .filter(records::deleted_at.lt(before(now, retention)))
        .order((records::deleted_at, records::sequence))
        .limit(i64::from(limit))
        .select((records::owner, records::sequence))
        .load(conn)?;
    for (id, sequence) in &due {
        let tombstone = records::owner.eq(id).and(records::sequence.eq(sequence));
        diesel::delete(records::table.filter(tombstone)).execute(conn)?;
        let owner = record_owners::table.find(id);
        diesel::update(owner)
            .set(record_owners::records.eq(record_owners::records - 1))
            .execute(conn)?;
        diesel::update(owner.filter(record_owners::forgotten.lt(sequence)))
            .set(record_owners::forgotten.eq(sequence))
            .execute(conn)?;
        if let Some(owner) = owner_by_id(conn, id)? {
            count_share(conn, &owner, -1, 0)?;
        }
    }
    number(stored(due.len()))
}
