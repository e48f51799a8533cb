//! Erasure of what is kept about a DID. Nonces stay, by the digest of their signer.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::SqliteStore;
use super::events::{Tip, chain_tip, link_all, write};
use super::records::remove::erase;
use super::schema::{dids, signers};
use super::types::number;
use crate::domain::{Actor, Did, Timestamp};
use crate::storage::Result;
use crate::storage::erasure::{Erased, alias, events as stay, names};

const SESSIONS: &str = "
    UPDATE sessions
    SET client_did = iif(client_did = ?1, ?2, client_did),
        server_did = iif(server_did = ?1, ?2, server_did),
        session_key = NULL, key_id = NULL, metadata = '{}', user_agent = NULL, ip_address = NULL,
        ended_at = coalesce(ended_at, ?3), end_reason = coalesce(end_reason, 'ended'),
        version = version + 1
    WHERE id IN (
        SELECT id FROM sessions WHERE client_did = ?1
        UNION SELECT id FROM sessions WHERE server_did = ?1
        LIMIT ?4
    )";

/// The events that may name the DID.
const NAMED: &str = "
    SELECT sequence, concat_ws(' ', source, subject, actor, data) AS text FROM events
    WHERE sequence IS NOT NULL AND instr(concat_ws(' ', source, subject, actor, data), ?1) > 0";

/// Its place, and what binds it, stay.
const EMPTY: &str = "
    UPDATE events
    SET type = 'onceguard.erased', source = 'onceguard', subject = NULL, actor = NULL,
        outcome = 'success', request_id = NULL, data = '{}', salt = NULL
    WHERE sequence = ?1";

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = Text)]
    text: String,
}

impl SqliteStore {
    pub async fn erase_sessions(&self, did: &Did, limit: u32) -> Result<u64> {
        let did = did.clone();
        let erase = move |conn: &mut SqliteConnection, now: Timestamp| {
            let erased = diesel::sql_query(SESSIONS)
                .bind::<Text, _>(did.as_str())
                .bind::<Text, _>(alias(&did))
                .bind::<BigInt, _>(now.timestamp_micros())
                .bind::<BigInt, _>(i64::from(limit))
                .execute(conn)?;
            Ok(erased as u64)
        };
        self.0.write("erase_sessions", erase).await
    }

    pub async fn erase_did(
        &self,
        did: &Did,
        actor: &Actor,
        request_id: Option<String>,
    ) -> Result<Erased> {
        let (did, actor) = (did.clone(), actor.clone());
        let erase = move |conn: &mut SqliteConnection, now| {
            let records = erase(conn, now, &did, None)?.unwrap_or(0);
            let signer = signers::table.find(did.signer_key().0.to_vec());
            diesel::update(signer).set(signers::did.eq(alias(&did))).execute(conn)?;
            erase_key(conn, now, &did)?;
            let (events, tip) = empty_events(conn, now, &did)?;
            for event in stay(&did, &actor, request_id.as_deref(), &events) {
                write(conn, now, &event)?;
            }
            link_all(conn, now, tip)?;
            Ok(Erased { records, events: events.len() as u64 })
        };
        self.0.write("erase_did", erase).await
    }
}

/// A revocation stays, and nothing else of the row.
fn erase_key(conn: &mut SqliteConnection, now: Timestamp, did: &Did) -> QueryResult<()> {
    let row = dids::table.find(did.as_str());
    diesel::delete(row.filter(dids::revoked.eq(false))).execute(conn)?;
    diesel::update(row)
        .set((
            dids::public_key.eq(None::<Vec<u8>>),
            dids::key_type.eq(None::<String>),
            dids::owner_address.eq(None::<String>),
            dids::document.eq(None::<String>),
            dids::gone.eq(None::<String>),
            dids::source.eq(None::<String>),
            dids::version.eq(None::<i64>),
            dids::fetched_at.eq(None::<i64>),
            dids::stale_at.eq(None::<i64>),
            dids::updated_at.eq(now.timestamp_micros()),
        ))
        .execute(conn)?;
    Ok(())
}

/// Empties the events that name the DID, and returns their places and the chain's end. They are
/// linked first, so that every one of them has a place.
fn empty_events(
    conn: &mut SqliteConnection,
    now: Timestamp,
    did: &Did,
) -> QueryResult<(Vec<u64>, Tip)> {
    let tip = chain_tip(conn)?;
    let tip = link_all(conn, now, tip)?;
    let rows: Vec<Named> = diesel::sql_query(NAMED).bind::<Text, _>(did.as_str()).load(conn)?;
    let named = rows.into_iter().filter(|row| names(&row.text, did));
    let places: Vec<i64> = named.map(|row| row.sequence).collect();
    empty(conn, &places)?;
    Ok((places.into_iter().map(number).collect::<QueryResult<_>>()?, tip))
}

/// Empties the events of these places.
pub(super) fn empty(conn: &mut SqliteConnection, places: &[i64]) -> QueryResult<()> {
    for place in places {
        diesel::sql_query(EMPTY).bind::<BigInt, _>(place).execute(conn)?;
    }
    Ok(())
}
