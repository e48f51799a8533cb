//! Erasure of what is kept about a DID. Nonces stay, by the digest of their signer.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bytea, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::PostgresStore;
use super::connection::statement::Prepared;
use super::events::{Tip, link_all, lock_chain, record_all};
use super::records::remove::erase;
use super::schema::dids;
use super::sessions::row::unsigned;
use crate::domain::{Actor, Did};
use crate::storage::Result;
use crate::storage::erasure::{Erased, alias, events as stay, names};

/// Locks the sessions in the order of their ids, as all do who lock several.
const SESSIONS: &str = "
    WITH locked AS MATERIALIZED (
        SELECT id FROM sessions
        WHERE id = ANY (ARRAY(
            SELECT id FROM sessions WHERE client_did = $1
            UNION SELECT id FROM sessions WHERE server_did = $1
            LIMIT $3
        ))
        ORDER BY id FOR UPDATE
    )
    UPDATE sessions
    SET client_did = CASE client_did WHEN $1 THEN $2 ELSE client_did END,
        server_did = CASE server_did WHEN $1 THEN $2 ELSE server_did END,
        session_key = NULL, key_id = NULL, metadata = '{}', user_agent = NULL, ip_address = NULL,
        ended_at = coalesce(ended_at, clock_timestamp()),
        end_reason = coalesce(end_reason, 'ended'), version = version + 1
    WHERE id = ANY (ARRAY(SELECT id FROM locked))";

const SIGNER: &str = "UPDATE signers SET did = $2 WHERE signer = $1";

/// The events that may name the DID.
const NAMED: &str = "
    SELECT sequence, concat_ws(' ', source, subject, actor, data::text) AS text FROM events
    WHERE sequence IS NOT NULL
        AND strpos(concat_ws(' ', source, subject, actor, data::text), $1) > 0";

/// Their places, and what binds them, stay.
const EMPTY: &str = "
    UPDATE events
    SET type = 'onceguard.erased', source = 'onceguard', subject = NULL, actor = NULL,
        outcome = 'success', request_id = NULL, data = '{}', salt = NULL
    WHERE sequence = ANY ($1)";

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = Text)]
    text: String,
}

impl PostgresStore {
    pub async fn erase_sessions(&self, did: &Did, limit: u32) -> Result<u64> {
        let alias = alias(did);
        let erased = self.write("erase_sessions", async |c| {
            let erase = sql_query(SESSIONS)
                .bind::<Text, _>(did.as_str())
                .bind::<Text, _>(&alias)
                .bind::<BigInt, _>(i64::from(limit));
            Prepared(erase).execute(c).await
        });
        Ok(erased.await? as u64)
    }

    pub async fn erase_did(
        &self,
        did: &Did,
        actor: &Actor,
        request_id: Option<String>,
    ) -> Result<Erased> {
        let alias = alias(did);
        self.transaction("erase_did", async |c| {
            let records = erase(c, did, None).await?.unwrap_or(0);
            let signer = sql_query(SIGNER)
                .bind::<Bytea, _>(did.signer_key().0.to_vec())
                .bind::<Text, _>(&alias);
            Prepared(signer).execute(c).await?;
            erase_key(c, did).await?;
            let (events, tip) = empty_events(c, did).await?;
            let stay = stay(did, actor, request_id.as_deref(), &events);
            record_all(c, &stay.iter().collect::<Vec<_>>()).await?;
            link_all(c, tip).await?;
            let events = events.len() as u64;
            Ok(Erased { records, events })
        })
        .await
    }
}

/// Empties the events that name the DID, and returns their places and the chain's end. They are
/// linked first, so that every one of them has a place.
async fn empty_events(c: &mut AsyncPgConnection, did: &Did) -> QueryResult<(Vec<u64>, Tip)> {
    let tip = lock_chain(c).await?;
    let tip = link_all(c, tip).await?;
    let query = Prepared(sql_query(NAMED).bind::<Text, _>(did.as_str()));
    let rows: Vec<Named> = query.load(c).await?;
    let named = rows.into_iter().filter(|row| names(&row.text, did));
    let places: Vec<i64> = named.map(|row| row.sequence).collect();
    empty(c, &places).await?;
    Ok((places.into_iter().map(unsigned).collect::<QueryResult<_>>()?, tip))
}

/// Empties the events of these places, while the chain's row is locked.
pub(super) async fn empty(c: &mut AsyncPgConnection, places: &[i64]) -> QueryResult<()> {
    Prepared(sql_query(EMPTY).bind::<Array<BigInt>, _>(places)).execute(c).await.map(drop)
}

/// A revocation stays, and nothing else of the row.
async fn erase_key(c: &mut AsyncPgConnection, did: &Did) -> QueryResult<()> {
    let row = dids::table.find(did.as_str());
    diesel::delete(row.filter(dids::revoked.eq(false))).execute(c).await?;
    diesel::update(row)
        .set((
            dids::public_key.eq(None::<Vec<u8>>),
            dids::key_type.eq(None::<String>),
            dids::owner_address.eq(None::<String>),
            dids::document.eq(None::<serde_json::Value>),
            dids::gone.eq(None::<String>),
            dids::source.eq(None::<String>),
            dids::version.eq(None::<i64>),
            dids::fetched_at.eq(None::<chrono::DateTime<chrono::Utc>>),
            dids::stale_at.eq(None::<chrono::DateTime<chrono::Utc>>),
        ))
        .execute(c)
        .await
        .map(drop)
}
