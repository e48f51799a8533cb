//! Changes of records. One transaction locks the owner, looks what is there, locks what agents share,
//! and then writes everything in one statement. The locks make each answer durable, also one that
//! changes nothing.
//!
//! A change and a revocation cannot cross. The transaction first takes a shared lock on the owner's
//! DID, as an opening of a session does; a revocation takes the same lock exclusively. The statement
//! that looks for the revocation comes after it.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::shares::{self, Rows};
use crate::domain::{Did, RecordChange, RecordLimits, RecordsChanged, Timestamp};
use crate::storage::postgres::connection::confirm::confirm;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::{PostgresStore, unreadable};
use crate::storage::records::plan::{
    Current, Known, Owner, Plan, Taken, Write, full_of_agents, plan,
};
use crate::storage::records::row::{key, tag};
use crate::storage::{RecordWriter, Result};

macro_rules! owner_columns {
    () => {
        "id, agent, sequence, records, bytes"
    };
}

/// Locks the DID, and then its owner, if there is one. The subquery does not depend on a row, so it
/// runs once, before any row is looked for. All take the two locks in this order.
const LOCK: &str = concat!(
    "SELECT ",
    owner_columns!(),
    " FROM record_owners
    WHERE (SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0)) IS NOT NULL) AND did = $1
    FOR NO KEY UPDATE"
);

/// Of an owner that was not erased.
const LOCK_BY_ID: &str = concat!(
    "SELECT ",
    owner_columns!(),
    " FROM record_owners WHERE id = $1 AND did IS NOT NULL FOR NO KEY UPDATE"
);

/// Another one may have made it at this moment. Then no row is inserted.
const CREATE: &str = "
    INSERT INTO record_owners (id, did, agent, last_accessed) VALUES ($1, $2, $3, now())
    ON CONFLICT (did) DO NOTHING";

/// One that was made in this transaction, and has nothing.
const REMOVE: &str = "DELETE FROM record_owners WHERE id = $1";

/// A statement of its own, because the snapshot of the one that locks may be older than the lock. It
/// returns a row for each change, whether or not there is such a record.
const LOOK: &str = "
    SELECT clock_timestamp() AS now,
        EXISTS (SELECT FROM dids WHERE did = $1 AND revoked) AS revoked,
        agents.records AS agents_records, agents.bytes AS agents_bytes,
        r.kind, r.id, r.sequence, r.version, r.tag, r.size, r.created_at,
        r.deleted_at IS NULL AND (r.expires_at IS NULL OR r.expires_at > clock_timestamp()) AS live
    FROM unnest($3, $4) AS k (kind, id)
    CROSS JOIN (
        SELECT sum(records)::bigint AS records, sum(bytes)::bigint AS bytes FROM record_shares
    ) AS agents
    LEFT JOIN records r ON r.owner = $2 AND r.kind = k.kind AND r.id = k.id";

const WRITE: &str = "
    WITH owner AS (
        UPDATE record_owners
        SET sequence = $2, records = records + $3, bytes = bytes + $4, last_accessed = $5
        WHERE id = $1
    ),
    replaced AS (
        DELETE FROM record_blobs WHERE owner = $1 AND sequence = ANY ($6)
    ),
    blobs AS (
        INSERT INTO record_blobs (owner, sequence, ciphertext)
        SELECT $1, sequence, ciphertext FROM unnest($7, $8) AS blob (sequence, ciphertext)
    ),
    counted AS (
        UPDATE record_shares SET records = records + $3, bytes = bytes + $4 WHERE share = $21
    )
    INSERT INTO records (
        owner, kind, id, sequence, version, tag, size, iv, checksum, client_time, metadata,
        created_at, updated_at, expires_at, deleted_at
    )
    SELECT $1, kind, id, sequence, version, tag, size, iv, checksum, client_time, metadata::jsonb,
        created_at, $5, expires_at, CASE WHEN iv IS NULL THEN $5 END
    FROM unnest($9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) AS new (
        kind, id, sequence, version, tag, size, iv, checksum, client_time, metadata, created_at,
        expires_at
    )
    ON CONFLICT (owner, kind, id) DO UPDATE
    SET sequence = excluded.sequence, version = excluded.version, tag = excluded.tag,
        size = excluded.size, iv = excluded.iv, checksum = excluded.checksum,
        client_time = excluded.client_time, metadata = excluded.metadata,
        created_at = excluded.created_at, updated_at = excluded.updated_at,
        expires_at = excluded.expires_at, deleted_at = excluded.deleted_at";

#[derive(QueryableByName)]
struct OwnerRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Bool)]
    agent: bool,
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = BigInt)]
    records: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
}

impl OwnerRow {
    const fn read(self) -> Owner {
        let Self { id, agent, sequence, records, bytes } = self;
        Owner { id, agent, sequence, records, bytes }
    }
}

#[derive(QueryableByName)]
struct LookRow {
    #[diesel(sql_type = Timestamptz)]
    now: Timestamp,
    #[diesel(sql_type = Bool)]
    revoked: bool,
    #[diesel(sql_type = BigInt)]
    agents_records: i64,
    #[diesel(sql_type = BigInt)]
    agents_bytes: i64,
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
    #[diesel(sql_type = Nullable<Timestamptz>)]
    created_at: Option<Timestamp>,
    #[diesel(sql_type = Bool)]
    live: bool,
}

impl LookRow {
    fn current(&self) -> Option<Current> {
        Some(Current {
            sequence: self.sequence?,
            tag: tag(self.version?, self.tag.as_deref()?)?,
            size: self.size?,
            created_at: self.created_at?,
            live: self.live,
        })
    }
}

/// What came of one transaction.
enum Attempt {
    Done(RecordsChanged),
    /// Nothing is written. Another one made the owner at this moment, or more rows must be locked.
    Again(Rows),
}

impl PostgresStore {
    pub async fn change_records(
        &self,
        owner: &Did,
        writer: RecordWriter,
        changes: Vec<RecordChange>,
        limits: RecordLimits,
    ) -> Result<RecordsChanged> {
        let mut rows = Rows::One;
        loop {
            let attempt = self.transaction("change_records", async |c| {
                change(c, owner, writer, &changes, &limits, rows).await
            });
            match attempt.await? {
                Attempt::Done(outcome) => return Ok(outcome),
                Attempt::Again(more) => rows = more,
            }
        }
    }
}

async fn change(
    c: &mut AsyncPgConnection,
    did: &Did,
    writer: RecordWriter,
    changes: &[RecordChange],
    limits: &RecordLimits,
    rows: Rows,
) -> QueryResult<Attempt> {
    let found = lock(c, did).await?;
    let known = look(c, did.as_str(), found.as_ref(), changes).await?;
    let is_new = found.is_none();
    let owner = found.unwrap_or_else(|| Owner {
        id: Uuid::new_v4(),
        agent: writer == RecordWriter::Agent,
        ..Owner::default()
    });
    let plan = match plan(&owner, &known, changes, limits) {
        Ok(plan) => plan,
        Err(refused) => {
            if is_new {
                confirm(c).await?;
            }
            return Ok(Attempt::Done(refused));
        }
    };
    if is_new && !create(c, did, &owner).await? {
        return Ok(Attempt::Again(rows));
    }
    if let Some(refused) = refuse_for_agents(c, &owner, &known, limits, &plan, rows).await? {
        if is_new {
            Prepared(sql_query(REMOVE).bind::<SqlUuid, _>(owner.id)).execute(c).await?;
        }
        return Ok(refused);
    }
    write(c, &owner, &plan, known.now).await?;
    Ok(Attempt::Done(plan.done()))
}

/// Why an agent's plan is not written now. Otherwise what agents share is locked.
async fn refuse_for_agents(
    c: &mut AsyncPgConnection,
    owner: &Owner,
    known: &Known,
    limits: &RecordLimits,
    plan: &Plan<'_>,
    rows: Rows,
) -> QueryResult<Option<Attempt>> {
    if !owner.agent || (plan.records <= 0 && plan.bytes <= 0) {
        return Ok(None);
    }
    // What was known before the lock only tells which rows to lock.
    let rows = if shares::is_sure(known.agents, limits, plan) { rows } else { Rows::All };
    let agents = shares::lock(c, owner, rows).await?;
    if rows == Rows::One && !shares::is_sure(agents, limits, plan) {
        return Ok(Some(Attempt::Again(Rows::All)));
    }
    let full = full_of_agents(agents, limits, plan);
    Ok(full.map(|quota| Attempt::Done(RecordsChanged::QuotaReached(quota))))
}

async fn lock(c: &mut AsyncPgConnection, owner: &Did) -> QueryResult<Option<Owner>> {
    let row = Prepared(sql_query(LOCK).bind::<Text, _>(owner.as_str())).get_result(c).await;
    Ok(row.optional()?.map(OwnerRow::read))
}

pub(super) async fn lock_by_id(c: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Option<Owner>> {
    let row = Prepared(sql_query(LOCK_BY_ID).bind::<SqlUuid, _>(id)).get_result(c).await;
    Ok(row.optional()?.map(OwnerRow::read))
}

/// Whether it was made.
async fn create(c: &mut AsyncPgConnection, did: &Did, owner: &Owner) -> QueryResult<bool> {
    let create = sql_query(CREATE)
        .bind::<SqlUuid, _>(owner.id)
        .bind::<Text, _>(did.as_str())
        .bind::<Bool, _>(owner.agent);
    Ok(Prepared(create).execute(c).await? > 0)
}

/// What there is, where the owner is locked or does not exist.
pub(super) async fn look(
    c: &mut AsyncPgConnection,
    did: &str,
    owner: Option<&Owner>,
    changes: &[RecordChange],
) -> QueryResult<Known> {
    let kinds: Vec<_> = changes.iter().map(|change| change.key.kind.as_str()).collect();
    let ids: Vec<_> = changes.iter().map(|change| change.key.id.as_str()).collect();
    let look = sql_query(LOOK)
        .bind::<Text, _>(did)
        .bind::<Nullable<SqlUuid>, _>(owner.map(|owner| owner.id))
        .bind::<Array<Text>, _>(kinds)
        .bind::<Array<Text>, _>(ids);
    let rows: Vec<LookRow> = Prepared(look).load(c).await?;
    let first = rows.as_slice().first().ok_or_else(|| unreadable("an answer without a row"))?;
    let mut known = Known {
        now: first.now,
        revoked: first.revoked,
        agents: Taken { records: first.agents_records, bytes: first.agents_bytes },
        current: HashMap::new(),
    };
    for row in &rows {
        let (Some(kind), Some(id)) = (&row.kind, &row.id) else { continue };
        let read = key(kind, id).zip(row.current());
        let (key, current) = read.ok_or_else(|| unreadable("a record that is none"))?;
        known.current.insert(key, current);
    }
    Ok(known)
}

/// Writes a plan. The owner is locked.
pub(super) async fn write(
    c: &mut AsyncPgConnection,
    owner: &Owner,
    plan: &Plan<'_>,
    now: Timestamp,
) -> QueryResult<()> {
    let writes = &plan.writes;
    let share = (owner.agent && (plan.records, plan.bytes) != (0, 0)).then(|| owner.share());
    let replaced: Vec<_> = writes.iter().filter_map(|write| write.replaces).collect();
    let contents = writes.iter().filter_map(|write| {
        let new = write.change.put.as_ref()?;
        Some((write.written.sequence, new.content.ciphertext()))
    });
    let (sequences, ciphertexts): (Vec<_>, Vec<_>) = contents.unzip();
    let write = sql_query(WRITE)
        .bind::<SqlUuid, _>(owner.id)
        .bind::<BigInt, _>(plan.sequence)
        .bind::<BigInt, _>(plan.records)
        .bind::<BigInt, _>(plan.bytes)
        .bind::<Timestamptz, _>(now)
        .bind::<Array<BigInt>, _>(replaced)
        .bind::<Array<BigInt>, _>(sequences)
        .bind::<Array<Bytea>, _>(ciphertexts)
        .bind::<Array<Text>, _>(column(writes, |w| w.change.key.kind.as_str()))
        .bind::<Array<Text>, _>(column(writes, |w| w.change.key.id.as_str()))
        .bind::<Array<BigInt>, _>(column(writes, |w| w.written.sequence))
        .bind::<Array<BigInt>, _>(column(writes, |w| w.written.tag.version))
        .bind::<Array<Bytea>, _>(column(writes, |w| w.written.tag.random.as_slice()))
        .bind::<Array<BigInt>, _>(column(writes, |w| i64::try_from(w.written.size).unwrap_or(0)))
        .bind::<Array<Nullable<Bytea>>, _>(column(writes, |w| {
            w.change.put.as_ref().map(|new| new.content.iv().as_slice())
        }))
        .bind::<Array<Nullable<Bytea>>, _>(column(writes, |w| {
            w.change.put.as_ref().map(|new| new.content.checksum().0.to_vec())
        }))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(writes, |w| {
            w.change.put.as_ref().and_then(|new| new.client_time)
        }))
        .bind::<Array<Text>, _>(column(writes, |w| {
            w.change.put.as_ref().map_or("{}", |new| new.metadata.as_str())
        }))
        .bind::<Array<Timestamptz>, _>(column(writes, |w| w.written.created_at))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(writes, |w| {
            w.change.put.as_ref().and_then(|new| new.expires_at)
        }))
        .bind::<Nullable<Integer>, _>(share);
    Prepared(write).execute(c).await.map(drop)
}

/// One value of each write.
fn column<'w, T>(writes: &'w [Write<'w>], value: impl Fn(&'w Write<'w>) -> T) -> Vec<T> {
    writes.iter().map(value).collect()
}
