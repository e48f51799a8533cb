//! DIDs: what is stored about them, and their revocation, which no write here can undo.

pub(super) mod readings;

use diesel::prelude::*;

use super::schema::dids;
use super::types::{self, number, optional_timestamp, timestamp, unreadable};
use super::words::index_did;
use super::{SqliteStore, events};
use crate::domain::{
    Cursor, Did, DidDocument, DidFilter, DidForgotten, DidRecord, DidRevoked, DidStored, Gone,
    InvalidCursor, KeyType, NewDid, NewEvent, Page, PageRequest, PublicKey, Timestamp,
};
use crate::storage::readable::readable;
use crate::storage::{DidChanges, Result};

impl SqliteStore {
    pub async fn did(&self, did: &Did) -> Result<Option<DidRecord>> {
        let did = did.clone();
        self.0.read("did", move |conn, now| find(conn, now, &did)).await
    }

    pub async fn put_did(&self, new: NewDid, audit: NewEvent) -> Result<DidStored> {
        self.0.write("put_did", move |conn, now| put(conn, now, &new, &audit)).await
    }

    pub async fn forget_did(&self, did: &Did, audit: NewEvent) -> Result<DidForgotten> {
        let did = did.clone();
        self.0.write("forget_did", move |conn, now| forget(conn, now, &did, &audit)).await
    }

    pub async fn revoke_did(&self, did: &Did, audit: NewEvent) -> Result<DidRevoked> {
        let did = did.clone();
        self.0.write("revoke_did", move |conn, now| revoke(conn, now, &did, &audit)).await
    }

    pub async fn list_dids(
        &self,
        filter: &DidFilter,
        page: &PageRequest,
    ) -> Result<Page<DidRecord>> {
        let (filter, limit) = (filter.clone(), page.limit);
        let after = page.after.as_ref().map(position).transpose()?;
        let list = move |conn: &mut _, now| list(conn, now, &filter, after.as_ref(), limit);
        self.0.read("list_dids", list).await
    }

    /// Reports changes by other processes within about a second. It reports none by this process,
    /// which is the only one that serves.
    #[must_use]
    pub fn watch_dids(&self) -> DidChanges {
        DidChanges::of_file(self.0.changes.clone())
    }
}

/// The `source` of a key that was stored by hand.
const STORED: &str = "stored";

/// A DID's row without its document, which may be large.
#[derive(Queryable, Selectable)]
#[diesel(table_name = dids)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
struct DidRow {
    did: String,
    public_key: Option<Vec<u8>>,
    key_type: Option<String>,
    owner_address: Option<String>,
    gone: Option<String>,
    revoked_at: Option<i64>,
    source: Option<String>,
    version: Option<i64>,
    fetched_at: Option<i64>,
    stale_at: Option<i64>,
    created_at: i64,
    updated_at: i64,
}

impl DidRow {
    fn read(self, now: Timestamp) -> QueryResult<DidRecord> {
        let key = self.key_type.zip(self.public_key).map(|(key_type, bytes)| {
            KeyType::parse(&key_type)
                .and_then(|key_type| PublicKey::new(key_type, &bytes).ok())
                .ok_or_else(|| unreadable("public key"))
        });
        let gone = self.gone.map(|word| Gone::parse(&word).ok_or_else(|| unreadable("gone")));
        Ok(DidRecord {
            did: types::did(&self.did)?,
            key: key.transpose()?,
            owner_address: self.owner_address,
            document: None,
            gone: gone.transpose()?,
            revoked_at: optional_timestamp(self.revoked_at)?,
            source: self.source,
            version: self.version.map(number).transpose()?,
            fetched_at: optional_timestamp(self.fetched_at)?,
            stale_at: optional_timestamp(self.stale_at)?,
            created_at: timestamp(self.created_at)?,
            updated_at: timestamp(self.updated_at)?,
            observed_at: now,
        })
    }
}

/// What is stored about a DID, its document included.
pub(super) fn find(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: &Did,
) -> QueryResult<Option<DidRecord>> {
    let row: Option<(DidRow, Option<String>)> = dids::table
        .find(did.as_str())
        .select((DidRow::as_select(), dids::document))
        .get_result(conn)
        .optional()?;
    let Some((row, document)) = row else { return Ok(None) };
    // An earlier version may have stored an invalid document. It can be read again from its home.
    let document = document
        .and_then(|text| serde_json::from_str(&text).ok())
        .and_then(|json| DidDocument::parse(did, json).ok());
    Ok(Some(DidRecord { document, ..row.read(now)? }))
}

/// A DID as lists have it.
pub(super) fn listed(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: &str,
) -> QueryResult<Option<DidRecord>> {
    let row = dids::table.find(did).select(DidRow::as_select()).get_result(conn).optional()?;
    Ok(row.and_then(|row: DidRow| readable(row.read(now), "DID", did)))
}

pub(super) fn is_revoked(conn: &mut SqliteConnection, did: &Did) -> QueryResult<bool> {
    let revoked =
        dids::table.find(did.as_str()).select(dids::revoked).get_result(conn).optional()?;
    Ok(revoked.unwrap_or(false))
}

fn existing(conn: &mut SqliteConnection, now: Timestamp, did: &Did) -> QueryResult<DidRecord> {
    find(conn, now, did)?.ok_or(diesel::result::Error::NotFound)
}

fn put(
    conn: &mut SqliteConnection,
    now: Timestamp,
    new: &NewDid,
    event: &NewEvent,
) -> QueryResult<DidStored> {
    let before = find(conn, now, &new.did)?;
    if let Some(record) = before.as_ref().filter(|record| record.revoked_at.is_some()) {
        return Ok(DidStored::Revoked(record.clone()));
    }
    let micros = now.timestamp_micros();
    let content = || {
        (
            dids::public_key.eq(new.key.as_bytes()),
            dids::key_type.eq(new.key.key_type().as_str()),
            dids::owner_address.eq(new.owner_address.as_ref()),
            dids::document.eq(None::<String>),
            dids::gone.eq(None::<String>),
            dids::source.eq(STORED),
            dids::version.eq(None::<i64>),
            dids::fetched_at.eq(micros),
            dids::stale_at.eq(None::<i64>),
            dids::updated_at.eq(micros),
        )
    };
    diesel::insert_into(dids::table)
        .values((dids::did.eq(new.did.as_str()), dids::created_at.eq(micros), content()))
        .on_conflict(dids::did)
        .do_update()
        .set(content())
        .execute(conn)?;
    index_did(conn, &new.did)?;
    events::write(conn, now, event)?;
    let record = existing(conn, now, &new.did)?;
    Ok(if before.is_some() { DidStored::Replaced(record) } else { DidStored::Created(record) })
}

fn forget(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: &Did,
    event: &NewEvent,
) -> QueryResult<DidForgotten> {
    let forgotten = diesel::delete(dids::table.find(did.as_str()).filter(dids::revoked.eq(false)))
        .execute(conn)?;
    if forgotten > 0 {
        events::write(conn, now, event)?;
        return Ok(DidForgotten::Done);
    }
    Ok(if is_revoked(conn, did)? { DidForgotten::Revoked } else { DidForgotten::NotFound })
}

fn revoke(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: &Did,
    event: &NewEvent,
) -> QueryResult<DidRevoked> {
    let revoked = mark_revoked(conn, now, did)?;
    if revoked.first {
        events::write(conn, now, event)?;
    }
    Ok(revoked)
}

/// Revokes a DID without a word to the audit log.
pub(super) fn mark_revoked(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: &Did,
) -> QueryResult<DidRevoked> {
    // Only this column is read, so that a DID can be revoked even when its row is broken.
    let before =
        dids::table.find(did.as_str()).select(dids::revoked_at).get_result(conn).optional()?;
    if let Some(revoked_at) = optional_timestamp(before.flatten())? {
        return Ok(DidRevoked { revoked_at, first: false });
    }
    let micros = now.timestamp_micros();
    let revocation =
        (dids::revoked.eq(true), dids::revoked_at.eq(micros), dids::updated_at.eq(micros));
    diesel::insert_into(dids::table)
        .values((dids::did.eq(did.as_str()), dids::created_at.eq(micros), revocation))
        .on_conflict(dids::did)
        .do_update()
        .set(revocation)
        .execute(conn)?;
    index_did(conn, did)?;
    Ok(DidRevoked { revoked_at: now, first: true })
}

/// The last DID of the previous page.
fn position(cursor: &Cursor) -> std::result::Result<Did, InvalidCursor> {
    let text = std::str::from_utf8(cursor.position()).map_err(|_| InvalidCursor)?;
    Did::parse(text).map_err(|_| InvalidCursor)
}

/// DIDs in the order of their text.
fn list(
    conn: &mut SqliteConnection,
    now: Timestamp,
    filter: &DidFilter,
    after: Option<&Did>,
    limit: u32,
) -> QueryResult<Page<DidRecord>> {
    let mut query = dids::table.select(DidRow::as_select()).into_boxed();
    if let Some(owner) = &filter.owner_address {
        query = query.filter(dids::owner_address.eq(owner));
    }
    if let Some(key_type) = filter.key_type {
        query = query.filter(dids::key_type.eq(key_type.as_str()));
    }
    if let Some(revoked) = filter.revoked {
        query = query.filter(dids::revoked.eq(revoked));
    }
    if let Some(after) = after {
        query = query.filter(dids::did.gt(after.as_str()));
    }
    let mut rows: Vec<DidRow> = query.order(dids::did).limit(i64::from(limit) + 1).load(conn)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| Cursor::new(row.did.as_bytes().to_vec()));
    let items = rows.into_iter().filter_map(|row| {
        let did = row.did.clone();
        readable(row.read(now), "DID", did)
    });
    Ok(Page { items: items.collect(), next })
}
