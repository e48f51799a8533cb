//! Changes of records, in the writer's transaction: what is there is read and judged, and then
//! written. No other write comes between.

use std::collections::HashMap;

use diesel::prelude::*;
use uuid::Uuid;

use crate::domain::{Did, RecordChange, RecordLimits, RecordsChanged, Timestamp};
use crate::storage::records::plan::{Current, Known, Owner, Plan, Taken, Write, plan};
use crate::storage::records::row::tag;
use crate::storage::sqlite::SqliteStore;
use crate::storage::sqlite::dids::is_revoked;
use crate::storage::sqlite::schema::{record_blobs, record_owners, record_shares, records};
use crate::storage::sqlite::types::{stored, timestamp, unreadable, uuid};
use crate::storage::{RecordWriter, Result};

impl SqliteStore {
    pub async fn change_records(
        &self,
        owner: &Did,
        writer: RecordWriter,
        changes: Vec<RecordChange>,
        limits: RecordLimits,
    ) -> Result<RecordsChanged> {
        let owner = owner.clone();
        let change = move |conn: &mut _, now| change(conn, now, &owner, writer, &changes, &limits);
        self.0.write("change_records", change).await
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = record_owners)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
struct OwnerRow {
    id: Vec<u8>,
    agent: bool,
    sequence: i64,
    records: i64,
    bytes: i64,
}

impl OwnerRow {
    fn read(self) -> QueryResult<Owner> {
        let Self { id, agent, sequence, records, bytes } = self;
        Ok(Owner { id: uuid(&id)?, agent, sequence, records, bytes })
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = records)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
struct CurrentRow {
    sequence: i64,
    version: i64,
    tag: Vec<u8>,
    size: i64,
    created_at: i64,
    expires_at: Option<i64>,
    deleted_at: Option<i64>,
}

fn change(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: &Did,
    writer: RecordWriter,
    changes: &[RecordChange],
    limits: &RecordLimits,
) -> QueryResult<RecordsChanged> {
    let found = record_owners::table
        .filter(record_owners::did.eq(did.as_str()))
        .select(OwnerRow::as_select())
        .get_result(conn)
        .optional()?;
    let found = found.map(OwnerRow::read).transpose()?;
    let is_new = found.is_none();
    let owner = found.unwrap_or_else(|| Owner {
        id: Uuid::new_v4(),
        agent: writer == RecordWriter::Agent,
        ..Owner::default()
    });
    let revoked = is_revoked(conn, did)?;
    let known = Known { revoked, ..look(conn, now, &owner, changes)? };
    let plan = match plan(&owner, &known, changes, limits) {
        Ok(plan) => plan,
        Err(refused) => return Ok(refused),
    };
    if is_new {
        diesel::insert_into(record_owners::table)
            .values((
                record_owners::id.eq(owner.id.as_bytes().as_slice()),
                record_owners::did.eq(did.as_str()),
                record_owners::agent.eq(owner.agent),
                record_owners::last_accessed.eq(now.timestamp_micros()),
            ))
            .execute(conn)?;
    }
    write(conn, &owner, &plan, now)?;
    Ok(plan.done())
}

/// An owner that was not erased.
pub(super) fn owner_by_id(conn: &mut SqliteConnection, id: &[u8]) -> QueryResult<Option<Owner>> {
    let row = record_owners::table
        .find(id)
        .filter(record_owners::did.is_not_null())
        .select(OwnerRow::as_select())
        .get_result(conn)
        .optional()?;
    row.map(OwnerRow::read).transpose()
}

/// What there is.
pub(super) fn look(
    conn: &mut SqliteConnection,
    now: Timestamp,
    owner: &Owner,
    changes: &[RecordChange],
) -> QueryResult<Known> {
    let mut current = HashMap::new();
    for RecordChange { key, .. } in changes {
        let row: Option<CurrentRow> = records::table
            .find((owner.id.as_bytes().as_slice(), key.kind.as_str(), key.id.as_str()))
            .select(CurrentRow::as_select())
            .get_result(conn)
            .optional()?;
        let Some(row) = row else { continue };
        let is_over = row.expires_at.is_some_and(|at| at <= now.timestamp_micros());
        let found = Current {
            sequence: row.sequence,
            tag: tag(row.version, &row.tag).ok_or_else(|| unreadable("tag of a record"))?,
            size: row.size,
            created_at: timestamp(row.created_at)?,
            live: row.deleted_at.is_none() && !is_over,
        };
        current.insert(key.clone(), found);
    }
    let shares: Vec<(i64, i64)> =
        record_shares::table.select((record_shares::records, record_shares::bytes)).load(conn)?;
    let agents = Taken {
        records: shares.iter().map(|(records, _)| records).sum(),
        bytes: shares.iter().map(|(_, bytes)| bytes).sum(),
    };
    Ok(Known { now, revoked: false, current, agents })
}

pub(super) fn write(
    conn: &mut SqliteConnection,
    owner: &Owner,
    plan: &Plan<'_>,
    now: Timestamp,
) -> QueryResult<()> {
    let id = owner.id.as_bytes().as_slice();
    diesel::update(record_owners::table.find(id))
        .set((
            record_owners::sequence.eq(plan.sequence),
            record_owners::records.eq(record_owners::records + plan.records),
            record_owners::bytes.eq(record_owners::bytes + plan.bytes),
            record_owners::last_accessed.eq(now.timestamp_micros()),
        ))
        .execute(conn)?;
    for write in &plan.writes {
        write_one(conn, id, write, now)?;
    }
    count_share(conn, owner, plan.records, plan.bytes)
}

fn write_one(
    conn: &mut SqliteConnection,
    owner: &[u8],
    write: &Write<'_>,
    now: Timestamp,
) -> QueryResult<()> {
    let Write { change, written, replaces } = write;
    if let Some(sequence) = *replaces {
        diesel::delete(record_blobs::table.find((owner, sequence))).execute(conn)?;
    }
    let new = change.put.as_ref();
    if let Some(new) = new {
        diesel::insert_into(record_blobs::table)
            .values((
                record_blobs::owner.eq(owner),
                record_blobs::sequence.eq(written.sequence),
                record_blobs::ciphertext.eq(new.content.ciphertext()),
            ))
            .execute(conn)?;
    }
    let micros = |time: Timestamp| time.timestamp_micros();
    let checksum = new.map(|new| new.content.checksum().0);
    let row = (
        records::sequence.eq(written.sequence),
        records::version.eq(written.tag.version),
        records::tag.eq(written.tag.random.as_slice()),
        records::size.eq(stored(written.size)),
        records::iv.eq(new.map(|new| new.content.iv().as_slice())),
        records::checksum.eq(checksum.as_ref().map(<[u8; 32]>::as_slice)),
        records::client_time.eq(new.and_then(|new| new.client_time).map(micros)),
        records::metadata.eq(new.map_or("{}", |new| new.metadata.as_str())),
        records::created_at.eq(micros(written.created_at)),
        records::updated_at.eq(micros(now)),
        records::expires_at.eq(new.and_then(|new| new.expires_at).map(micros)),
        records::deleted_at.eq(new.is_none().then(|| micros(now))),
    );
    diesel::insert_into(records::table)
        .values((
            records::owner.eq(owner),
            records::kind.eq(change.key.kind.as_str()),
            records::id.eq(change.key.id.as_str()),
            row,
        ))
        .on_conflict((records::owner, records::kind, records::id))
        .do_update()
        .set(row)
        .execute(conn)?;
    Ok(())
}

/// Counts what an agent's owner has more, among all that agents have.
pub(super) fn count_share(
    conn: &mut SqliteConnection,
    owner: &Owner,
    records: i64,
    bytes: i64,
) -> QueryResult<()> {
    if !owner.agent {
        return Ok(());
    }
    diesel::update(record_shares::table.find(owner.share()))
        .set((
            record_shares::records.eq(record_shares::records + records),
            record_shares::bytes.eq(record_shares::bytes + bytes),
        ))
        .execute(conn)?;
    Ok(())
}
