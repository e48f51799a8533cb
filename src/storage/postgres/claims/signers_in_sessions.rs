//! Claims by signers that name a session: the signer must be a party of it, it must be live, it
//! counts them, and it is kept active, in the transaction that spends the nonce.
//!
//! Two limits meet here, the session's and the signer's. So nothing is written before it is
//! known, ask by ask, what fits both: a claim that one of them refuses takes no room of the other.

use std::collections::{HashMap, HashSet};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::columns::{NamedColumns, SignerColumns, bytes};
use super::facts::{
    SessionNow, UsedBefore, clock, earlier_digest, inserted, session_now, time_refusal, untimely,
};
use super::locks::{lock_sessions_of_parties, lock_signers};
use super::signers::gone_meanwhile;
use super::{Answers, NamedAsk, of_its_row};
use crate::domain::{Facts, Refusal, Timestamp};
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::run::Kind;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::{Asked, OnLock, Result};

/// What decides each ask, by the clock as it is now.
macro_rules! judged {
    () => {
        concat!(
            "WITH ",
            clock!(),
            ",
            judged AS MATERIALIZED (
                SELECT a.place, a.signer, a.did, clock.at, ",
            untimely!(),
            " AS untimely,
                    s.max_claims - s.claims AS session_room, ",
            session_now!("clock.at"),
            ",
                    coalesce(a.did IN (s.client_did, s.server_did), false) AS is_party,
                    g.live, n.used_at, n.expires_at, ",
            earlier_digest!("clock.recovered_at"),
            "
                FROM clock
                CROSS JOIN unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY
                    AS a (session_id, signer, did, nonce, expires_at, issued_at, place)
                LEFT JOIN sessions s ON s.id = a.session_id
                LEFT JOIN signers g ON g.signer = a.signer
                LEFT JOIN signer_nonces n ON n.signer = a.signer AND n.nonce = a.nonce
            )"
        )
    };
}

/// Runs after the lock, with a new snapshot. Nobody else adds nonces of the locked signers, or
/// counts in the locked sessions, before this transaction ends.
const JUDGE: &str = concat!(
    judged!(),
    " SELECT at, found, is_party, untimely, session_room, over_at, over_reason, revoked, live, used_at,
        expires_at, earlier
    FROM judged ORDER BY place"
);

/// Adds the signers who may be accepted, and who have no counter yet: for one that another
/// transaction locked, `ON CONFLICT` would wait. It waits only for transactions that add the same
/// signers, which do so in the same order, so that none of them waits for this one.
const ADD_SIGNERS: &str = concat!(
    judged!(),
    " INSERT INTO signers (signer, did)
    SELECT DISTINCT ON (signer) signer, did FROM judged
    WHERE is_party AND over_at IS NULL AND NOT revoked AND untimely IS NULL
        AND (session_room IS NULL OR session_room > 0)
        AND live IS NULL
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
struct Added {
    #[diesel(sql_type = Bytea)]
    signer: Vec<u8>,
}

#[derive(QueryableByName)]
struct JudgedRow {
    #[diesel(sql_type = Timestamptz)]
    at: Timestamp,
    #[diesel(embed)]
    session: SessionNow,
    #[diesel(sql_type = Bool)]
    is_party: bool,
    #[diesel(sql_type = Nullable<Text>)]
    untimely: Option<String>,
    /// Absent where nobody counts.
    #[diesel(sql_type = Nullable<BigInt>)]
    session_room: Option<i64>,
    /// Absent when the signer has no counter.
    #[diesel(sql_type = Nullable<BigInt>)]
    live: Option<i64>,
    #[diesel(embed)]
    earlier: UsedBefore,
}

impl JudgedRow {
    /// The signer is no party of the session. A session's parties never change, so this needs no
    /// lock of it.
    const fn is_a_strangers(&self) -> bool {
        self.session.found && !self.is_party
    }

    /// Why the claim is refused, before its nonce and the room are looked at.
    fn refusal(&self) -> QueryResult<Option<Refusal>> {
        if self.is_a_strangers() {
            return Ok(Some(Refusal::NotAParty));
        }
        match self.session.refusal()? {
            None => time_refusal(self.untimely.as_deref()),
            refusal => Ok(refusal),
        }
    }
}

impl PostgresStore {
    pub(super) async fn claim_in_named_sessions(
        &self,
        mut asks: Vec<NamedAsk<'_>>,
        on_lock: OnLock,
        answers: &mut Answers,
    ) {
        // Where both the session and the signer are locked, each is waited for in its turn.
        let turns: &[WaitFor] = match on_lock {
            OnLock::Skip => &[WaitFor::Nothing],
            OnLock::Wait => &[WaitFor::Sessions, WaitFor::Signers],
        };
        for &wait_for in turns {
            match self.judge_in_named_sessions(&asks, wait_for).await {
                Ok(asked) => {
                    let mut busy = Vec::new();
                    for (ask, asked) in asks.into_iter().zip(asked) {
                        if asked == Ok(Asked::Busy) {
                            busy.push(ask);
                        }
                        answers.put(ask.by.place, asked);
                    }
                    asks = busy;
                }
                Err(error) => return answers.fail(asks.iter().map(|ask| ask.by.place), &error),
            }
            if asks.is_empty() {
                return;
            }
        }
    }

    async fn judge_in_named_sessions(
        &self,
        asks: &[NamedAsk<'_>],
        wait_for: WaitFor,
    ) -> Result<Vec<Result<Asked>>> {
        let quota = i64::try_from(self.limits.quota_per_signer).unwrap_or(i64::MAX);
        let columns = NamedColumns::of(asks);
        let wanted = columns.by.signers.iter().collect::<HashSet<_>>().len();
        let work = async |c: &mut AsyncPgConnection| {
            let (sessions, mut signers) = wait_for.lock(c, &columns).await?;
            let mut added = Vec::new();
            // Almost always every signer has a counter.
            if signers.len() < wanted {
                let rows: Vec<Added> = columns.bound_to(ADD_SIGNERS).load(c).await?;
                added.extend(rows.into_iter().map(|row| row.signer));
                signers.extend(added.iter().cloned());
            }
            let locked = Locked { sessions, signers };
            let asked = spend(c, asks, &columns, &locked, quota).await?;
            if !added.is_empty() && asked.iter().any(|asked| new_facts(asked).is_none()) {
                let remove = sql_query(REMOVE_SIGNERS).bind::<Array<Bytea>, _>(&added);
                Prepared(remove).execute(c).await?;
            }
            Ok(asked)
        };
        self.pools()?.claims.run(Kind::Transaction, "claim_in_named_sessions", work).await
    }
}

/// The rows that a transaction waits for, before it holds any; the others it skips.
#[derive(Debug, Clone, Copy)]
enum WaitFor {
    Nothing,
    Sessions,
    Signers,
}

impl WaitFor {
    /// The sessions that limit their claims, and the signers, that are locked now.
    async fn lock(
        self,
        c: &mut AsyncPgConnection,
        NamedColumns { sessions, by: SignerColumns { signers, dids, .. } }: &NamedColumns<'_>,
    ) -> QueryResult<(HashSet<Uuid>, HashSet<Vec<u8>>)> {
        match self {
            Self::Signers => {
                let signers = lock_signers(c, signers, OnLock::Wait).await?;
                let sessions = lock_sessions_of_parties(c, sessions, dids, OnLock::Skip).await?;
                Ok((sessions, signers))
            }
            Self::Nothing | Self::Sessions => {
                let wait = matches!(self, Self::Sessions);
                let on_lock = if wait { OnLock::Wait } else { OnLock::Skip };
                let sessions = lock_sessions_of_parties(c, sessions, dids, on_lock).await?;
                Ok((sessions, lock_signers(c, signers, OnLock::Skip).await?))
            }
        }
    }
}

/// What this transaction has locked.
struct Locked {
    /// Those that limit their claims.
    sessions: HashSet<Uuid>,
    signers: HashSet<Vec<u8>>,
}

/// What the ask inserts.
const fn new_facts(asked: &Result<Asked>) -> Option<&Facts> {
    match asked {
        Ok(Asked::Decided(facts)) if facts.inserted => Some(facts),
        _ => None,
    }
}

/// Judges the asks and writes what is accepted. All that is counted then is locked.
async fn spend(
    c: &mut AsyncPgConnection,
    asks: &[NamedAsk<'_>],
    columns: &NamedColumns<'_>,
    locked: &Locked,
    quota: i64,
) -> QueryResult<Vec<Result<Asked>>> {
    let rows: Vec<JudgedRow> = columns.bound_to(JUDGE).load(c).await?;
    let mut rooms = Rooms { locked, quota, sessions: HashMap::new(), signers: HashMap::new() };
    let asked = asks
        .iter()
        .zip(rows)
        .map(|(ask, row)| rooms.judge(ask, row))
        .collect::<QueryResult<Vec<_>>>()?;
    let new: Vec<_> =
        asks.iter().zip(&asked).filter_map(|(ask, asked)| Some((ask, new_facts(asked)?))).collect();
    let [(_, Facts { at, .. }), ..] = new.as_slice() else { return Ok(asked) };
    let sessions: Vec<_> = new.iter().map(|(ask, _)| ask.session).collect();
    let signers: Vec<_> = new.iter().map(|(ask, _)| ask.by.signer.0.as_slice()).collect();
    let nonces: Vec<_> = new.iter().map(|(ask, _)| ask.by.nonce).collect();
    let expiries: Vec<_> = new.iter().map(|(ask, _)| ask.by.expires_at).collect();
    let digests: Vec<_> = new.iter().map(|(ask, _)| bytes(ask.by.idempotency)).collect();
    let write = sql_query(WRITE)
        .bind::<Timestamptz, _>(*at)
        .bind::<Array<SqlUuid>, _>(sessions)
        .bind::<Array<Bytea>, _>(signers)
        .bind::<Array<Text>, _>(nonces)
        .bind::<Array<Timestamptz>, _>(expiries)
        .bind::<Array<Nullable<Bytea>>, _>(digests);
    Prepared(write).execute(c).await?;
    Ok(asked)
}

/// What is left of both limits, as it is given away in the order of the asks.
struct Rooms<'a> {
    locked: &'a Locked,
    quota: i64,
    sessions: HashMap<Uuid, i64>,
    signers: HashMap<[u8; 16], i64>,
}

impl Rooms<'_> {
    /// An error in the error is one of the whole transaction; it is tried again.
    fn judge(&mut self, ask: &NamedAsk<'_>, row: JudgedRow) -> QueryResult<Result<Asked>> {
        let at = row.at;
        let counted = row.session_room.is_some() && !row.is_a_strangers();
        if counted && !self.locked.sessions.contains(&ask.session) {
            return Ok(Ok(Asked::Busy));
        }
        if row.live.is_some() && !self.locked.signers.contains(ask.by.signer.0.as_slice()) {
            return Ok(Ok(Asked::Busy));
        }
        let refusal = match row.refusal() {
            Err(error) => return Ok(Err(of_its_row(&error))),
            Ok(Some(refusal)) => Some(refusal),
            Ok(None) if row.earlier.is_there() => None,
            Ok(None) => {
                let Some(refusal) = self.take(ask, row.session_room, row.live)? else {
                    let facts = inserted(at, ask.by.expires_at, ask.by.idempotency);
                    return Ok(Ok(Asked::Decided(facts)));
                };
                Some(refusal)
            }
        };
        let facts = row.earlier.facts(at, refusal).map_err(|error| of_its_row(&error));
        Ok(facts.map(Asked::Decided))
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
