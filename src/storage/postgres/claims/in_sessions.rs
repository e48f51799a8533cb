//! Claims in sessions that do not limit them: one statement judges a whole batch, and commits
//! by itself. It waits for nobody but another claim of the same nonce.

use std::collections::HashSet;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::columns::SessionColumns;
use super::facts::{SessionNow, UsedBefore, earlier_digest, inserted, not_inserted, session_now};
use super::{Answers, SessionAsk, of_its_row};
use crate::domain::{Facts, Refusal, Timestamp, UsedNonce};
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::confirm::written;
use crate::storage::postgres::connection::run::Kind;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::sessions::row::unsigned;
use crate::storage::postgres::unreadable;
use crate::storage::{Asked, Result, StoreError};

/// Judges every ask, inserts what may be inserted in the order of the keys (so that batches
/// wait for each other in one direction only), and records activity where the last one is old.
/// That takes only sessions that nobody has locked: the next claim will come by. Whether a
/// session has ended meanwhile is asked of the locked row: a condition on `sessions` itself
/// would let the planner walk a partial index of all live sessions instead of the primary key.
///
/// The answer has a row for each ask, and only if some insert met an earlier row, one more for
/// each nonce that was inserted.
const CLAIM: &str = concat!(
    "WITH marked AS MATERIALIZED (SELECT mark_commit()),
    judged AS MATERIALIZED (
        SELECT a.place, a.session_id, a.nonce, a.idempotency, s.deadline,
            s.max_claims IS NOT NULL AS counted, ",
    session_now!("now()"),
    "
        FROM marked
        CROSS JOIN unnest($1, $2, $3) WITH ORDINALITY AS a (session_id, nonce, idempotency, place)
        LEFT JOIN sessions s ON s.id = a.session_id
    ),
    free AS MATERIALIZED (
        SELECT * FROM judged WHERE found AND NOT counted AND over_at IS NULL AND NOT revoked
    ),
    inserted AS (
        INSERT INTO nonces (session_id, nonce, used_at, expires_at, idempotency)
        SELECT session_id, nonce, now(), deadline, idempotency FROM free ORDER BY place
        ON CONFLICT DO NOTHING
        RETURNING session_id, nonce
    ),
    stale AS MATERIALIZED (
        SELECT s.id, s.ended_at, new.count
        FROM (SELECT session_id, count(*) FROM inserted GROUP BY session_id) AS new
        JOIN sessions s ON s.id = new.session_id
        WHERE s.last_activity < now() - session_granularity(s.idle_timeout_seconds)
        FOR NO KEY UPDATE OF s SKIP LOCKED
    ),
    touched AS (
        UPDATE sessions SET last_activity = now(), claims = claims + stale.count
        FROM stale WHERE sessions.id = stale.id AND stale.ended_at IS NULL
    ),
    met AS MATERIALIZED (
        SELECT (SELECT count(*) FROM inserted) < (SELECT count(*) FROM free) AS earlier_rows
    )
    SELECT place, now() AS at, found, counted, deadline, over_at, over_reason, revoked,
        earlier_rows, NULL::uuid AS session_id, NULL AS nonce
    FROM judged CROSS JOIN met
    UNION ALL
    SELECT NULL, now(), true, false, NULL, NULL, NULL, false, earlier_rows, session_id, nonce
    FROM inserted CROSS JOIN met WHERE earlier_rows"
);

/// Runs after the claim, with a new snapshot: it sees what the insert had to wait for. What it
/// finds is confirmed, see `connection::confirm`.
const EARLIER: &str = concat!(
    "WITH found AS MATERIALIZED (
        SELECT a.place, n.used_at, n.expires_at, ",
    earlier_digest!("(SELECT recovered_at FROM history)"),
    "
        FROM unnest($1, $2) WITH ORDINALITY AS a (session_id, nonce, place)
        JOIN nonces n ON n.session_id = a.session_id AND n.nonce = a.nonce
    ),
    confirmed AS MATERIALIZED (",
    written!(),
    " WHERE EXISTS (SELECT FROM found))
    SELECT found.* FROM found CROSS JOIN confirmed"
);

#[derive(QueryableByName)]
struct ClaimRow {
    /// From 1; absent in the rows of inserted nonces.
    #[diesel(sql_type = Nullable<BigInt>)]
    place: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    at: Timestamp,
    #[diesel(embed)]
    session: SessionNow,
    #[diesel(sql_type = Bool)]
    counted: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    deadline: Option<Timestamp>,
    /// Some insert met an earlier row.
    #[diesel(sql_type = Bool)]
    earlier_rows: bool,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    session_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    nonce: Option<String>,
}

#[derive(QueryableByName)]
struct EarlierRow {
    #[diesel(sql_type = BigInt)]
    place: i64,
    #[diesel(embed)]
    earlier: UsedBefore,
}

/// What the statement says of one ask.
enum Judged {
    Inserted {
        at: Timestamp,
        expires_at: Timestamp,
    },
    /// An earlier row was in the way.
    Used {
        at: Timestamp,
    },
    Refused {
        at: Timestamp,
        refusal: Refusal,
    },
    /// Its session limits the claims.
    Counted,
    /// Its session's row cannot be read.
    Failed(StoreError),
}

impl PostgresStore {
    /// Answers the asks; of those in sessions that limit their claims it only says so.
    pub(super) async fn claim_in_sessions(
        &self,
        mut asks: Vec<SessionAsk<'_>>,
        answers: &mut Answers,
    ) {
        asks.sort_unstable_by_key(|ask| (ask.session, ask.nonce));
        let asks = self.claim_quickly(asks, answers).await;
        if asks.is_empty() {
            return;
        }
        let judged = match self.judge_in_sessions(&asks).await {
            Ok(judged) => judged,
            Err(error) => {
                answers.fail(asks.iter().map(|ask| ask.place), &error);
                return;
            }
        };
        let mut unsettled = Vec::new();
        for (ask, judged) in asks.into_iter().zip(judged) {
            let settled = match judged {
                Judged::Counted => {
                    answers.put(ask.place, Ok(Asked::Counted));
                    continue;
                }
                Judged::Failed(error) => {
                    answers.put(ask.place, Err(error));
                    continue;
                }
                Judged::Used { at } => {
                    unsettled.push((ask, not_inserted(at, None)));
                    continue;
                }
                Judged::Refused { at, refusal } => not_inserted(at, Some(refusal)),
                Judged::Inserted { at, expires_at } => inserted(at, expires_at, ask.idempotency),
            };
            if settled.refusal.is_some() && ask.wants_row {
                unsettled.push((ask, settled));
            } else {
                answers.decide(ask.place, settled);
            }
        }
        if !unsettled.is_empty() {
            self.settle(unsettled, answers).await;
        }
    }

    /// What the statement says of each of the sorted asks.
    async fn judge_in_sessions(&self, asks: &[SessionAsk<'_>]) -> Result<Vec<Judged>> {
        let columns = SessionColumns::of(asks);
        let work = async |c: &mut _| {
            let rows: Vec<ClaimRow> = columns.bound_to(CLAIM).load(c).await?;
            judge(rows, asks)
        };
        self.pools()?.claims.run(Kind::Decision, "claim_in_sessions", work).await
    }

    /// Reads the rows that were in the way, or that a refused ask wants.
    async fn settle(&self, asks: Vec<(SessionAsk<'_>, Facts)>, answers: &mut Answers) {
        let rows = match self.earlier(&asks).await {
            Ok(rows) => rows,
            Err(error) => {
                answers.fail(asks.iter().map(|(ask, _)| ask.place), &error);
                return;
            }
        };
        for ((ask, mut facts), row) in asks.into_iter().zip(rows) {
            let settled = row.transpose().map(|row| {
                facts.row = row;
                if row.is_none() && facts.refusal.is_none() {
                    // It was in the way and is gone: nonces only leave with their session.
                    facts.refusal = Some(Refusal::SessionNotFound);
                }
                Asked::Decided(facts)
            });
            answers.put(ask.place, settled);
        }
    }

    async fn earlier(
        &self,
        asks: &[(SessionAsk<'_>, Facts)],
    ) -> Result<Vec<Option<Result<UsedNonce>>>> {
        let sessions: Vec<_> = asks.iter().map(|(ask, _)| ask.session).collect();
        let nonces: Vec<_> = asks.iter().map(|(ask, _)| ask.nonce).collect();
        let work = async |c: &mut _| {
            let query = sql_query(EARLIER)
                .bind::<Array<SqlUuid>, _>(&sessions)
                .bind::<Array<Text>, _>(&nonces);
            let rows: Vec<EarlierRow> = Prepared(query).load(c).await?;
            let mut found = vec![None; nonces.len()];
            for row in rows {
                let place: usize = unsigned(row.place - 1)?;
                if let Some(slot) = found.get_mut(place) {
                    *slot = row.earlier.row().map_err(|error| of_its_row(&error)).transpose();
                }
            }
            Ok(found)
        };
        self.pools()?.claims.run(Kind::Repeatable, "read_used_nonces", work).await
    }
}

fn judge(rows: Vec<ClaimRow>, asks: &[SessionAsk<'_>]) -> QueryResult<Vec<Judged>> {
    let (mut rows, new): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.place.is_some());
    rows.sort_unstable_by_key(|row| row.place);
    if rows.len() != asks.len() {
        return Err(unreadable("another number of answers than asks"));
    }
    let new: HashSet<_> =
        new.iter().filter_map(|row| row.session_id.zip(row.nonce.as_deref())).collect();
    let judged = rows.into_iter().zip(asks).map(|(row, ask)| {
        let at = row.at;
        match (row.session.refusal(), row.deadline) {
            _ if row.counted => Judged::Counted,
            (Err(error), _) => Judged::Failed(of_its_row(&error)),
            (Ok(Some(refusal)), _) => Judged::Refused { at, refusal },
            (_, Some(expires_at))
                if !row.earlier_rows || new.contains(&(ask.session, ask.nonce)) =>
            {
                Judged::Inserted { at, expires_at }
            }
            _ => Judged::Used { at },
        }
    });
    Ok(judged.collect())
}
