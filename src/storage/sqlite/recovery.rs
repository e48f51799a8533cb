//! Recovery of a database that went back in time.

use diesel::dsl::max;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use uuid::Uuid;

use super::SqliteStore;
use super::dids::mark_revoked;
use super::events::{Tip, chain_tip, link_all, write};
use super::schema::{api_tokens, dids, history, instances, leases, sessions, webhook_deliveries};
use super::types::{did, optional_timestamp};
use super::webhooks::pause_all;
use crate::domain::{Did, EndReason, NewDid, Timestamp, leap};
use crate::storage::history::whole_seconds;
use crate::storage::{Act, Recovered, Recovery, Remembered, Result};

impl SqliteStore {
    pub async fn recover(&self, recovery: Recovery) -> Result<Recovered> {
        self.0.write("recover", move |conn, now| recover_in(conn, now, &recovery)).await
    }

    pub async fn stored_keys(&self, at_most: u32) -> Result<Vec<Did>> {
        self.0.read("stored_keys", move |conn, _| stored_keys(conn, at_most)).await
    }
}

fn stored_keys(conn: &mut SqliteConnection, at_most: u32) -> QueryResult<Vec<Did>> {
    let stored = dids::stale_at.is_null().and(dids::public_key.is_not_null());
    let found: Vec<String> = dids::table
        .filter(dids::revoked.eq(false).and(stored))
        .order(dids::did)
        .select(dids::did)
        .limit(i64::from(at_most))
        .load(conn)?;
    found.iter().map(|text| did(text)).collect()
}

/// Recovers the database as a part of the caller's transaction; `now` is the database's clock.
pub(super) fn recover_in(
    conn: &mut SqliteConnection,
    now: Timestamp,
    recovery: &Recovery,
) -> QueryResult<Recovered> {
    let done_again = do_again(conn, now, &recovery.remembered)?;
    let (generation, at) = (Uuid::new_v4(), now.timestamp_micros());
    let history = super::history::read(conn)?;
    let (ancestor, skew) = (history.generation, history.skew.max(recovery.skew));
    let (issued_until, heartbeat_at): (Option<i64>, Option<i64>) = instances::table
        .select((max(instances::issued_until), max(instances::heartbeat_at)))
        .first(conn)?;
    let issued_until = optional_timestamp(issued_until)?.max(recovery.issued_until);
    let least = Some(now.max(recovery.now) + skew).max(issued_until);
    let (not_before, ahead_until, purged_until) = match recovery.clock_was_at {
        None => (least.max(history.not_before), history.ahead_until, history.purged_until),
        // No message was issued later than it says. What does not say it counts as issued when the
        // clock was ahead. That covers what the purge removed, too.
        Some(at) => {
            set_right(conn, now)?;
            let clock = at.max(optional_timestamp(heartbeat_at)?.unwrap_or(at)) + skew;
            let ahead_until = history.ahead_until.max(history.not_before).max(history.purged_until);
            (least, ahead_until.max(Some(clock)), None)
        }
    };
    let not_before = not_before.unwrap_or(now);
    let ancestors: Vec<u8> =
        history.ancestors.iter().chain([&ancestor]).flat_map(Uuid::as_bytes).copied().collect();
    diesel::update(history::table)
        .set((
            history::generation.eq(generation.as_bytes().as_slice()),
            history::ancestors.eq(ancestors),
            history::recovered_at.eq(at),
            history::not_before.eq(not_before.timestamp_micros()),
            history::ahead_until.eq(ahead_until.map(|at| at.timestamp_micros())),
            history::purged_until.eq(purged_until.map(|at| at.timestamp_micros())),
            history::skew_seconds.eq(i64::from(whole_seconds(skew))),
        ))
        .execute(conn)?;
    let sessions_ended = diesel::update(sessions::table.filter(sessions::ended_at.is_null()))
        .set((
            sessions::ended_at.eq(at),
            sessions::end_reason.eq(EndReason::Restored.as_str()),
            sessions::session_key.eq(None::<Vec<u8>>),
            sessions::key_id.eq(None::<String>),
            sessions::version.eq(sessions::version + 1),
        ))
        .execute(conn)?;
    let fresh = dids::table.filter(dids::stale_at.gt(at)).filter(dids::revoked.eq(false));
    let dids_stale = diesel::update(fresh)
        .set((dids::stale_at.eq(at), dids::updated_at.eq(at)))
        .execute(conn)?;
    let held = leases::table.filter(leases::until.gt(at));
    let leases_released = diesel::update(held).set(leases::until.eq(at)).execute(conn)?;
    let recovered = Recovered {
        generation,
        ancestor,
        at: now,
        not_before,
        ahead_until,
        sessions_ended: sessions_ended as u64,
        dids_stale: dids_stale as u64,
        leases_released: leases_released as u64,
        done_again,
    };
    pause_all(conn)?;
    let tip = chain_tip(conn)?;
    let Tip { sequence, hash } = link_all(conn, now, tip)?;
    write(conn, now, &recovered.event(recovery.actor.clone(), (sequence, hash)))?;
    link_all(conn, now, Tip { sequence: leap(sequence, now.max(recovery.now)), hash })?;
    Ok(recovered)
}

/// Sets times right of a clock that was ahead, which others are compared with: with them, jobs would
/// rest, and what is newer would not count. Digests of then are of an earlier generation.
fn set_right(conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<()> {
    let now = now.timestamp_micros();
    diesel::update(leases::table.filter(leases::taken_at.gt(now)))
        .set(leases::taken_at.eq(now))
        .execute(conn)?;
    diesel::update(leases::table.filter(leases::finished_at.gt(now)))
        .set(leases::finished_at.eq(now))
        .execute(conn)?;
    diesel::update(instances::table.filter(instances::heartbeat_at.gt(now)))
        .set(instances::heartbeat_at.eq(now))
        .execute(conn)?;
    diesel::update(dids::table.filter(dids::fetched_at.gt(now)))
        .set(dids::fetched_at.eq(now))
        .execute(conn)?;
    diesel::update(api_tokens::table.filter(api_tokens::last_used_at.gt(now)))
        .set(api_tokens::last_used_at.eq(now))
        .execute(conn)?;
    diesel::update(webhook_deliveries::table.filter(webhook_deliveries::next_at.gt(now)))
        .set(webhook_deliveries::next_at.eq(now))
        .execute(conn)?;
    for table in ["session_nonces", "signer_nonces"] {
        let forget = format!("UPDATE {table} SET idempotency = NULL WHERE used_at > ?");
        diesel::sql_query(forget).bind::<BigInt, _>(now).execute(conn)?;
    }
    Ok(())
}

/// Does again what the database has forgotten, and returns what that was.
fn do_again(
    conn: &mut SqliteConnection,
    now: Timestamp,
    remembered: &[Remembered],
) -> QueryResult<Vec<Act>> {
    let (mut done, micros) = (Vec::new(), now.timestamp_micros());
    for Remembered { at, act } in remembered {
        let changed = match act {
            Act::RevokeDid(did) => usize::from(mark_revoked(conn, now, did)?.first),
            Act::RevokeToken(id) => {
                let token = api_tokens::table.find(id.as_bytes().as_slice());
                diesel::update(token.filter(api_tokens::revoked_at.is_null()))
                    .set(api_tokens::revoked_at.eq(micros))
                    .execute(conn)?
            }
            Act::ReplaceKey(NewDid { did, key, owner_address }) => {
                let at = at.timestamp_micros();
                let older = dids::table.find(did.as_str()).filter(dids::revoked.eq(false));
                let older = older.filter(dids::stale_at.is_null()).filter(dids::fetched_at.lt(at));
                diesel::update(older.filter(dids::public_key.ne(key.as_bytes())))
                    .set((
                        dids::public_key.eq(key.as_bytes()),
                        dids::key_type.eq(key.key_type().as_str()),
                        dids::owner_address.eq(owner_address),
                        dids::fetched_at.eq(at),
                        dids::updated_at.eq(micros),
                    ))
                    .execute(conn)?
            }
        };
        if changed > 0 {
            done.push(act.clone());
        }
    }
    Ok(done)
}
