//! Recovery of a database that went back in time.

use diesel::dsl::now;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Integer, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::PostgresStore;
use super::connection::errors::{InFlight, Trouble};
use super::connection::statement::Prepared;
use super::dids::mark_revoked;
use super::events::{Tip, link_all, lock_chain, record};
use super::history::seconds;
use super::schema::{api_tokens, dids, leases, sessions};
use super::sessions::row::did;
use super::webhooks::pause_all;
use crate::domain::{Did, EndReason, NewDid, Timestamp, leap};
use crate::storage::{Act, Recovered, Recovery, Remembered, Result, StoreError};

/// Locks the row until the transaction ends: of two recoveries, one comes after the other. The
/// time before which nothing is accepted goes back only if the clock was ahead (`$5`): then no message
/// was issued later than it says, and what does not say it counts as issued when the clock was
/// ahead. That covers what the purge removed, too. The database is on this server from now on.
const BEGIN_GENERATION: &str = "
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
    known AS MATERIALIZED (
        SELECT greatest($4, max(issued_until)) AS issued_until,
            greatest($5, max(heartbeat_at)) AS clock_was_at
        FROM instances
    )
    UPDATE history
    SET generation = $1, ancestors = array_append(ancestors, generation), recovered_at = clock.at,
        skew_seconds = greatest(skew_seconds, $2),
        not_before = greatest(
            CASE WHEN $5 IS NULL THEN not_before END,
            greatest(clock.at, $3) + greatest(skew_seconds, $2) * interval '1 second',
            known.issued_until
        ),
        ahead_until = CASE
            WHEN $5 IS NULL THEN ahead_until
            ELSE greatest(
                ahead_until, not_before, purged_until,
                known.clock_was_at + greatest(skew_seconds, $2) * interval '1 second'
            )
        END,
        purged_until = CASE WHEN $5 IS NULL THEN purged_until END,
        system_identifier = s.system_identifier, timeline = s.timeline,
        database_oid = s.database_oid, nonces_oid = s.nonces_oid
    FROM clock, known, server_identity() AS s
    RETURNING ancestors[cardinality(ancestors)] AS ancestor, recovered_at, not_before, ahead_until";

/// Times of a clock that was ahead, which others are compared with: with them, jobs would rest, and
/// what is newer would not count. Digests of then are of an earlier generation. `$1` is the right time.
const SET_RIGHT: [&str; 7] = [
    "UPDATE leases SET taken_at = least(taken_at, $1), finished_at = least(finished_at, $1)
     WHERE greatest(taken_at, finished_at) > $1",
    "UPDATE instances SET heartbeat_at = $1 WHERE heartbeat_at > $1",
    "UPDATE dids SET fetched_at = $1 WHERE fetched_at > $1",
    "UPDATE api_tokens SET last_used_at = $1 WHERE last_used_at > $1",
    "UPDATE webhook_deliveries SET next_at = $1 WHERE next_at > $1",
    "UPDATE nonces SET idempotency = NULL WHERE used_at > $1 AND idempotency IS NOT NULL",
    "UPDATE signer_nonces SET idempotency = NULL WHERE used_at > $1 AND idempotency IS NOT NULL",
];

#[derive(QueryableByName)]
struct Generation {
    #[diesel(sql_type = SqlUuid)]
    ancestor: Uuid,
    #[diesel(sql_type = Timestamptz)]
    recovered_at: Timestamp,
    #[diesel(sql_type = Timestamptz)]
    not_before: Timestamp,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    ahead_until: Option<Timestamp>,
}

impl PostgresStore {
    pub async fn recover(&self, recovery: Recovery) -> Result<Recovered> {
        // Ending many sessions may take longer than other statements may.
        let connector = self.general.patient();
        let task = self.runtime.spawn(async move {
            let mut connection = connector.connect_to_change().await?;
            connection
                .transaction(async |c| recover_in(c, &recovery).await)
                .await
                .map_err(|error| Trouble::of(&error).into_error(InFlight::Commit))
        });
        let aborted = |error| StoreError::OutcomeUnknown(format!("the recovery stopped: {error}"));
        task.await.unwrap_or_else(|error| Err(aborted(error)))
    }

    pub async fn stored_keys(&self, at_most: u32) -> Result<Vec<Did>> {
        let stored = dids::stale_at.is_null().and(dids::public_key.is_not_null());
        self.read("stored_keys", async |c| {
            let found: Vec<String> = dids::table
                .filter(dids::revoked.eq(false).and(stored))
                .order(dids::did)
                .select(dids::did)
                .limit(i64::from(at_most))
                .load(c)
                .await?;
            found.iter().map(|text| did(text)).collect()
        })
        .await
    }
}

/// Recovers the database as a part of the caller's transaction.
pub(super) async fn recover_in(
    c: &mut AsyncPgConnection,
    recovery: &Recovery,
) -> QueryResult<Recovered> {
    let done_again = do_again(c, &recovery.remembered).await?;
    let generation = Uuid::new_v4();
    let begin = sql_query(BEGIN_GENERATION)
        .bind::<SqlUuid, _>(generation)
        .bind::<Integer, _>(seconds(recovery.skew))
        .bind::<Timestamptz, _>(recovery.now)
        .bind::<Nullable<Timestamptz>, _>(recovery.issued_until)
        .bind::<Nullable<Timestamptz>, _>(recovery.clock_was_at);
    let Generation { ancestor, recovered_at: at, not_before, ahead_until } =
        Prepared(begin).get_result(c).await?;
    if recovery.clock_was_at.is_some() {
        for set_right in SET_RIGHT {
            sql_query(set_right).bind::<Timestamptz, _>(at).execute(c).await?;
        }
    }
    let sessions_ended = diesel::update(sessions::table.filter(sessions::ended_at.is_null()))
        .set((
            sessions::ended_at.eq(at),
            sessions::end_reason.eq(EndReason::Restored.as_str()),
            sessions::session_key.eq(None::<Vec<u8>>),
            sessions::key_id.eq(None::<String>),
            sessions::version.eq(sessions::version + 1),
        ))
        .execute(c)
        .await?;
    let fresh = dids::table.filter(dids::stale_at.gt(at)).filter(dids::revoked.eq(false));
    let dids_stale = diesel::update(fresh).set(dids::stale_at.eq(at)).execute(c).await?;
    let held = leases::table.filter(leases::until.gt(at));
    let leases_released = diesel::update(held).set(leases::until.eq(at)).execute(c).await?;
    let recovered = Recovered {
        generation,
        ancestor,
        at,
        not_before,
        ahead_until,
        sessions_ended: sessions_ended as u64,
        dids_stale: dids_stale as u64,
        leases_released: leases_released as u64,
        done_again,
    };
    pause_all(c).await?;
    let tip = lock_chain(c).await?;
    let Tip { sequence, hash } = link_all(c, tip).await?;
    record(c, &recovered.event(recovery.actor.clone(), (sequence, hash))).await?;
    link_all(c, Tip { sequence: leap(sequence, at.max(recovery.now)), hash }).await?;
    Ok(recovered)
}

/// Does again what the database has forgotten, and returns what that was.
async fn do_again(c: &mut AsyncPgConnection, remembered: &[Remembered]) -> QueryResult<Vec<Act>> {
    let mut done = Vec::new();
    for Remembered { at, act } in remembered {
        let changed = match act {
            Act::RevokeDid(did) => usize::from(mark_revoked(c, did).await?.is_some()),
            Act::RevokeToken(id) => {
                let valid = api_tokens::table.find(id).filter(api_tokens::revoked_at.is_null());
                diesel::update(valid).set(api_tokens::revoked_at.eq(now)).execute(c).await?
            }
            Act::ReplaceKey(NewDid { did, key, owner_address }) => {
                let older = dids::table.find(did.as_str()).filter(dids::revoked.eq(false));
                let older = older.filter(dids::stale_at.is_null()).filter(dids::fetched_at.lt(at));
                diesel::update(older.filter(dids::public_key.ne(key.as_bytes())))
                    .set((
                        dids::public_key.eq(key.as_bytes()),
                        dids::key_type.eq(key.key_type().as_str()),
                        dids::owner_address.eq(owner_address),
                        dids::fetched_at.eq(at),
                    ))
                    .execute(c)
                    .await?
            }
        };
        if changed > 0 {
            done.push(act.clone());
        }
    }
    Ok(done)
}
