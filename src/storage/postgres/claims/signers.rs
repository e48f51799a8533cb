//! Claims by signers who name no session, and in namespaces. A signer's counter is locked before its nonces are
//! looked at, so that the counter is exact and no claim past the quota is ever accepted.

use diesel::prelude::*;
use diesel::result::DatabaseErrorKind;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::columns::{SignerColumns, bytes};
use super::facts::{UsedBefore, clock, earlier_digest, fitting, inserted, time_refusal, untimely};
use super::locks::lock_signers;
use super::{Answers, SignerAsk, of_its_row};
use crate::domain::{Facts, Refusal, Timestamp};
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::run::Kind;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::{Asked, OnLock, Result, StoreError};

/// How often counters are added, when the purge removes them before they can be locked.
const ADDINGS: usize = 5;
const GONE_MEANWHILE: &str = "a signer's counter was removed by the purge at this moment";

/// Commits by itself, before any counter is locked, and only for signers who may be accepted:
/// what is refused leaves nothing behind. A counter that is there is left out, because `ON
/// CONFLICT` would wait for whoever counts in it.
const ADD_SIGNERS: &str = concat!(
    "WITH ",
    clock!(),
    " INSERT INTO signers (signer, did)
    SELECT DISTINCT ON (signer) signer, did
    FROM clock
    CROSS JOIN unnest($1, $2, $3, $4) AS a (signer, did, expires_at, issued_at)
    WHERE ",
    untimely!(),
    " IS NULL
        AND NOT EXISTS (SELECT FROM dids WHERE dids.revoked AND dids.did = a.did)
        AND NOT EXISTS (SELECT FROM signers WHERE signers.signer = a.signer)
    ORDER BY signer
    ON CONFLICT DO NOTHING"
);

/// Runs after the lock, with a new snapshot and the clock as it is then. Nobody else inserts
/// nonces of the locked signers now, so it knows beforehand what fits: in the order of the asks.
const CLAIM: &str = concat!(
    "WITH ",
    clock!(),
    ",
    judged AS MATERIALIZED (
        SELECT a.place, a.signer, a.nonce, a.expires_at AS asked, a.idempotency, a.locked, clock.at,
            a.quota - g.live AS room,
            EXISTS (SELECT FROM dids d WHERE d.revoked AND d.did = a.did) AS revoked,
            n.used_at, n.expires_at, ",
    earlier_digest!("clock.recovered_at"),
    ", ",
    untimely!(),
    " AS untimely
        FROM clock
        CROSS JOIN unnest($1, $2, $3, $4, $5, $6, $7, $8) WITH ORDINALITY
            AS a (signer, did, nonce, expires_at, issued_at, idempotency, locked, quota, place)
        LEFT JOIN signers g ON g.signer = a.signer
        LEFT JOIN signer_nonces n ON n.signer = a.signer AND n.nonce = a.nonce
    ),
    ",
    fitting!("locked AND NOT revoked AND untimely IS NULL AND used_at IS NULL", "signer"),
    ",
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
    SELECT at, room IS NOT NULL AS known, revoked, untimely, fits, used_at, expires_at, earlier
    FROM placed ORDER BY place"
);

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = Timestamptz)]
    at: Timestamp,
    /// The signer has a counter.
    #[diesel(sql_type = Bool)]
    known: bool,
    #[diesel(sql_type = Bool)]
    revoked: bool,
    #[diesel(sql_type = Nullable<Text>)]
    untimely: Option<String>,
    #[diesel(sql_type = Bool)]
    fits: bool,
    #[diesel(embed)]
    earlier: UsedBefore,
}

impl PostgresStore {
    pub(super) async fn claim_by_signers(
        &self,
        mut asks: Vec<SignerAsk<'_>>,
        on_lock: OnLock,
        answers: &mut Answers,
    ) {
        // Almost always every signer has a counter.
        for adding in 0..=ADDINGS {
            let columns = SignerColumns::of(asks.iter());
            let judged = if adding == 0 {
                self.judge_by_signers(&asks, &columns, on_lock, true).await
            } else {
                match self.add_signers(&columns).await {
                    Ok(()) => self.judge_by_signers(&asks, &columns, on_lock, false).await,
                    Err(error) => Err(error),
                }
            };
            let judged = match judged {
                Ok(judged) => judged,
                Err(error) => return answers.fail(asks.iter().map(|ask| ask.place), &error),
            };
            let mut without_counter = Vec::new();
            for (ask, judged) in asks.into_iter().zip(judged) {
                match judged {
                    Some(asked) => answers.put(ask.place, asked),
                    None => without_counter.push(ask),
                }
            }
            asks = without_counter;
            if asks.is_empty() {
                return;
            }
        }
        let gone = StoreError::Unavailable(GONE_MEANWHILE.into());
        answers.fail(asks.iter().map(|ask| ask.place), &gone);
    }

    async fn add_signers(&self, columns: &SignerColumns<'_>) -> Result<()> {
        let work = async |c: &mut AsyncPgConnection| {
            let query = sql_query(ADD_SIGNERS)
                .bind::<Array<Bytea>, _>(&columns.signers)
                .bind::<Array<Text>, _>(&columns.dids)
                .bind::<Array<Timestamptz>, _>(&columns.expiries)
                .bind::<Array<Nullable<Timestamptz>>, _>(&columns.issues);
            Prepared(query).execute(c).await
        };
        self.pools()?.claims.run(Kind::Repeatable, "add_signers", work).await.map(drop)
    }

    /// `None` for each ask whose signer must have a counter and has none. While they are `new`,
    /// that is for the most part asked before anything is judged.
    async fn judge_by_signers(
        &self,
        asks: &[SignerAsk<'_>],
        columns: &SignerColumns<'_>,
        on_lock: OnLock,
        new: bool,
    ) -> Result<Vec<Option<Result<Asked>>>> {
        let SignerColumns { signers, dids, nonces, expiries, issues } = columns;
        let digests: Vec<_> = asks.iter().map(|ask| bytes(ask.idempotency)).collect();
        let quotas: Vec<_> =
            asks.iter().map(|ask| i64::try_from(ask.quota).unwrap_or(i64::MAX)).collect();
        let work = async |c: &mut AsyncPgConnection| {
            let locked = lock_signers(c, signers, on_lock).await?;
            if new && locked.is_empty() {
                return Ok(asks.iter().map(|_| None).collect());
            }
            let locked: Vec<_> = signers.iter().map(|signer| locked.contains(*signer)).collect();
            let query = sql_query(CLAIM)
                .bind::<Array<Bytea>, _>(signers)
                .bind::<Array<Text>, _>(dids)
                .bind::<Array<Text>, _>(nonces)
                .bind::<Array<Timestamptz>, _>(expiries)
                .bind::<Array<Nullable<Timestamptz>>, _>(issues)
                .bind::<Array<Nullable<Bytea>>, _>(&digests)
                .bind::<Array<Bool>, _>(&locked)
                .bind::<Array<BigInt>, _>(&quotas);
            let rows: Vec<ClaimRow> = Prepared(query).load(c).await?;
            let rows = rows.into_iter().zip(asks).zip(locked);
            Ok(rows
                .map(|((row, ask), locked)| {
                    if row.known && !locked {
                        return Some(Ok(Asked::Busy));
                    }
                    let facts = facts(row, ask).map_err(|error| of_its_row(&error));
                    facts.map(|facts| facts.map(Asked::Decided)).transpose()
                })
                .collect())
        };
        self.pools()?.claims.run(Kind::Transaction, "claim_by_signers", work).await
    }
}

/// `None` when the signer's counter went with its last nonce, between two of our statements.
fn facts(row: ClaimRow, ask: &SignerAsk<'_>) -> QueryResult<Option<Facts>> {
    if row.fits {
        return Ok(Some(inserted(row.at, ask.expires_at, ask.idempotency)));
    }
    let refusal = match (time_refusal(row.untimely.as_deref())?, row.earlier.is_there()) {
        _ if row.revoked => Some(Refusal::DidRevoked),
        (Some(untimely), _) => Some(untimely),
        (None, false) if !row.known => return Ok(None),
        (None, false) => Some(Refusal::ClaimQuotaReached),
        (None, true) => None,
    };
    row.earlier.facts(row.at, refusal).map(Some)
}

pub(super) fn gone_meanwhile() -> diesel::result::Error {
    let why = Box::new(GONE_MEANWHILE.to_owned());
    diesel::result::Error::DatabaseError(DatabaseErrorKind::SerializationFailure, why)
}
