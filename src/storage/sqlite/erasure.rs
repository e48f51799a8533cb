//! Erasure of what is kept about a DID. Nonces stay, by the digest of their signer.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::records::remove::erase;
use super::schema::{audit_events, dids, signers};
use super::{SqliteStore, audit};
use crate::domain::{Actor, Did, Timestamp};
use crate::storage::Result;
use crate::storage::erasure::{Erased, alias, event};

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

/// Events that name the DID, with the alias in its place.
const NAMED: &str = "
    SELECT id, at, replace(actor, ?1, ?2) AS actor, action, replace(subject, ?1, ?2) AS subject,
        outcome, replace(detail, ?1, ?2) AS detail
    FROM audit_events
    WHERE actor = ?1 OR subject = ?1 OR instr(detail, ?1) > 0";

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

    pub async fn erase_did(&self, did: &Did, actor: &Actor) -> Result<Erased> {
        let (did, actor) = (did.clone(), actor.clone());
        let erase = move |conn: &mut SqliteConnection, now| {
            let records = erase(conn, now, &did, None)?.unwrap_or(0);
            let signer = signers::table.find(did.signer_key().0.to_vec());
            diesel::update(signer).set(signers::did.eq(alias(&did))).execute(conn)?;
            erase_key(conn, now, &did)?;
            let events = rename_in_events(conn, &did)?;
            audit::write(conn, now, &event(&did, &actor))?;
            Ok(Erased { records, events })
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

#[derive(QueryableByName, Insertable)]
#[diesel(table_name = audit_events)]
#[diesel(check_for_backend(diesel::sqlite::Sqlite))]
struct EventRow {
    id: Vec<u8>,
    at: i64,
    actor: String,
    action: String,
    subject: String,
    outcome: String,
    detail: String,
}

/// Puts the alias in the DID's place, and returns in how many events. Events are never changed: these
/// are deleted, and written anew.
fn rename_in_events(conn: &mut SqliteConnection, did: &Did) -> QueryResult<u64> {
    let named: Vec<EventRow> = diesel::sql_query(NAMED)
        .bind::<Text, _>(did.as_str())
        .bind::<Text, _>(alias(did))
        .load(conn)?;
    for event in &named {
        diesel::delete(audit_events::table.find(&event.id)).execute(conn)?;
        diesel::insert_into(audit_events::table).values(event).execute(conn)?;
    }
    Ok(named.len() as u64)
}
