//! DIDs: what is stored about them, and their revocation, which nothing here takes back (nor
//! could: the table refuses it).

pub(super) mod listen;
mod readings;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::dsl::{AsExprOf, now};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Bytea, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::PostgresStore;
use super::connection::confirm::confirm;
use super::connection::operation::Operation;
use super::connection::statement::Prepared;
use super::events;
use super::schema::dids;
use super::sessions::lists::cut;
use super::sessions::row;
use super::unreadable;
use crate::domain::{
    Cursor, Did, DidDocument, DidFilter, DidForgotten, DidRecord, DidRevoked, DidStored, Gone,
    InvalidCursor, KeyType, NewDid, NewEvent, Page, PageRequest, PublicKey, Timestamp, Words,
};
use crate::storage::Result;
use crate::storage::readable::readable;

/// The columns of [`DidRow`], for statements written out. The clock is read when the row is,
/// which may be after a wait for its lock.
macro_rules! did_columns {
    () => {
        "did, public_key, key_type, owner_address, gone, revoked_at, source, version, fetched_at, \
         stale_at, created_at, updated_at, clock_timestamp() AS observed_at"
    };
}

pub(super) use did_columns;

/// A row that a statement has just inserted has no `xmax`. One that is revoked is locked all the
/// same, which confirms it, see [`confirm`](super::connection::confirm).
const PUT: &str = concat!(
    "INSERT INTO dids (did, public_key, key_type, owner_address, source, fetched_at, words)
    VALUES ($1, $2, $3, $4, 'stored', now(), array_to_tsvector($5))
    ON CONFLICT (did) DO UPDATE
    SET public_key = excluded.public_key, key_type = excluded.key_type,
        owner_address = excluded.owner_address, document = NULL, gone = NULL,
        source = excluded.source, version = NULL, fetched_at = excluded.fetched_at,
        stale_at = NULL
    WHERE NOT dids.revoked
    RETURNING ",
    did_columns!(),
    ", xmax = 0 AS created"
);

/// Waits until every session that is being opened with this party is there to be ended.
const LOCK_PARTY: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";

/// Locks the row, which confirms it, whether or not this is the first time; see
/// [`confirm`](super::connection::confirm).
const REVOKE: &str = "
    INSERT INTO dids (did, revoked, revoked_at, words)
    VALUES ($1, true, clock_timestamp(), array_to_tsvector($2))
    ON CONFLICT (did) DO UPDATE SET revoked = true, revoked_at = excluded.revoked_at
    WHERE NOT dids.revoked
    RETURNING revoked_at";

/// A DID's row without its document, which may be large.
#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = dids, check_for_backend(Pg))]
pub(super) struct DidRow {
    did: String,
    public_key: Option<Vec<u8>>,
    key_type: Option<String>,
    owner_address: Option<String>,
    gone: Option<String>,
    revoked_at: Option<DateTime<Utc>>,
    source: Option<String>,
    version: Option<i64>,
    fetched_at: Option<DateTime<Utc>>,
    stale_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    #[diesel(select_expression = now.into_sql::<Timestamptz>())]
    #[diesel(select_expression_type = AsExprOf<now, Timestamptz>)]
    #[diesel(sql_type = Timestamptz)]
    observed_at: DateTime<Utc>,
}

/// A DID's row as a whole.
#[derive(Queryable, Selectable, QueryableByName)]
#[diesel(table_name = dids, check_for_backend(Pg))]
pub(super) struct WholeDidRow {
    #[diesel(embed)]
    columns: DidRow,
    #[diesel(sql_type = Nullable<Jsonb>)]
    document: Option<Value>,
}

#[derive(QueryableByName)]
struct PutRow {
    #[diesel(embed)]
    record: DidRow,
    #[diesel(sql_type = Bool)]
    created: bool,
}

#[derive(QueryableByName)]
pub(super) struct Revocation {
    #[diesel(sql_type = Timestamptz)]
    pub(super) revoked_at: Timestamp,
}

impl DidRow {
    fn read(self) -> QueryResult<DidRecord> {
        let key = self.key_type.zip(self.public_key).map(|(key_type, bytes)| {
            KeyType::parse(&key_type)
                .and_then(|key_type| PublicKey::new(key_type, &bytes).ok())
                .ok_or_else(|| unreadable("a public key that is none"))
        });
        let gone = self.gone.map(|word| {
            Gone::parse(&word).ok_or_else(|| unreadable("a way of being gone that is none"))
        });
        Ok(DidRecord {
            did: row::did(&self.did)?,
            key: key.transpose()?,
            owner_address: self.owner_address,
            document: None,
            gone: gone.transpose()?,
            revoked_at: self.revoked_at,
            source: self.source,
            version: self.version.map(row::unsigned).transpose()?,
            fetched_at: self.fetched_at,
            stale_at: self.stale_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            observed_at: self.observed_at,
        })
    }
}

impl WholeDidRow {
    pub(super) fn read(self) -> QueryResult<DidRecord> {
        let record = self.columns.read()?;
        // One that an earlier version took for a document can be read again where it came from.
        let document = self.document.and_then(|json| DidDocument::parse(&record.did, json).ok());
        Ok(DidRecord { document, ..record })
    }
}

impl PostgresStore {
    pub async fn did(&self, did: &Did) -> Result<Option<DidRecord>> {
        self.read(Operation::even_if_cut("did"), async |c| find(c, did).await).await
    }

    pub async fn put_did(&self, new: NewDid, event: NewEvent) -> Result<DidStored> {
        self.transaction("put_did", async |c| {
            let query = sql_query(PUT)
                .bind::<Text, _>(new.did.as_str())
                .bind::<Bytea, _>(new.key.as_bytes())
                .bind::<Text, _>(new.key.key_type().as_str())
                .bind::<Nullable<Text>, _>(new.owner_address.as_deref())
                .bind::<Array<Text>, _>(words(&new.did));
            let Some(row) = Prepared(query).get_result(c).await.optional()? else {
                let revoked = find(c, &new.did).await?;
                return revoked
                    .map(DidStored::Revoked)
                    .ok_or_else(|| unreadable("a revoked DID is gone"));
            };
            events::record(c, &event).await?;
            let PutRow { record, created } = row;
            let record = record.read()?;
            Ok(if created { DidStored::Created(record) } else { DidStored::Replaced(record) })
        })
        .await
    }

    pub async fn forget_did(&self, did: &Did, event: NewEvent) -> Result<DidForgotten> {
        self.transaction("forget_did", async |c| {
            let forgotten = diesel::delete(dids::table.find(did.as_str()))
                .filter(dids::revoked.eq(false))
                .execute(c)
                .await?;
            if forgotten > 0 {
                events::record(c, &event).await?;
                return Ok(DidForgotten::Done);
            }
            let is_kept = diesel::select(diesel::dsl::exists(dids::table.find(did.as_str())));
            let is_kept: bool = is_kept.get_result(c).await?;
            confirm(c).await?;
            Ok(if is_kept { DidForgotten::Revoked } else { DidForgotten::NotFound })
        })
        .await
    }

    pub async fn revoke_did(&self, did: &Did, event: NewEvent) -> Result<DidRevoked> {
        self.transaction(Operation::even_if_cut("revoke_did"), async |c| {
            Prepared(sql_query(LOCK_PARTY).bind::<Text, _>(did.as_str())).execute(c).await?;
            if let Some(Revocation { revoked_at }) = mark_revoked(c, did).await? {
                events::record(c, &event).await?;
                return Ok(DidRevoked { revoked_at, first: true });
            }
            let row = dids::table.find(did.as_str());
            let revoked_at: Option<Timestamp> = row.select(dids::revoked_at).first(c).await?;
            let revoked_at = revoked_at.ok_or_else(|| unreadable("a revocation without a time"))?;
            Ok(DidRevoked { revoked_at, first: false })
        })
        .await
    }

    pub async fn list_dids(
        &self,
        filter: &DidFilter,
        page: &PageRequest,
    ) -> Result<Page<DidRecord>> {
        let after = page.after.as_ref().map(position).transpose()?;
        let rows = self
            .read("list_dids", async |c| {
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
                if let Some(after) = &after {
                    query = query.filter(dids::did.gt(after.as_str()));
                }
                query.order(dids::did).limit(i64::from(page.limit) + 1).load::<DidRow>(c).await
            })
            .await?;
        let Page { items, next } = cut(rows, page.limit, |last| last.did.as_bytes().to_vec());
        let items = items.into_iter().filter_map(|row: DidRow| {
            let did = row.did.clone();
            readable(row.read(), "DID", did)
        });
        Ok(Page { items: items.collect(), next })
    }
}

pub(super) async fn find(c: &mut AsyncPgConnection, did: &Did) -> QueryResult<Option<DidRecord>> {
    let row = dids::table.find(did.as_str()).select(WholeDidRow::as_select()).first(c).await;
    row.optional()?.map(WholeDidRow::read).transpose()
}

/// Those of these DIDs that are there, by their texts, as lists have them.
pub(super) async fn listed(
    c: &mut AsyncPgConnection,
    dids: &[&str],
) -> QueryResult<HashMap<String, DidRecord>> {
    let rows = dids::table.filter(dids::did.eq_any(dids)).select(DidRow::as_select());
    let rows: Vec<DidRow> = rows.load(c).await?;
    let read = |row: DidRow| {
        let did = row.did.clone();
        Some((did.clone(), readable(row.read(), "DID", did)?))
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

/// Revokes a DID without a word to the log. `None` if it was revoked before.
pub(super) async fn mark_revoked(
    c: &mut AsyncPgConnection,
    did: &Did,
) -> QueryResult<Option<Revocation>> {
    let revoke = sql_query(REVOKE).bind::<Text, _>(did.as_str());
    Prepared(revoke.bind::<Array<Text>, _>(words(did))).get_result(c).await.optional()
}

/// The words that a DID is found by.
fn words(did: &Did) -> Vec<String> {
    Words::of_did(did).iter().map(str::to_owned).collect()
}

fn position(cursor: &Cursor) -> std::result::Result<Did, InvalidCursor> {
    let text = std::str::from_utf8(cursor.position()).map_err(|_| InvalidCursor)?;
    Did::parse(text).map_err(|_| InvalidCursor)
}
