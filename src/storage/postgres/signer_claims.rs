//! Claims by signers who name no session. A signer's counter is locked before its nonces are
//! looked at, so that the counter is exact and no claim past the quota is ever accepted.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use diesel::prelude::*;
use diesel::result::DatabaseErrorKind;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::PostgresStore;
use super::claims::{Answers, SignerAsk, used};
use super::pool::Kind;
use super::statement::Prepared;
use crate::domain::{Facts, Refusal, Timestamp, UsedNonce};
use crate::storage::{Result, StoreError};

/// How often counters are added, when the purge removes them before they can be locked.
const ADDINGS: usize = 5;
const GONE_MEANWHILE: &str = "a signer's counter was removed by the purge at this moment";

const LOCK: &str = "
    SELECT signer FROM signers WHERE signer = ANY ($1) ORDER BY signer FOR NO KEY UPDATE";

/// Commits by itself, before any counter is locked, and only for signers who may be accepted:
/// what is refused leaves nothing behind.
const ADD_SIGNERS: &str = "
    INSERT INTO signers (signer, did)
    SELECT DISTINCT ON (signer) signer, did
    FROM unnest($1, $2, $3) AS new (signer, did, expires_at)
    WHERE expires_at > now()
        AND NOT EXISTS (SELECT FROM dids WHERE dids.revoked AND dids.did = new.did)
    ORDER BY signer
    ON CONFLICT DO NOTHING";

/// Runs after the lock, with a new snapshot and the clock as it is then. Nobody else inserts
/// nonces of these signers now, so it knows beforehand what fits: in the order of the asks.
const CLAIM: &str = "
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
    judged AS MATERIALIZED (
        SELECT a.place, a.signer, a.nonce, a.expires_at AS asked, a.idempotency, clock.at,
            $6 - g.live AS room,
            EXISTS (SELECT FROM dids d WHERE d.revoked AND d.did = a.did) AS revoked,
            n.used_at, n.expires_at, n.idempotency AS earlier
        FROM clock
        CROSS JOIN unnest($1, $2, $3, $4, $5) WITH ORDINALITY
            AS a (signer, did, nonce, expires_at, idempotency, place)
        LEFT JOIN signers g ON g.signer = a.signer
        LEFT JOIN signer_nonces n ON n.signer = a.signer AND n.nonce = a.nonce
    ),
    free AS (
        SELECT *, NOT revoked AND asked > at AND used_at IS NULL AS free FROM judged
    ),
    placed AS MATERIALIZED (
        SELECT *,
            coalesce(
                free AND row_number() OVER (PARTITION BY signer, free ORDER BY place) <= room,
                false
            ) AS fits
        FROM free
    ),
    inserted AS (
        INSERT INTO signer_nonces (signer, nonce, used_at, expires_at, idempotency)
        SELECT signer, nonce, at, asked, idempotency FROM placed WHERE fits
        ORDER BY signer, nonce
    ),
    counted AS (
        UPDATE signers SET live = live + new.count
        FROM (SELECT signer, count(*) FROM placed WHERE fits GROUP BY signer) AS new
        WHERE signers.signer = new.signer
    )
    SELECT at, room IS NOT NULL AS known, revoked, fits, used_at, expires_at, earlier
    FROM placed ORDER BY place";

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = Timestamptz)]
    at: Timestamp,
    /// The signer has a counter.
    #[diesel(sql_type = Bool)]
    known: bool,
    #[diesel(sql_type = Bool)]
    revoked: bool,
    #[diesel(sql_type = Bool)]
    fits: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    used_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    expires_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Bytea>)]
    earlier: Option<Vec<u8>>,
}

impl PostgresStore {
    pub(super) async fn claim_by_signers(&self, asks: &[SignerAsk<'_>], answers: &mut Answers) {
        match self.judge_by_signers(asks).await {
            Ok(facts) => {
                for (ask, facts) in asks.iter().zip(facts) {
                    answers.put(ask.place, Ok(facts));
                }
            }
            Err(error) => answers.fail(asks.iter().map(|ask| ask.place), &error),
        }
    }

    async fn judge_by_signers(&self, asks: &[SignerAsk<'_>]) -> Result<Vec<Facts>> {
        let mut judged = self.judge_by_known_signers(asks, true).await?;
        for _ in 0..ADDINGS {
            if let Some(facts) = judged {
                return Ok(facts);
            }
            self.add_signers(asks).await?;
            judged = self.judge_by_known_signers(asks, false).await?;
        }
        judged.ok_or_else(|| StoreError::Unavailable(GONE_MEANWHILE.into()))
    }

    async fn add_signers(&self, asks: &[SignerAsk<'_>]) -> Result<()> {
        let signers: Vec<_> = asks.iter().map(|ask| ask.signer.0.as_slice()).collect();
        let dids: Vec<_> = asks.iter().map(|ask| ask.did).collect();
        let expiries: Vec<_> = asks.iter().map(|ask| ask.expires_at).collect();
        let work = async |c: &mut AsyncPgConnection| {
            let query = sql_query(ADD_SIGNERS)
                .bind::<Array<Bytea>, _>(&signers)
                .bind::<Array<Text>, _>(&dids)
                .bind::<Array<Timestamptz>, _>(&expiries);
            Prepared(query).execute(c).await
        };
        self.pools()?.claims.run(Kind::Repeatable, "add_signers", work).await.map(drop)
    }

    /// `None` when a signer has no counter who must have one: each, if `all_known`, else whoever
    /// may be accepted. Nothing was changed then.
    async fn judge_by_known_signers(
        &self,
        asks: &[SignerAsk<'_>],
        all_known: bool,
    ) -> Result<Option<Vec<Facts>>> {
        let signers: Vec<_> = asks.iter().map(|ask| ask.signer.0.as_slice()).collect();
        let dids: Vec<_> = asks.iter().map(|ask| ask.did).collect();
        let nonces: Vec<_> = asks.iter().map(|ask| ask.nonce).collect();
        let expiries: Vec<_> = asks.iter().map(|ask| ask.expires_at).collect();
        let digests: Vec<_> =
            asks.iter().map(|ask| ask.idempotency.map(<[u8; 16]>::as_slice)).collect();
        let quota = i64::try_from(self.limits.quota_per_signer).unwrap_or(i64::MAX);
        let gone = AtomicBool::new(false);
        let work = async |c: &mut AsyncPgConnection| {
            gone.store(false, Ordering::Relaxed);
            if !lock_signers(c, &signers).await? && all_known {
                return Ok(None);
            }
            let query = sql_query(CLAIM)
                .bind::<Array<Bytea>, _>(&signers)
                .bind::<Array<Text>, _>(&dids)
                .bind::<Array<Text>, _>(&nonces)
                .bind::<Array<Timestamptz>, _>(&expiries)
                .bind::<Array<Nullable<Bytea>>, _>(&digests)
                .bind::<BigInt, _>(quota);
            let rows: Vec<ClaimRow> = Prepared(query).load(c).await?;
            let judged: Vec<_> = rows
                .into_iter()
                .zip(asks)
                .map(|(row, ask)| facts(row, ask))
                .collect::<QueryResult<_>>()?;
            let judged: Option<Vec<_>> = judged.into_iter().collect();
            if judged.is_none() {
                gone.store(true, Ordering::Relaxed);
                return Err(diesel::result::Error::RollbackTransaction);
            }
            Ok(judged)
        };
        match self.pools()?.claims.run(Kind::Transaction, "claim_by_signers", work).await {
            // That it was rolled back on purpose is the only error that this can hide.
            Err(StoreError::Unexpected(_)) if gone.into_inner() => Ok(None),
            result => result,
        }
    }
}

/// Locks the signers' counters; `false` when some signer has none.
pub(super) async fn lock_signers(
    c: &mut AsyncPgConnection,
    signers: &[&[u8]],
) -> QueryResult<bool> {
    let distinct = signers.iter().collect::<BTreeSet<_>>().len();
    let lock = sql_query(LOCK).bind::<Array<Bytea>, _>(signers);
    Ok(Prepared(lock).execute(c).await? >= distinct)
}

/// `None` when the signer's counter went with its last nonce, between two of our statements.
fn facts(row: ClaimRow, ask: &SignerAsk<'_>) -> QueryResult<Option<Facts>> {
    let at = row.at;
    if row.fits {
        let (expires_at, idempotency) = (ask.expires_at, ask.idempotency.copied());
        let row = Some(UsedNonce { used_at: at, expires_at, idempotency });
        return Ok(Some(Facts { at, row, inserted: true, refusal: None }));
    }
    let existing = row.used_at.zip(row.expires_at);
    let refusal = match existing {
        _ if row.revoked => Some(Refusal::DidRevoked),
        _ if ask.expires_at <= at => Some(Refusal::Expired),
        None if !row.known => return Ok(None),
        None => Some(Refusal::ClaimQuotaReached),
        Some(_) => None,
    };
    let row =
        existing.map(|(used_at, expires_at)| used(used_at, expires_at, row.earlier)).transpose()?;
    Ok(Some(Facts { at, row, inserted: false, refusal }))
}

pub(super) fn gone_meanwhile() -> diesel::result::Error {
    let why = Box::new(GONE_MEANWHILE.to_owned());
    diesel::result::Error::DatabaseError(DatabaseErrorKind::SerializationFailure, why)
}
