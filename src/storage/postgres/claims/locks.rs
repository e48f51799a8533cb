//! The rows that claims lock: the sessions that count them, and the counters of signers.
//!
//! A lock is taken at once, where nobody else has it, or waited for. Only a transaction that
//! holds nothing yet may wait (see [`claims`](super)); `lock_timeout` bounds it.
//!
//! A lock also confirms what is found under it, see `connection::confirm`.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bytea, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use crate::storage::OnLock;
use crate::storage::postgres::connection::statement::Prepared;

macro_rules! lock_sessions {
    ($whose:literal) => {
        concat!(
            "SELECT id FROM sessions WHERE id = ANY ($1) AND max_claims IS NOT NULL ",
            $whose,
            " ORDER BY id FOR NO KEY UPDATE"
        )
    };
}

macro_rules! lock_sessions_of_parties {
    () => {
        lock_sessions!("AND (client_did = ANY ($2) OR server_did = ANY ($2))")
    };
}

macro_rules! lock_signers {
    () => {
        "SELECT signer FROM signers WHERE signer = ANY ($1) ORDER BY signer FOR NO KEY UPDATE"
    };
}

const LOCK_SESSIONS: &str = concat!(lock_sessions!(""), " SKIP LOCKED");
const WAIT_FOR_SESSIONS: &str = lock_sessions!("");
const LOCK_SESSIONS_OF_PARTIES: &str = concat!(lock_sessions_of_parties!(), " SKIP LOCKED");
const WAIT_FOR_SESSIONS_OF_PARTIES: &str = lock_sessions_of_parties!();
const LOCK_SIGNERS: &str = concat!(lock_signers!(), " SKIP LOCKED");
const WAIT_FOR_SIGNERS: &str = lock_signers!();

#[derive(QueryableByName)]
struct SessionRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(QueryableByName)]
struct SignerRow {
    #[diesel(sql_type = Bytea)]
    signer: Vec<u8>,
}

/// Locks those of the sessions that limit their claims, and says which it has.
pub(super) async fn lock_sessions(
    c: &mut AsyncPgConnection,
    sessions: &[Uuid],
    on_lock: OnLock,
) -> QueryResult<HashSet<Uuid>> {
    let statement = match on_lock {
        OnLock::Skip => LOCK_SESSIONS,
        OnLock::Wait => WAIT_FOR_SESSIONS,
    };
    let lock = sql_query(statement).bind::<Array<SqlUuid>, _>(sessions);
    let rows: Vec<SessionRow> = Prepared(lock).load(c).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// The same, of those that one of the signers is a party of: strangers lock no session.
pub(super) async fn lock_sessions_of_parties(
    c: &mut AsyncPgConnection,
    sessions: &[Uuid],
    dids: &[&str],
    on_lock: OnLock,
) -> QueryResult<HashSet<Uuid>> {
    let statement = match on_lock {
        OnLock::Skip => LOCK_SESSIONS_OF_PARTIES,
        OnLock::Wait => WAIT_FOR_SESSIONS_OF_PARTIES,
    };
    let lock =
        sql_query(statement).bind::<Array<SqlUuid>, _>(sessions).bind::<Array<Text>, _>(dids);
    let rows: Vec<SessionRow> = Prepared(lock).load(c).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Locks the counters of those signers that have one, and says which it has.
pub(super) async fn lock_signers(
    c: &mut AsyncPgConnection,
    signers: &[&[u8]],
    on_lock: OnLock,
) -> QueryResult<HashSet<Vec<u8>>> {
    let statement = match on_lock {
        OnLock::Skip => LOCK_SIGNERS,
        OnLock::Wait => WAIT_FOR_SIGNERS,
    };
    let lock = sql_query(statement).bind::<Array<Bytea>, _>(signers);
    let rows: Vec<SignerRow> = Prepared(lock).load(c).await?;
    Ok(rows.into_iter().map(|row| row.signer).collect())
}
