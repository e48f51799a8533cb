//! What resolvers read of DIDs. Resolvers answer in any order, and several instances ask them; of
//! two readings the newer one stands, whichever arrives last.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bytea, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::{WholeDidRow, did_columns, find, words};
use crate::domain::{DidDocument, DidRecord, Gone, PublicKey};
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::{Answer, Reading, Result};

/// Whether a row gives way to a reading of `version`, asked for at `fetched_at`: never if it is
/// revoked, of a higher version or asked for later, unless that is a minute
/// later than now ([`TAKEN_AHEAD`](crate::storage::TAKEN_AHEAD)): then the clock was ahead. What was stored by hand has no `stale_at`.
macro_rules! gives_way {
    ($version:literal, $fetched_at:literal) => {
        concat!(
            "NOT dids.revoked AND (dids.version > ",
            $version,
            ") IS NOT TRUE AND (dids.stale_at IS NULL OR (dids.fetched_at > ",
            $fetched_at,
            " AND dids.fetched_at <= now() + interval '1 minute') IS NOT TRUE)"
        )
    };
}

const RECORD_DOCUMENT: &str = concat!(
    "INSERT INTO dids (did, source, version, fetched_at, stale_at, public_key, key_type,
        owner_address, document, words)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, array_to_tsvector($10))
    ON CONFLICT (did) DO UPDATE
    SET source = excluded.source, version = excluded.version, fetched_at = excluded.fetched_at,
        stale_at = excluded.stale_at, public_key = excluded.public_key,
        key_type = excluded.key_type, owner_address = excluded.owner_address,
        document = excluded.document, gone = NULL
    WHERE ",
    gives_way!("excluded.version", "excluded.fetched_at"),
    " RETURNING ",
    did_columns!(),
    ", document"
);

/// What was read before stays known.
const RECORD_GONE: &str = concat!(
    "UPDATE dids SET source = $2, version = $3, fetched_at = $4, stale_at = $5, gone = $6
    WHERE did = $1 AND ",
    gives_way!("$3", "$4"),
    " RETURNING ",
    did_columns!(),
    ", document"
);

impl PostgresStore {
    pub async fn record_did(&self, reading: Reading) -> Result<Option<DidRecord>> {
        self.write("record_did", async |c| {
            let recorded = match &reading.answer {
                Answer::Document { document, owner_address } => {
                    document_row(c, &reading, document, owner_address.as_deref()).await
                }
                Answer::Gone(gone) => gone_row(c, &reading, *gone).await,
            };
            match recorded.optional()? {
                Some(row) => row.read().map(Some),
                None => find(c, &reading.did).await,
            }
        })
        .await
    }
}

async fn document_row(
    c: &mut AsyncPgConnection,
    reading: &Reading,
    document: &DidDocument,
    owner_address: Option<&str>,
) -> QueryResult<WholeDidRow> {
    let key = document.first_key();
    let query = sql_query(RECORD_DOCUMENT)
        .bind::<Text, _>(reading.did.as_str())
        .bind::<Text, _>(reading.source)
        .bind::<Nullable<BigInt>, _>(version(reading))
        .bind::<Timestamptz, _>(reading.asked_at)
        .bind::<Timestamptz, _>(reading.stale_at())
        .bind::<Nullable<Bytea>, _>(key.map(PublicKey::as_bytes))
        .bind::<Nullable<Text>, _>(key.map(|key| key.key_type().as_str()))
        .bind::<Nullable<Text>, _>(owner_address)
        .bind::<Jsonb, _>(Value::Object(document.json().clone()))
        .bind::<Array<Text>, _>(words(&reading.did));
    Prepared(query).get_result(c).await
}

async fn gone_row(
    c: &mut AsyncPgConnection,
    reading: &Reading,
    gone: Gone,
) -> QueryResult<WholeDidRow> {
    let query = sql_query(RECORD_GONE)
        .bind::<Text, _>(reading.did.as_str())
        .bind::<Text, _>(reading.source)
        .bind::<Nullable<BigInt>, _>(version(reading))
        .bind::<Timestamptz, _>(reading.asked_at)
        .bind::<Timestamptz, _>(reading.stale_at())
        .bind::<Text, _>(gone.as_str());
    Prepared(query).get_result(c).await
}

/// As the column holds it; what is beyond it is as good as its largest.
fn version(reading: &Reading) -> Option<i64> {
    reading.version.map(|block| i64::try_from(block).unwrap_or(i64::MAX))
}
