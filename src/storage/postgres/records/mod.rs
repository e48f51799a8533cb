//! Sealed records: reading them. What they hold is read with the row that says what it must be, in
//! one statement, so that both are of one moment.

mod change;
mod findings;
pub(super) mod remove;
mod shares;

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    BigInt, Bool, Bytea, Double, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::connection::statement::Prepared;
use super::sessions::lists::cut;
use super::sessions::row::{did, unsigned};
use super::{PostgresStore, unreadable};
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
         r.metadata::text AS metadata, r.created_at, r.updated_at, r.expires_at, \
         r.deleted_at IS NOT NULL AS deleted, b.ciphertext"
    };
}

const FIND: &str = concat!(
    "SELECT o.last_accessed < now() - make_interval(secs => $5) AS access_due, ",
    record_columns!(),
    " FROM record_owners o
    JOIN records r ON r.owner = o.id AND r.kind = $2 AND r.id = $3
    LEFT JOIN record_blobs b ON $4 AND b.owner = r.owner AND b.sequence = r.sequence
    WHERE o.did = $1 AND r.deleted_at IS NULL AND (r.expires_at IS NULL OR r.expires_at > now())"
);

/// The owner, the generation and the page, as of one moment: at least one row. A record that expired
/// is left out, until its tombstone comes. `fits` is false for what the page has no room for.
const FEED: &str = concat!(
    "SELECT h.generation, o.id AS owner, o.sequence AS last, o.forgotten,
        o.last_accessed < now() - make_interval(secs => $9) AS access_due,
        r.before = 0 OR r.before + r.bytes <= $7 AS fits, ",
    record_columns!(),
    " FROM history h
    LEFT JOIN record_owners o ON o.did = $1
    LEFT JOIN LATERAL (
        SELECT *, (sum(bytes) OVER (ORDER BY sequence) - bytes)::bigint AS before
        FROM (
            SELECT *, $8 + octet_length(metadata::text)
                + CASE WHEN $6 THEN size * 4 / 3 ELSE 0 END AS bytes
            FROM records
            WHERE owner = o.id AND sequence > $2 AND ($3 IS NULL OR kind = $3) AND metadata @> $4
                AND (expires_at IS NULL OR expires_at > now())
            ORDER BY sequence LIMIT $5
        ) AS found
    ) AS r ON true
    LEFT JOIN record_blobs b ON $6 AND (r.before = 0 OR r.before + r.bytes <= $7)
        AND b.owner = r.owner AND b.sequence = r.sequence
    ORDER BY r.sequence"
);

const ACCESSED: &str = "
    UPDATE record_owners SET last_accessed = now()
    WHERE did = $1 AND last_accessed < now() - make_interval(secs => $2)";

const USAGE: &str = "
    SELECT o.records, o.bytes, r.kind, count(r.kind) AS live
    FROM record_owners o LEFT JOIN records r ON r.owner = o.id AND r.deleted_at IS NULL
    WHERE o.did = $1 GROUP BY o.records, o.bytes, r.kind";

const INACTIVE: &str = "
    SELECT id, did, last_accessed, records, bytes FROM record_owners
    WHERE did IS NOT NULL AND last_accessed < now() - make_interval(secs => $1)
        AND ($2 IS NULL OR (last_accessed, id) > ($2, $3))
    ORDER BY last_accessed, id LIMIT $4";

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
    #[diesel(sql_type = Nullable<Bytea>)]
    tag: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    size: Option<i64>,
    #[diesel(sql_type = Nullable<Bytea>)]
    iv: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Bytea>)]
    checksum: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    client_time: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    metadata: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    created_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    updated_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<Timestamp>,
    #[diesel(sql_type = Bool)]
    deleted: bool,
    #[diesel(sql_type = Nullable<Bytea>)]
    ciphertext: Option<Vec<u8>>,
}

impl RecordRow {
    fn read(self, contents: Contents) -> QueryResult<Record> {
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
                client_time: self.client_time,
                metadata: self.metadata?,
                created_at: self.created_at?,
                updated_at: self.updated_at?,
                expires_at: self.expires_at,
                deleted: self.deleted,
                ciphertext: self.ciphertext,
            })
        };
        raw().and_then(|raw| raw.read(contents)).ok_or_else(|| unreadable("a record that is none"))
    }
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    access_due: bool,
    #[diesel(embed)]
    record: RecordRow,
}

#[derive(QueryableByName)]
struct FeedRow {
    #[diesel(sql_type = SqlUuid)]
    generation: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    owner: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    last: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    forgotten: Option<i64>,
    #[diesel(sql_type = Nullable<Bool>)]
    access_due: Option<bool>,
    #[diesel(sql_type = Nullable<Bool>)]
    fits: Option<bool>,
    #[diesel(embed)]
    record: RecordRow,
}

#[derive(QueryableByName)]
struct UsageRow {
    #[diesel(sql_type = BigInt)]
    records: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = Nullable<Text>)]
    kind: Option<String>,
    #[diesel(sql_type = BigInt)]
    live: i64,
}

#[derive(QueryableByName)]
struct OwnerRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    did: String,
    #[diesel(sql_type = Timestamptz)]
    last_accessed: Timestamp,
    #[diesel(sql_type = BigInt)]
    records: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

impl PostgresStore {
    pub async fn record(
        &self,
        owner: &Did,
        key: &RecordKey,
        contents: Contents,
    ) -> Result<Option<Record>> {
        let found: Option<Found> = self
            .read("record", async |c| {
                let find = sql_query(FIND)
                    .bind::<Text, _>(owner.as_str())
                    .bind::<Text, _>(key.kind.as_str())
                    .bind::<Text, _>(key.id.as_str())
                    .bind::<Bool, _>(contents == Contents::Read)
                    .bind::<Double, _>(ACCESS_GRANULARITY.as_secs_f64());
                Prepared(find).get_result(c).await.optional()
            })
            .await?;
        let Some(Found { access_due, record }) = found else { return Ok(None) };
        self.accessed(owner, access_due).await;
        record.read(contents).map(Some).map_err(|error| super::of_its_row(&error))
    }

    pub async fn record_feed(&self, owner: &Did, request: FeedRequest) -> Result<RecordFeed> {
        let FeedRequest { filter, since, limit, contents } = request;
        let metadata = serde_json::json!(filter.metadata);
        let after = since.map_or(0, |cursor| cursor.sequence);
        let rows: Vec<FeedRow> = self
            .read("record_feed", async |c| {
                let feed = sql_query(FEED)
                    .bind::<Text, _>(owner.as_str())
                    .bind::<BigInt, _>(after)
                    .bind::<Nullable<Text>, _>(filter.kind.as_ref().map(RecordKind::as_str))
                    .bind::<Jsonb, _>(&metadata)
                    .bind::<BigInt, _>(i64::from(limit) + 1)
                    .bind::<Bool, _>(contents == Contents::Read)
                    .bind::<BigInt, _>(FEED_BYTES)
                    .bind::<BigInt, _>(FEED_BYTES_OF_RECORD)
                    .bind::<Double, _>(ACCESS_GRANULARITY.as_secs_f64());
                Prepared(feed).load(c).await
            })
            .await?;
        let Some(first) = rows.as_slice().first() else {
            return Err(super::of_its_row(&unreadable("a database without a history")));
        };
        self.accessed(owner, first.access_due.unwrap_or(false)).await;
        let owner = first.owner.zip(first.last).zip(first.forgotten);
        let owner = owner.map(|((id, last), forgotten)| Reach { id, last, forgotten });
        let Some(mut next) = go_on(since, first.generation, owner) else {
            return Ok(RecordFeed::CursorExpired);
        };
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        let there = rows.iter().filter(|row| row.record.kind.is_some()).count();
        let page = rows.into_iter().take(room).take_while(|row| row.fits == Some(true));
        let records: QueryResult<Vec<Record>> = page.map(|row| row.record.read(contents)).collect();
        let records = records.map_err(|error| super::of_its_row(&error))?;
        let more = there > records.len();
        // At the end, it is the last change of all, whether or not it is one of the page's.
        let last = records.last().filter(|_| more).map(|record| record.sequence);
        next.sequence = last.or(owner.map(|owner| owner.last)).unwrap_or(0);
        Ok(RecordFeed::Page { records, next, more })
    }

    pub async fn record_usage(&self, owner: &Did) -> Result<RecordUsage> {
        self.read("record_usage", async |c| {
            let usage = sql_query(USAGE).bind::<Text, _>(owner.as_str());
            let rows: Vec<UsageRow> = Prepared(usage).load(c).await?;
            let mut usage = RecordUsage::default();
            for row in rows {
                usage.records = unsigned(row.records)?;
                usage.bytes = unsigned(row.bytes)?;
                if let Some(kind) = row.kind {
                    usage.kinds.insert(kind, unsigned(row.live)?);
                }
            }
            Ok(usage)
        })
        .await
    }

    pub async fn inactive_owners(
        &self,
        inactive: Duration,
        page: &PageRequest,
    ) -> Result<Page<InactiveOwner>> {
        let after = page.after.as_ref().map(position).transpose()?;
        let rows: Vec<OwnerRow> = self
            .read("inactive_owners", async |c| {
                let owners = sql_query(INACTIVE)
                    .bind::<Double, _>(inactive.as_secs_f64())
                    .bind::<Nullable<Timestamptz>, _>(after.map(|(at, _)| at))
                    .bind::<Nullable<SqlUuid>, _>(after.map(|(_, id)| id))
                    .bind::<BigInt, _>(i64::from(page.limit) + 1);
                Prepared(owners).load(c).await
            })
            .await?;
        let Page { items, next } = cut(rows, page.limit, |last| {
            let at = last.last_accessed.timestamp_micros().to_be_bytes();
            [at.as_slice(), last.id.as_bytes()].concat()
        });
        let read = |row: OwnerRow| {
            Ok(InactiveOwner {
                did: did(&row.did)?,
                last_accessed: row.last_accessed,
                records: unsigned(row.records)?,
                bytes: unsigned(row.bytes)?,
            })
        };
        let items: QueryResult<Vec<_>> = items.into_iter().map(read).collect();
        Ok(Page { items: items.map_err(|error| super::of_its_row(&error))?, next })
    }

    /// Records that the owner's records were read. That this fails does not keep a caller from reading them.
    async fn accessed(&self, owner: &Did, is_due: bool) {
        if !is_due {
            return;
        }
        let written = self.write("record_accessed", async |c| {
            let accessed = sql_query(ACCESSED)
                .bind::<Text, _>(owner.as_str())
                .bind::<Double, _>(ACCESS_GRANULARITY.as_secs_f64());
            Prepared(accessed).execute(c).await.map(drop)
        });
        if let Err(error) = written.await {
            tracing::warn!(%error, "the time of an access to records was not written");
        }
    }
}

fn position(cursor: &Cursor) -> std::result::Result<(Timestamp, Uuid), InvalidCursor> {
    let (micros, id) = cursor.position().split_first_chunk().ok_or(InvalidCursor)?;
    let micros = i64::from_be_bytes(*micros);
    let at = Timestamp::from_timestamp_micros(micros).ok_or(InvalidCursor)?;
    Ok((at, Uuid::from_slice(id).map_err(|_| InvalidCursor)?))
}
