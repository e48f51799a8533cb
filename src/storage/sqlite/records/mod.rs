//! Sealed records: reading them. What they hold is read with the row that says what it must be, in
//! one statement, so that both are of one moment.

mod change;
mod findings;
pub(super) mod remove;

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text};

use super::SqliteStore;
use super::schema::{record_owners, records};
use super::types::{before, did, number, optional_timestamp, timestamp, unreadable, uuid};
use crate::domain::{
    Cursor, Did, InactiveOwner, InvalidCursor, Page, PageRequest, Record, RecordFeed, RecordKey,
    RecordKind, RecordUsage, Timestamp,
};
use crate::storage::records::place::{Reach, go_on};
use crate::storage::records::row::RawRecord;
use crate::storage::records::{ACCESS_GRANULARITY, FEED_BYTES, FEED_BYTES_OF_RECORD};
use crate::storage::{Contents, FeedRequest, Result};

/// The columns of [`RecordRow`], of the record `r` and its blob `b`.
macro_rules! record_columns {
    () => {
        "r.kind, r.id, r.sequence, r.version, r.tag, r.size, r.iv, r.checksum, r.client_time, \
         r.metadata, r.created_at, r.updated_at, r.expires_at, r.deleted_at, b.ciphertext"
    };
}

const FIND: &str = concat!(
    "SELECT o.last_accessed, ",
    record_columns!(),
    " FROM record_owners o
    JOIN records r ON r.owner = o.id AND r.kind = ?2 AND r.id = ?3
    LEFT JOIN record_blobs b ON ?4 AND b.owner = r.owner AND b.sequence = r.sequence
    WHERE o.did = ?1 AND r.deleted_at IS NULL AND (r.expires_at IS NULL OR r.expires_at > ?5)"
);

/// The owner, the generation and the page, as of one moment: at least one row. A record that expired
/// is left out, until its tombstone comes. `fits` is false for what the page has no room for.
const FEED: &str = concat!(
    "SELECT h.generation, o.id AS owner, o.sequence AS last, o.forgotten, o.last_accessed,
        r.before = 0 OR r.before + r.bytes <= ?7 AS fits, ",
    record_columns!(),
    " FROM history h
    LEFT JOIN record_owners o ON o.did = ?1
    LEFT JOIN (
        SELECT *, sum(bytes) OVER (ORDER BY sequence) - bytes AS before
        FROM (
            SELECT *, ?8 + length(CAST(metadata AS BLOB)) + iif(?6, size * 4 / 3, 0) AS bytes
            FROM records
            WHERE owner = (SELECT id FROM record_owners WHERE did = ?1) AND sequence > ?2
                AND (?3 IS NULL OR kind = ?3)
                AND NOT EXISTS (
                    SELECT 1 FROM json_each(?4) AS wanted WHERE NOT EXISTS (
                        SELECT 1 FROM json_each(metadata) AS had
                        WHERE had.key = wanted.key AND had.type = 'text'
                            AND had.value = wanted.value
                    )
                )
                AND (expires_at IS NULL OR expires_at > ?9)
            ORDER BY sequence LIMIT ?5
        )
    ) AS r
    LEFT JOIN record_blobs b ON ?6 AND (r.before = 0 OR r.before + r.bytes <= ?7)
        AND b.owner = r.owner AND b.sequence = r.sequence
    ORDER BY r.sequence"
);

/// Everything may be missing, where there is no record.
#[derive(QueryableByName)]
struct RecordRow {
    #[diesel(sql_type = Nullable<Text>)]
    kind: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    id: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    sequence: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    version: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    tag: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    size: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    iv: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Binary>)]
    checksum: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    client_time: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    metadata: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    created_at: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    updated_at: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    expires_at: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    deleted_at: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    ciphertext: Option<Vec<u8>>,
}

impl RecordRow {
    fn read(self, contents: Contents) -> QueryResult<Record> {
        let client_time = optional_timestamp(self.client_time)?;
        let created_at = optional_timestamp(self.created_at)?;
        let updated_at = optional_timestamp(self.updated_at)?;
        let expires_at = optional_timestamp(self.expires_at)?;
        let raw = || {
            Some(RawRecord {
                kind: self.kind?,
                id: self.id?,
                sequence: self.sequence?,
                version: self.version?,
                tag: self.tag?,
                size: self.size?,
                iv: self.iv,
                checksum: self.checksum,
                client_time,
                metadata: self.metadata?,
                created_at: created_at?,
                updated_at: updated_at?,
                expires_at,
                deleted: self.deleted_at.is_some(),
                ciphertext: self.ciphertext,
            })
        };
        raw().and_then(|raw| raw.read(contents)).ok_or_else(|| unreadable("record"))
    }
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = BigInt)]
    last_accessed: i64,
    #[diesel(embed)]
    record: RecordRow,
}

#[derive(QueryableByName)]
struct FeedRow {
    #[diesel(sql_type = Binary)]
    generation: Vec<u8>,
    #[diesel(sql_type = Nullable<Binary>)]
    owner: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    forgotten: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last_accessed: Option<i64>,
    #[diesel(sql_type = Nullable<Bool>)]
    fits: Option<bool>,
    #[diesel(embed)]
    record: RecordRow,
}

/// What was read, and whether the time of this access is to be written down.
type Accessed<T> = (T, bool);

impl SqliteStore {
    pub async fn record(
        &self,
        owner: &Did,
        key: &RecordKey,
        contents: Contents,
    ) -> Result<Option<Record>> {
        let (did, key) = (owner.clone(), key.clone());
        let find = move |conn: &mut _, now| find(conn, now, &did, &key, contents);
        let (record, access_due) = self.0.read("record", find).await?;
        self.accessed(owner, access_due).await;
        Ok(record)
    }

    pub async fn record_feed(&self, owner: &Did, request: FeedRequest) -> Result<RecordFeed> {
        let did = owner.clone();
        let feed = move |conn: &mut _, now| feed(conn, now, &did, &request);
        let (feed, access_due) = self.0.read("record_feed", feed).await?;
        self.accessed(owner, access_due).await;
        Ok(feed)
    }

    pub async fn record_usage(&self, owner: &Did) -> Result<RecordUsage> {
        let owner = owner.clone();
        self.0.read("record_usage", move |conn, _| usage(conn, &owner)).await
    }

    pub async fn inactive_owners(
        &self,
        inactive: Duration,
        page: &PageRequest,
    ) -> Result<Page<InactiveOwner>> {
        let after = page.after.as_ref().map(position).transpose()?;
        let limit = page.limit;
        let list =
            move |conn: &mut _, now| inactive_owners(conn, before(now, inactive), after, limit);
        self.0.read("inactive_owners", list).await
    }

    /// Records that the owner's records were read. That this fails does not keep a caller from
    /// reading them.
    async fn accessed(&self, owner: &Did, is_due: bool) {
        if !is_due {
            return;
        }
        let owner = owner.clone();
        let write = move |conn: &mut SqliteConnection, now: Timestamp| {
            diesel::update(record_owners::table.filter(record_owners::did.eq(owner.as_str())))
                .set(record_owners::last_accessed.eq(now.timestamp_micros()))
                .execute(conn)
                .map(drop)
        };
        if let Err(error) = self.0.write("record_accessed", write).await {
            tracing::warn!(%error, "the time of an access to records was not written");
        }
    }
}

/// Whether the recorded access is so old that this one is to be written down.
fn is_due(last_accessed: Option<i64>, now: Timestamp) -> bool {
    last_accessed.is_some_and(|at| at < before(now, ACCESS_GRANULARITY))
}

fn find(
    conn: &mut SqliteConnection,
    now: Timestamp,
    owner: &Did,
    key: &RecordKey,
    contents: Contents,
) -> QueryResult<Accessed<Option<Record>>> {
    let found: Option<Found> = diesel::sql_query(FIND)
        .bind::<Text, _>(owner.as_str())
        .bind::<Text, _>(key.kind.as_str())
        .bind::<Text, _>(key.id.as_str())
        .bind::<Bool, _>(contents == Contents::Read)
        .bind::<BigInt, _>(now.timestamp_micros())
        .get_result(conn)
        .optional()?;
    let Some(Found { last_accessed, record }) = found else { return Ok((None, false)) };
    Ok((Some(record.read(contents)?), is_due(Some(last_accessed), now)))
}

fn feed(
    conn: &mut SqliteConnection,
    now: Timestamp,
    owner: &Did,
    request: &FeedRequest,
) -> QueryResult<Accessed<RecordFeed>> {
    let FeedRequest { filter, since, limit, contents } = request;
    let rows: Vec<FeedRow> = diesel::sql_query(FEED)
        .bind::<Text, _>(owner.as_str())
        .bind::<BigInt, _>(since.map_or(0, |cursor| cursor.sequence))
        .bind::<Nullable<Text>, _>(filter.kind.as_ref().map(RecordKind::as_str))
        .bind::<Text, _>(serde_json::json!(filter.metadata).to_string())
        .bind::<BigInt, _>(i64::from(*limit) + 1)
        .bind::<Bool, _>(*contents == Contents::Read)
        .bind::<BigInt, _>(FEED_BYTES)
        .bind::<BigInt, _>(FEED_BYTES_OF_RECORD)
        .bind::<BigInt, _>(now.timestamp_micros())
        .load(conn)?;
    let first = rows.as_slice().first().ok_or_else(|| unreadable("history"))?;
    let access_due = is_due(first.last_accessed, now);
    let id = first.owner.as_deref().map(uuid).transpose()?;
    let owner = id.zip(first.last).zip(first.forgotten);
    let owner = owner.map(|((id, last), forgotten)| Reach { id, last, forgotten });
    let Some(mut next) = go_on(*since, uuid(&first.generation)?, owner) else {
        return Ok((RecordFeed::CursorExpired, access_due));
    };
    let there = rows.iter().filter(|row| row.record.kind.is_some()).count();
    let room = usize::try_from(*limit).unwrap_or(usize::MAX);
    let page = rows.into_iter().take(room).take_while(|row| row.fits == Some(true));
    let page: QueryResult<Vec<Record>> = page.map(|row| row.record.read(*contents)).collect();
    let records = page?;
    let more = there > records.len();
    // At the end, it is the last change of all, whether or not it is one of the page's.
    let last = records.last().filter(|_| more).map(|record| record.sequence);
    next.sequence = last.or(owner.map(|owner| owner.last)).unwrap_or(0);
    Ok((RecordFeed::Page { records, next, more }, access_due))
}

fn usage(conn: &mut SqliteConnection, owner: &Did) -> QueryResult<RecordUsage> {
    let found: Option<(Vec<u8>, i64, i64)> = record_owners::table
        .filter(record_owners::did.eq(owner.as_str()))
        .select((record_owners::id, record_owners::records, record_owners::bytes))
        .get_result(conn)
        .optional()?;
    let Some((id, records, bytes)) = found else { return Ok(RecordUsage::default()) };
    let kinds: Vec<(String, i64)> = records::table
        .filter(records::owner.eq(id).and(records::deleted_at.is_null()))
        .group_by(records::kind)
        .select((records::kind, diesel::dsl::count_star()))
        .load(conn)?;
    let kinds = kinds.into_iter().map(|(kind, count)| Ok((kind, number(count)?)));
    let kinds: QueryResult<_> = kinds.collect();
    Ok(RecordUsage { records: number(records)?, bytes: number(bytes)?, kinds: kinds? })
}

type OwnerRow = (Vec<u8>, Option<String>, i64, i64, i64);

fn inactive_owners(
    conn: &mut SqliteConnection,
    latest: i64,
    after: Option<(i64, Vec<u8>)>,
    limit: u32,
) -> QueryResult<Page<InactiveOwner>> {
    let mut query = record_owners::table
        .filter(record_owners::did.is_not_null())
        .filter(record_owners::last_accessed.lt(latest))
        .into_boxed();
    if let Some((at, id)) = after {
        let later = record_owners::last_accessed.eq(at).and(record_owners::id.gt(id));
        query = query.filter(record_owners::last_accessed.gt(at).or(later));
    }
    let mut rows: Vec<OwnerRow> = query
        .order((record_owners::last_accessed, record_owners::id))
        .limit(i64::from(limit) + 1)
        .select((
            record_owners::id,
            record_owners::did,
            record_owners::last_accessed,
            record_owners::records,
            record_owners::bytes,
        ))
        .load(conn)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows
        .last()
        .filter(|_| more)
        .map(|(id, _, at, ..)| Cursor::new([at.to_be_bytes().as_slice(), id].concat()));
    let read = |(_, owner, at, records, bytes): OwnerRow| {
        Ok(InactiveOwner {
            did: did(&owner.unwrap_or_default())?,
            last_accessed: timestamp(at)?,
            records: number(records)?,
            bytes: number(bytes)?,
        })
    };
    let items: QueryResult<Vec<_>> = rows.into_iter().map(read).collect();
    Ok(Page { items: items?, next })
}

/// The last owner of the page before.
fn position(cursor: &Cursor) -> std::result::Result<(i64, Vec<u8>), InvalidCursor> {
    let (micros, id) = cursor.position().split_first_chunk().ok_or(InvalidCursor)?;
    Ok((i64::from_be_bytes(*micros), id.to_vec()))
}
