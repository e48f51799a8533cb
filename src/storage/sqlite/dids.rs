//! DIDs: what is stored about them, and their revocation, which no write here takes back.

use diesel::prelude::*;

use crate::domain::{
    AuditEvent, Cursor, Did, DidFilter, DidRecord, InvalidCursor, KeyType, Page, PublicKey,
    Timestamp,
};
use crate::storage::{DidForgotten, DidRevoked, DidStored, NewDid};

use super::audit;
use super::schema::dids;
use super::types::{self, optional_timestamp, timestamp, unreadable};

/// The `source` of a key that was stored by hand.
const STORED: &str = "stored";

#[derive(Queryable, Selectable)]
#[diesel(table_name = dids)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
struct DidRow {
    did: String,
    public_key: Option<Vec<u8>>,
    key_type: Option<String>,
    owner_address: Option<String>,
    revoked_at: Option<i64>,
    source: Option<String>,
    fetched_at: Option<i64>,
    stale_at: Option<i64>,
    created_at: i64,
    updated_at: i64,
}

impl DidRow {
    fn read(self) -> QueryResult<DidRecord> {
        let key = self.key_type.zip(self.public_key).map(|(key_type, bytes)| {
            KeyType::parse(&key_type)
                .and_then(|key_type| PublicKey::new(key_type, &bytes).ok())
                .ok_or_else(|| unreadable("public key"))
        });
        Ok(DidRecord {
            did: types::did(&self.did)?,
            key: key.transpose()?,
            owner_address: self.owner_address,
            document: None,
            gone: None,
            revoked_at: optional_timestamp(self.revoked_at)?,
            source: self.source,
            version: None,
            fetched_at: optional_timestamp(self.fetched_at)?,
            stale_at: optional_timestamp(self.stale_at)?,
            created_at: timestamp(self.created_at)?,
            updated_at: timestamp(self.updated_at)?,
            observed_at: timestamp(self.updated_at)?,
        })
    }
}

pub(super) fn find(conn: &mut SqliteConnection, did: &Did) -> QueryResult<Option<DidRecord>> {
    dids::table
        .find(did.as_str())
        .select(DidRow::as_select())
        .first(conn)
        .optional()?
        .map(DidRow::read)
        .transpose()
}

pub(super) fn is_revoked(conn: &mut SqliteConnection, did: &Did) -> QueryResult<bool> {
    let revoked = dids::table.find(did.as_str()).select(dids::revoked).first(conn).optional()?;
    Ok(revoked.unwrap_or(false))
}

fn existing(conn: &mut SqliteConnection, did: &Did) -> QueryResult<DidRecord> {
    find(conn, did)?.ok_or(diesel::result::Error::NotFound)
}

pub(super) fn put(
    conn: &mut SqliteConnection,
    now: Timestamp,
    new: &NewDid,
) -> QueryResult<DidStored> {
    let before = find(conn, &new.did)?;
    if let Some(record) = before.as_ref().filter(|record| record.revoked_at.is_some()) {
        return Ok(DidStored::Revoked(record.clone()));
    }
    let now = now.timestamp_micros();
    let content = || {
        (
            dids::public_key.eq(new.key.as_bytes()),
            dids::key_type.eq(new.key.key_type().as_str()),
            dids::owner_address.eq(new.owner_address.as_ref()),
            dids::document.eq(None::<String>),
            dids::source.eq(STORED),
            dids::version.eq(None::<String>),
            dids::fetched_at.eq(now),
            dids::stale_at.eq(None::<i64>),
            dids::updated_at.eq(now),
        )
    };
    diesel::insert_into(dids::table)
        .values((dids::did.eq(new.did.as_str()), dids::created_at.eq(now), content()))
        .on_conflict(dids::did)
        .do_update()
        .set(content())
        .execute(conn)?;
    let record = existing(conn, &new.did)?;
    Ok(if before.is_some() { DidStored::Replaced(record) } else { DidStored::Created(record) })
}

pub(super) fn forget(conn: &mut SqliteConnection, did: &Did) -> QueryResult<DidForgotten> {
    let forgotten = diesel::delete(dids::table.find(did.as_str()).filter(dids::revoked.eq(false)))
        .execute(conn)?;
    if forgotten > 0 {
        return Ok(DidForgotten::Done);
    }
    Ok(find(conn, did)?.map_or(DidForgotten::NotFound, |_| DidForgotten::Revoked))
}

pub(super) fn revoke(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: &Did,
    event: &AuditEvent,
) -> QueryResult<DidRevoked> {
    let before = find(conn, did)?;
    if let Some(revoked_at) = before.and_then(|record| record.revoked_at) {
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
    audit::write(conn, now, event)?;
    Ok(DidRevoked { revoked_at: now, first: true })
}

/// The last DID of the page before.
pub(super) fn position(cursor: &Cursor) -> Result<Did, InvalidCursor> {
    let text = std::str::from_utf8(cursor.position()).map_err(|_| InvalidCursor)?;
    Did::parse(text).map_err(|_| InvalidCursor)
}

/// DIDs in the order of their text.
pub(super) fn list(
    conn: &mut SqliteConnection,
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
    let rows = query.order(dids::did).limit(i64::from(limit) + 1).load(conn)?;
    let mut items = rows.into_iter().map(DidRow::read).collect::<QueryResult<Vec<DidRecord>>>()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items
        .last()
        .filter(|_| more)
        .map(|record| Cursor::new(record.did.as_str().as_bytes().to_vec()));
    Ok(Page { items, next })
}
