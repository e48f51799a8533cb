//! Openings. All that are asked together share one transaction.
//!
//! An opening and a revocation cannot cross. The transaction first takes shared locks on all
//! parties; a revocation takes the same lock exclusively. The statement that looks for revocations
//! comes after the one that took the locks, so its snapshot does too: in one statement it would be
//! older than its own locks.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Inet, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use ipnet::IpNet;
use uuid::Uuid;

use super::row::{SessionRow, session_columns};
use super::together::{Failed, Refusal, together_or_each};
use crate::domain::{Did, NewSession, Opened};
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::confirm::confirm;
use crate::storage::postgres::connection::run::Kind;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::of_its_row;
use crate::storage::postgres::search::spaced;
use crate::storage::{Held, OnLock, Result, Tried};

/// Shared locks on the parties, always in the same order. They hold until the transaction ends,
/// and so does what the next statements see of the parties' revocations.
const LOCK_PARTIES: &str = "
    SELECT pg_advisory_xact_lock_shared(party)
    FROM (
        SELECT hashtextextended(did, 0) AS party FROM unnest($1) AS parties (did) ORDER BY party
    ) AS ordered";

/// The same without waiting; the answer is the parties that another transaction has locked.
const TRY_PARTIES: &str = "
    SELECT did FROM unnest($1) AS parties (did)
    WHERE NOT pg_try_advisory_xact_lock_shared(hashtextextended(did, 0))";

/// Why the id that a caller chose for `a` may not be used in the database of the history `h`: an id
/// that says that it was made later than now, so that an id that is newer than a recovery was never
/// used before it; or one that may have been used in the past that the database lost, as long as
/// it would still be refused if it had not. The longest session lasts for a day.
macro_rules! id_refusal {
    () => {
        "CASE
             WHEN NOT a.id_is_chosen THEN NULL
             WHEN a.made_at > now() + h.skew_seconds * interval '1 second' THEN 'ahead'
             WHEN now() <= greatest(h.not_before, h.ahead_until) + interval '1 day'
                     + a.retention * interval '1 second'
                 AND (a.made_at <= greatest(h.not_before, h.ahead_until)) IS NOT FALSE
             THEN 'before_restore'
         END"
    };
}

/// Inserts in the order of the ids, so that batches wait for each other in one direction only.
/// Of two with one id, the first is inserted.
const OPEN: &str = concat!(
    "INSERT INTO sessions (
         id, client_did, server_did, session_key, key_id, created_at, expires_at, deadline,
         last_activity, idle_timeout_seconds, max_claims, metadata, user_agent, ip_address, words
     )
     SELECT a.id, a.client_did, a.server_did, a.session_key, a.key_id, now(),
         now() + least(a.ttl, a.max_ttl) * interval '1 second',
         now() + a.max_ttl * interval '1 second', now(), a.idle_timeout, a.max_claims,
         a.metadata::jsonb, a.user_agent, a.ip_address,
         array_to_tsvector(string_to_array(a.words, ' '))
     FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
     WITH ORDINALITY
     AS a (
         id, client_did, server_did, session_key, key_id, ttl, max_ttl, idle_timeout, max_claims,
         metadata, user_agent, ip_address, id_is_chosen, made_at, retention, words, place
     )
     CROSS JOIN history h
     WHERE NOT EXISTS (
         SELECT FROM dids d WHERE d.revoked AND d.did IN (a.client_did, a.server_did)
     )
     AND ",
    id_refusal!(),
    " IS NULL
     ORDER BY a.place
     ON CONFLICT (id) DO NOTHING
     RETURNING ",
    session_columns!()
);

const REVOKED: &str = "SELECT did FROM dids WHERE revoked AND did = ANY ($1)";

/// The ids that may not be used, and why; in the same transaction, and so by the same clock. One
/// that is taken is not among them.
const REFUSED_IDS: &str = concat!(
    "SELECT id, refusal FROM (
         SELECT a.id, ",
    id_refusal!(),
    " AS refusal
         FROM unnest($1, $2, $3, $4) AS a (id, id_is_chosen, made_at, retention)
         CROSS JOIN history h
         WHERE NOT EXISTS (SELECT FROM sessions s WHERE s.id = a.id)
     ) AS judged
     WHERE refusal IS NOT NULL"
);

#[derive(QueryableByName)]
struct Party {
    #[diesel(sql_type = Text)]
    did: String,
}

#[derive(QueryableByName)]
struct RefusedId {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    refusal: String,
}

impl PostgresStore {
    pub async fn open_each(
        &self,
        new: &[NewSession],
        on_lock: OnLock,
    ) -> Vec<Result<Tried<Opened>>> {
        together_or_each(new, |new| self.open_together(new, on_lock)).await
    }

    async fn open_together(
        &self,
        new: &[NewSession],
        on_lock: OnLock,
    ) -> std::result::Result<Vec<Result<Tried<Opened>>>, Failed> {
        let refusal = Refusal::default();
        let work = async |c: &mut AsyncPgConnection| refusal.note(open(c, new, on_lock).await);
        let opened = self.for_sessions(Kind::Transaction, "open_sessions", work).await;
        opened.map_err(|error| refusal.failed(error))
    }
}

async fn open(
    c: &mut AsyncPgConnection,
    new: &[NewSession],
    on_lock: OnLock,
) -> QueryResult<Vec<Result<Tried<Opened>>>> {
    let busy = lock_parties(c, new, on_lock).await?;
    let held = |new: &NewSession| first_party(new, &busy);
    let mut asked: Vec<&NewSession> = new.iter().filter(|new| held(new).is_none()).collect();
    // Stable: of two with one id, the first stays the first.
    asked.sort_by_key(|new| new.id);
    let mut created = insert(c, &asked).await?;
    let (revoked, refused) = if created.len() < asked.len() {
        (load_parties(c, REVOKED, &parties(new)).await?, refused_ids(c, &asked).await?)
    } else {
        (HashSet::new(), HashMap::new())
    };
    // Where something was created, the commit is durable anyway.
    if created.is_empty() && !asked.is_empty() {
        confirm(c).await?;
    }
    let answer = |new: &NewSession| {
        if let Some(party) = held(new) {
            return Ok(Tried::Busy(Held::Party(party)));
        }
        if let Some(party) = first_party(new, &revoked) {
            return Ok(Tried::Done(Opened::Revoked(party)));
        }
        match created.remove(&new.id.0) {
            Some(row) => row
                .read()
                .map(|session| Tried::Done(Opened::Created(session)))
                .map_err(|error| of_its_row(&error)),
            None => Ok(Tried::Done(match refused.get(&new.id.0).map(String::as_str) {
                None => Opened::Exists,
                Some("ahead") => Opened::Ahead,
                Some(_) => Opened::BeforeRestore,
            })),
        }
    };
    Ok(new.iter().map(answer).collect())
}

/// The party that is among these; the client comes first, should both be.
fn first_party(new: &NewSession, among: &HashSet<String>) -> Option<Did> {
    let parties = [&new.client_did, &new.server_did];
    parties.into_iter().find(|did| among.contains(did.as_str())).cloned()
}

fn parties(new: &[NewSession]) -> Vec<&str> {
    let both = new.iter().flat_map(|new| [new.client_did.as_str(), new.server_did.as_str()]);
    let mut parties: Vec<&str> = both.collect();
    parties.sort_unstable();
    parties.dedup();
    parties
}

/// Locks the parties, and says which of them another transaction has.
async fn lock_parties(
    c: &mut AsyncPgConnection,
    new: &[NewSession],
    on_lock: OnLock,
) -> QueryResult<HashSet<String>> {
    let parties = parties(new);
    match on_lock {
        OnLock::Skip => load_parties(c, TRY_PARTIES, &parties).await,
        OnLock::Wait => {
            let lock = sql_query(LOCK_PARTIES).bind::<Array<Text>, _>(&parties);
            Prepared(lock).execute(c).await?;
            Ok(HashSet::new())
        }
    }
}

async fn load_parties(
    c: &mut AsyncPgConnection,
    statement: &'static str,
    parties: &[&str],
) -> QueryResult<HashSet<String>> {
    let query = Prepared(sql_query(statement).bind::<Array<Text>, _>(parties));
    let rows: Vec<Party> = query.load(c).await?;
    Ok(rows.into_iter().map(|party| party.did).collect())
}

/// Inserts what is neither revoked nor there, and returns that by id.
async fn insert(
    c: &mut AsyncPgConnection,
    new: &[&NewSession],
) -> QueryResult<HashMap<Uuid, SessionRow>> {
    if new.is_empty() {
        return Ok(HashMap::new());
    }
    // What is too large to be reached is as good as the largest number.
    let idle = |seconds: u32| i32::try_from(seconds).unwrap_or(i32::MAX);
    let claims = |claims: u64| i64::try_from(claims).unwrap_or(i64::MAX);
    let query = sql_query(OPEN)
        .bind::<Array<SqlUuid>, _>(column(new, |new| new.id.0))
        .bind::<Array<Text>, _>(column(new, |new| new.client_did.as_str()))
        .bind::<Array<Text>, _>(column(new, |new| new.server_did.as_str()))
        .bind::<Array<Nullable<Bytea>>, _>(column(new, |new| {
            new.session_key.as_ref().map(|key| &key.ciphertext)
        }))
        .bind::<Array<Nullable<Text>>, _>(column(new, |new| {
            new.session_key.as_ref().map(|key| &key.key_id)
        }))
        .bind::<Array<BigInt>, _>(column(new, |new| i64::from(new.ttl_seconds)))
        .bind::<Array<BigInt>, _>(column(new, |new| i64::from(new.max_ttl_seconds)))
        .bind::<Array<Nullable<Integer>>, _>(column(new, |new| new.idle_timeout_seconds.map(idle)))
        .bind::<Array<Nullable<BigInt>>, _>(column(new, |new| new.max_claims.map(claims)))
        .bind::<Array<Text>, _>(column(new, |new| new.metadata.as_str()))
        .bind::<Array<Nullable<Text>>, _>(column(new, |new| new.user_agent.as_deref()))
        .bind::<Array<Nullable<Inet>>, _>(column(new, |new| new.ip_address.map(IpNet::from)))
        .bind::<Array<Bool>, _>(column(new, |new| new.id_is_chosen))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(new, |new| new.id.made_at()))
        .bind::<Array<BigInt>, _>(column(new, |new| i64::from(new.retention_seconds)))
        .bind::<Array<Nullable<Text>>, _>(column(new, |new| spaced(&new.metadata)));
    let rows: Vec<SessionRow> = Prepared(query).load(c).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

async fn refused_ids(
    c: &mut AsyncPgConnection,
    new: &[&NewSession],
) -> QueryResult<HashMap<Uuid, String>> {
    let query = sql_query(REFUSED_IDS)
        .bind::<Array<SqlUuid>, _>(column(new, |new| new.id.0))
        .bind::<Array<Bool>, _>(column(new, |new| new.id_is_chosen))
        .bind::<Array<Nullable<Timestamptz>>, _>(column(new, |new| new.id.made_at()))
        .bind::<Array<BigInt>, _>(column(new, |new| i64::from(new.retention_seconds)));
    let rows: Vec<RefusedId> = Prepared(query).load(c).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.refusal)).collect())
}

fn column<'a, T>(new: &[&'a NewSession], value: impl Fn(&'a NewSession) -> T) -> Vec<T> {
    new.iter().map(|new| value(new)).collect()
}
