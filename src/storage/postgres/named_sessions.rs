//! Claims by signers that name a session: it must be live, it counts them, and it is kept active,
//! in the transaction that spends the nonce.
//!
//! Two limits meet here, the session's and the signer's. So nothing is written before it is
//! known, ask by ask, what fits both: a claim that one of them refuses takes no room of the other.

use std::collections::{HashMap, HashSet};

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::PostgresStore;
use super::claims::{Answers, NamedAsk, session_over, used};
use super::pool::Kind;
use super::session_row::end_reason;
use super::signer_claims::{gone_meanwhile, lock_signers};
use super::statement::Prepared;
use crate::domain::{Facts, Refusal, Timestamp, UsedNonce};
use crate::storage::Result;

/// Counted sessions come before any signer. Those that nobody counts are never waited for.
const LOCK_COUNTED: &str = "
    SELECT id FROM sessions
    WHERE id = ANY ($1) AND max_claims IS NOT NULL
    ORDER BY id FOR NO KEY UPDATE";

/// What decides each ask, by the clock as it is now.
macro_rules! judged {
    () => {
        "WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
        judged AS MATERIALIZED (
            SELECT a.place, a.signer, a.did, a.expires_at AS asked, clock.at,
                s.id IS NOT NULL AS found,
                s.max_claims - s.claims AS session_room,
                CASE
                    WHEN s.ended_at IS NOT NULL THEN s.ended_at
                    WHEN session_over_at(s.expires_at, s.last_activity, s.idle_timeout_seconds)
                        <= clock.at
                    THEN session_over_at(s.expires_at, s.last_activity, s.idle_timeout_seconds)
                END AS over_at,
                CASE
                    WHEN s.ended_at IS NOT NULL THEN s.end_reason
                    ELSE session_over_reason(
                        s.expires_at, s.last_activity, s.idle_timeout_seconds
                    )
                END AS over_reason,
                EXISTS (
                    SELECT FROM dids d
                    WHERE d.revoked AND d.did IN (s.client_did, s.server_did, a.did)
                ) AS revoked,
                g.live, n.used_at, n.expires_at, n.idempotency AS earlier
            FROM clock
            CROSS JOIN unnest($1, $2, $3, $4, $5) WITH ORDINALITY
                AS a (session_id, signer, did, nonce, expires_at, place)
            LEFT JOIN sessions s ON s.id = a.session_id
            LEFT JOIN signers g ON g.signer = a.signer
            LEFT JOIN signer_nonces n ON n.signer = a.signer AND n.nonce = a.nonce
        )"
    };
}

/// Runs after the lock, with a new snapshot. Nobody else adds nonces of these signers, or counts
/// in these sessions, before this transaction ends.
const JUDGE: &str = concat!(
    judged!(),
    " SELECT at, found, session_room, over_at, over_reason, revoked, live, used_at, expires_at,
        earlier
    FROM judged ORDER BY place"
);

/// Adds the signers who may be accepted. It runs before any signer is locked, so it waits for
/// nobody who could wait for this transaction: nobody sees what it adds.
const ADD_SIGNERS: &str = concat!(
    judged!(),
    " INSERT INTO signers (signer, did)
    SELECT DISTINCT ON (signer) signer, did FROM judged
    WHERE found AND over_at IS NULL AND NOT revoked AND asked > at
        AND (session_room IS NULL OR session_room > 0)
    ORDER BY signer
    ON CONFLICT DO NOTHING
    RETURNING signer"
);

/// Takes back those who were not accepted after all; nobody else has seen them.
const REMOVE_SIGNERS: &str = "
    DELETE FROM signers WHERE signer = ANY ($1) AND live = 0";

/// Activity in sessions that nobody counts is recorded as claims in them do: where the last one
/// is old, and only if nobody has locked the row.
const WRITE: &str = "
    WITH new AS MATERIALIZED (
        SELECT * FROM unnest($2, $3, $4, $5, $6)
            AS new (session_id, signer, nonce, expires_at, idempotency)
    ),
    inserted AS (
        INSERT INTO signer_nonces (signer, nonce, used_at, expires_at, idempotency)
        SELECT signer, nonce, $1, expires_at, idempotency FROM new
        ORDER BY signer, nonce
    ),
    by_signers AS (
        UPDATE signers SET live = live + of_signer.count
        FROM (SELECT signer, count(*) FROM new GROUP BY signer) AS of_signer
        WHERE signers.signer = of_signer.signer
    ),
    in_sessions AS MATERIALIZED (
        SELECT session_id, count(*) FROM new GROUP BY session_id
    ),
    counted AS (
        UPDATE sessions
        SET claims = claims + in_sessions.count,
            last_activity = CASE
                WHEN last_activity < $1 - session_granularity(idle_timeout_seconds)
                THEN $1 ELSE last_activity
            END
        FROM in_sessions
        WHERE sessions.id = in_sessions.session_id AND sessions.max_claims IS NOT NULL
    ),
    stale AS MATERIALIZED (
        SELECT s.id, s.ended_at, in_sessions.count
        FROM in_sessions
        JOIN sessions s ON s.id = in_sessions.session_id
        WHERE s.max_claims IS NULL
            AND s.last_activity < $1 - session_granularity(s.idle_timeout_seconds)
        FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    UPDATE sessions SET last_activity = $1, claims = claims + stale.count
    FROM stale WHERE sessions.id = stale.id AND stale.ended_at IS NULL";

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(QueryableByName)]
struct Added {
    #[diesel(sql_type = Bytea)]
    signer: Vec<u8>,
}

#[derive(QueryableByName)]
struct JudgedRow {
    #[diesel(sql_type = Timestamptz)]
    at: Timestamp,
    #[diesel(sql_type = Bool)]
    found: bool,
    /// Absent where nobody counts.
    #[diesel(sql_type = Nullable<BigInt>)]
    session_room: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    over_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Text>)]
    over_reason: Option<String>,
    /// A party of the session, or the signer.
    #[diesel(sql_type = Bool)]
    revoked: bool,
    /// Absent when the signer has no counter.
    #[diesel(sql_type = Nullable<BigInt>)]
    live: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    used_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Bytea>)]
    earlier: Option<Vec<u8>>,
}

/// The asks' columns, as the statements take them.
struct Columns<'a> {
    sessions: Vec<Uuid>,
    signers: Vec<&'a [u8]>,
    dids: Vec<&'a str>,
    nonces: Vec<&'a str>,
    expiries: Vec<Timestamp>,
}

impl<'a> Columns<'a> {
    fn of(asks: &'a [NamedAsk<'a>]) -> Self {
        Self {
            sessions: asks.iter().map(|ask| ask.session).collect(),
            signers: asks.iter().map(|ask| ask.by.signer.0.as_slice()).collect(),
            dids: asks.iter().map(|ask| ask.by.did).collect(),
            nonces: asks.iter().map(|ask| ask.by.nonce).collect(),
            expiries: asks.iter().map(|ask| ask.by.expires_at).collect(),
        }
    }

    fn bound_to(&self, statement: &'static str) -> Prepared<BoxedSqlQuery<'_, Pg, SqlQuery>> {
        let query = sql_query(statement)
            .into_boxed::<Pg>()
            .bind::<Array<SqlUuid>, _>(&self.sessions)
            .bind::<Array<Bytea>, _>(&self.signers)
            .bind::<Array<Text>, _>(&self.dids)
            .bind::<Array<Text>, _>(&self.nonces)
            .bind::<Array<Timestamptz>, _>(&self.expiries);
        Prepared(query)
    }
}

impl PostgresStore {
    pub(super) async fn claim_in_named_sessions(
        &self,
        asks: &[NamedAsk<'_>],
        answers: &mut Answers,
    ) {
        match self.judge_in_named_sessions(asks).await {
            Ok(facts) => {
                for (ask, facts) in asks.iter().zip(facts) {
                    answers.put(ask.by.place, Ok(facts));
                }
            }
            Err(error) => answers.fail(asks.iter().map(|ask| ask.by.place), &error),
        }
    }

    async fn judge_in_named_sessions(&self, asks: &[NamedAsk<'_>]) -> Result<Vec<Facts>> {
        let quota = i64::try_from(self.limits.quota_per_signer).unwrap_or(i64::MAX);
        let columns = Columns::of(asks);
        // Almost always every signer has a counter.
        let claims = &self.pools()?.claims;
        let work = async |c: &mut AsyncPgConnection| {
            let counted = lock_counted(c, &columns).await?;
            if !lock_signers(c, &columns.signers).await? {
                return Ok(None);
            }
            spend(c, asks, &columns, &counted, quota).await.map(Some)
        };
        let known = claims.run(Kind::Transaction, "claim_in_named_sessions", work).await?;
        if let Some(facts) = known {
            return Ok(facts);
        }
        let work = async |c: &mut AsyncPgConnection| {
            let counted = lock_counted(c, &columns).await?;
            let added: Vec<Added> = columns.bound_to(ADD_SIGNERS).load(c).await?;
            lock_signers(c, &columns.signers).await?;
            let facts = spend(c, asks, &columns, &counted, quota).await?;
            if !added.is_empty() && facts.iter().any(|facts| !facts.inserted) {
                let added: Vec<_> = added.iter().map(|row| row.signer.as_slice()).collect();
                let remove = sql_query(REMOVE_SIGNERS).bind::<Array<Bytea>, _>(&added);
                Prepared(remove).execute(c).await?;
            }
            Ok(facts)
        };
        claims.run(Kind::Transaction, "claim_in_named_sessions", work).await
    }
}

/// Locks the sessions that limit their claims, and says which these are.
async fn lock_counted(
    c: &mut AsyncPgConnection,
    columns: &Columns<'_>,
) -> QueryResult<HashSet<Uuid>> {
    let lock = sql_query(LOCK_COUNTED).bind::<Array<SqlUuid>, _>(&columns.sessions);
    let locked: Vec<Locked> = Prepared(lock).load(c).await?;
    Ok(locked.into_iter().map(|row| row.id).collect())
}

/// Judges the asks and writes what is accepted. All that is counted is locked.
async fn spend(
    c: &mut AsyncPgConnection,
    asks: &[NamedAsk<'_>],
    columns: &Columns<'_>,
    counted: &HashSet<Uuid>,
    quota: i64,
) -> QueryResult<Vec<Facts>> {
    let rows: Vec<JudgedRow> = columns.bound_to(JUDGE).load(c).await?;
    let mut rooms = Rooms { counted, quota, sessions: HashMap::new(), signers: HashMap::new() };
    let facts = asks
        .iter()
        .zip(rows)
        .map(|(ask, row)| rooms.facts(ask, row))
        .collect::<QueryResult<Vec<_>>>()?;
    let new: Vec<_> = asks.iter().zip(&facts).filter(|(_, facts)| facts.inserted).collect();
    let [(_, Facts { at, .. }), ..] = new.as_slice() else { return Ok(facts) };
    let sessions: Vec<_> = new.iter().map(|(ask, _)| ask.session).collect();
    let signers: Vec<_> = new.iter().map(|(ask, _)| ask.by.signer.0.as_slice()).collect();
    let nonces: Vec<_> = new.iter().map(|(ask, _)| ask.by.nonce).collect();
    let expiries: Vec<_> = new.iter().map(|(ask, _)| ask.by.expires_at).collect();
    let digests: Vec<_> =
        new.iter().map(|(ask, _)| ask.by.idempotency.map(<[u8; 16]>::as_slice)).collect();
    let write = sql_query(WRITE)
        .bind::<Timestamptz, _>(*at)
        .bind::<Array<SqlUuid>, _>(sessions)
        .bind::<Array<Bytea>, _>(signers)
        .bind::<Array<Text>, _>(nonces)
        .bind::<Array<Timestamptz>, _>(expiries)
        .bind::<Array<Nullable<Bytea>>, _>(digests);
    Prepared(write).execute(c).await?;
    Ok(facts)
}

/// What is left of both limits, as it is given away in the order of the asks.
struct Rooms<'a> {
    /// The sessions whose count is locked.
    counted: &'a HashSet<Uuid>,
    quota: i64,
    sessions: HashMap<Uuid, i64>,
    signers: HashMap<[u8; 16], i64>,
}

impl Rooms<'_> {
    fn facts(&mut self, ask: &NamedAsk<'_>, row: JudgedRow) -> QueryResult<Facts> {
        let at = row.at;
        let existing = row.used_at.zip(row.expires_at);
        // One that was opened only after the lock did not exist when this was asked.
        let found =
            row.found && (row.session_room.is_none() || self.counted.contains(&ask.session));
        let refusal = match (row.over_at, row.over_reason.as_deref()) {
            _ if !found => Some(Refusal::SessionNotFound),
            (Some(ended_at), Some(reason)) => Some(session_over(ended_at, end_reason(reason)?)),
            _ if row.revoked => Some(Refusal::DidRevoked),
            _ if ask.by.expires_at <= at => Some(Refusal::Expired),
            _ if existing.is_some() => None,
            _ => {
                let Some(refusal) = self.take(ask, row.session_room, row.live)? else {
                    let (expires_at, idempotency) =
                        (ask.by.expires_at, ask.by.idempotency.copied());
                    let row = Some(UsedNonce { used_at: at, expires_at, idempotency });
                    return Ok(Facts { at, row, inserted: true, refusal: None });
                };
                Some(refusal)
            }
        };
        let row = existing
            .map(|(used_at, expires_at)| used(used_at, expires_at, row.earlier))
            .transpose()?;
        Ok(Facts { at, row, inserted: false, refusal })
    }

    /// Takes room for one nonce, of both limits or of none.
    fn take(
        &mut self,
        ask: &NamedAsk<'_>,
        session_room: Option<i64>,
        live: Option<i64>,
    ) -> QueryResult<Option<Refusal>> {
        let in_session = session_room.map(|room| self.sessions.entry(ask.session).or_insert(room));
        if in_session.as_deref().is_some_and(|room| *room <= 0) {
            return Ok(Some(Refusal::SessionUsedUp));
        }
        let live = live.ok_or_else(gone_meanwhile)?;
        let of_signer = self.signers.entry(ask.by.signer.0).or_insert(self.quota - live);
        if *of_signer <= 0 {
            return Ok(Some(Refusal::ClaimQuotaReached));
        }
        *of_signer -= 1;
        if let Some(room) = in_session {
            *room -= 1;
        }
        Ok(None)
    }
}
