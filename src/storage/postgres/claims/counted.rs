//! Claims in sessions that limit them: their rows are locked first, so that the count is exact
//! and no claim more than the limit is ever accepted. What is found under the lock is true; so
//! where it was not had, nothing is said.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::columns::SessionColumns;
use super::facts::{SessionNow, UsedBefore, earlier_digest, fitting, inserted, session_now};
use super::locks::lock_sessions;
use super::{Answers, SessionAsk, of_its_row};
use crate::domain::{Facts, Refusal, Timestamp};
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::run::Kind;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::{Asked, OnLock, Result};

/// Runs after the lock, with a new snapshot and the clock as it is then. Nobody else inserts
/// into the locked sessions now, so it knows beforehand what fits: in the order of the asks.
const CLAIM: &str = concat!(
    "WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
    judged AS MATERIALIZED (
        SELECT a.place, a.session_id, a.nonce, a.idempotency, a.locked, clock.at, s.deadline,
            s.max_claims - s.claims AS room, ",
    session_now!("clock.at"),
    ",
            n.used_at, n.expires_at, ",
    earlier_digest!("(SELECT recovered_at FROM history)"),
    "
        FROM clock
        CROSS JOIN unnest($1, $2, $3, $4) WITH ORDINALITY
            AS a (session_id, nonce, idempotency, locked, place)
        LEFT JOIN sessions s ON s.id = a.session_id
        LEFT JOIN nonces n ON n.session_id = a.session_id AND n.nonce = a.nonce
    ),
    ",
    fitting!("locked AND over_at IS NULL AND NOT revoked AND used_at IS NULL", "session_id"),
    ",
    inserted AS (
        INSERT INTO nonces (session_id, nonce, used_at, expires_at, idempotency)
        SELECT session_id, nonce, at, deadline, idempotency FROM placed WHERE fits
        ORDER BY session_id, nonce
    ),
    counted AS (
        UPDATE sessions
        SET claims = claims + new.count,
            last_activity = CASE
                WHEN last_activity < new.at - session_granularity(idle_timeout_seconds)
                THEN new.at ELSE last_activity
            END
        FROM (
            SELECT session_id, at, count(*) FROM placed WHERE fits GROUP BY session_id, at
        ) AS new
        WHERE sessions.id = new.session_id
    )
    SELECT at, found, deadline, over_at, over_reason, revoked, fits, used_at, expires_at, earlier
    FROM placed ORDER BY place"
);

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = Timestamptz)]
    at: Timestamp,
    #[diesel(embed)]
    session: SessionNow,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    deadline: Option<Timestamp>,
    #[diesel(sql_type = Bool)]
    fits: bool,
    #[diesel(embed)]
    earlier: UsedBefore,
}

impl PostgresStore {
    pub(super) async fn claim_in_counted_sessions(
        &self,
        asks: &[SessionAsk<'_>],
        on_lock: OnLock,
        answers: &mut Answers,
    ) {
        // Room is given in the order in which it was asked for.
        let mut asks = asks.to_vec();
        asks.sort_unstable_by_key(|ask| ask.place);
        match self.judge_in_counted_sessions(&asks, on_lock).await {
            Ok(asked) => {
                for (ask, asked) in asks.iter().zip(asked) {
                    answers.put(ask.place, asked);
                }
            }
            Err(error) => answers.fail(asks.iter().map(|ask| ask.place), &error),
        }
    }

    async fn judge_in_counted_sessions(
        &self,
        asks: &[SessionAsk<'_>],
        on_lock: OnLock,
    ) -> Result<Vec<Result<Asked>>> {
        let SessionColumns { sessions, nonces, digests } = SessionColumns::of(asks);
        let work = async |c: &mut AsyncPgConnection| {
            let locked = lock_sessions(c, &sessions, on_lock).await?;
            let locked: Vec<_> = sessions.iter().map(|session| locked.contains(session)).collect();
            let query = sql_query(CLAIM)
                .bind::<Array<SqlUuid>, _>(&sessions)
                .bind::<Array<Text>, _>(&nonces)
                .bind::<Array<Nullable<Bytea>>, _>(&digests)
                .bind::<Array<Bool>, _>(&locked);
            let rows: Vec<ClaimRow> = Prepared(query).load(c).await?;
            let rows = rows.into_iter().zip(asks).zip(locked);
            Ok(rows
                .map(|((row, ask), locked)| {
                    if row.session.found && !locked {
                        return Ok(Asked::Busy);
                    }
                    facts(row, ask).map(Asked::Decided).map_err(|error| of_its_row(&error))
                })
                .collect())
        };
        self.pools()?.claims.run(Kind::Transaction, "claim_in_counted_sessions", work).await
    }
}

fn facts(row: ClaimRow, ask: &SessionAsk<'_>) -> QueryResult<Facts> {
    if let (true, Some(expires_at)) = (row.fits, row.deadline) {
        return Ok(inserted(row.at, expires_at, ask.idempotency));
    }
    let used_up = (!row.earlier.is_there()).then_some(Refusal::ClaimQuotaReached);
    let refusal = row.session.refusal()?.or(used_up);
    row.earlier.facts(row.at, refusal)
}
