//! The purge: records the end of overdue sessions, and removes rows that are past their retention,
//! in bounded batches.

pub(super) mod callers;
pub(super) mod events;
pub(super) mod preview;
pub(super) mod signers;

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary};

use super::claims::sessions::ClaimedSession;
use super::schema::{dids, sessions};
use super::sessions::endings::record_end;
use super::types::{before, number, stored};
use super::{SqliteStore, publications, webhooks};
use crate::domain::{Cursor, End, EndReason, SessionState, Timestamp};
use crate::storage::readable::readable;
use crate::storage::{PurgeBatch, PurgeStep, Purged, Result};

impl SqliteStore {
    pub async fn purge(&self, step: PurgeStep, from: &Cursor, limit: u32) -> Result<PurgeBatch> {
        let purged = match step {
            PurgeStep::EndOverdueSessions => self.end_overdue_sessions(limit).await?,
            PurgeStep::DeleteEndedSessions { retention } => {
                let delete =
                    move |conn: &mut _, now| delete_ended_sessions(conn, now, retention, limit);
                let purged = self.0.write("purge", delete).await?;
                self.0.tally.remove(purged.session_nonces_deleted);
                purged
            }
            PurgeStep::DeleteSignerNonces { margin } => {
                return self.delete_signer_nonces(margin, from.clone(), limit).await;
            }
            PurgeStep::EmptyEvents { retention, undelivered } => {
                return self.empty_events(retention, undelivered, from, limit).await;
            }
            PurgeStep::DeleteEvents { retention, undelivered } => {
                let cut =
                    move |conn: &mut _, now| events::cut(conn, now, retention, undelivered, limit);
                self.0.write("purge", cut).await?
            }
            PurgeStep::DeleteUnusedDids { unused } => {
                let delete = move |conn: &mut _, now| delete_unused_dids(conn, now, unused, limit);
                self.0.write("purge", delete).await?
            }
            PurgeStep::ExpireRecords => {
                let records_expired = self.expire_records(limit).await?;
                Purged { records_expired, ..Purged::default() }
            }
            PurgeStep::DeleteTombstones { retention } => {
                let tombstones_deleted = self.forget_tombstones(retention, limit).await?;
                Purged { tombstones_deleted, ..Purged::default() }
            }
            PurgeStep::DeleteErasedRecords => {
                let erased_rows_deleted = self.remove_erased_records(limit).await?;
                Purged { erased_rows_deleted, ..Purged::default() }
            }
            PurgeStep::ForgetPublications { kept } => {
                let forget = move |conn: &mut _, now| publications::forget(conn, now, kept, limit);
                let publications_forgotten = self.0.write("purge", forget).await?;
                Purged { publications_forgotten, ..Purged::default() }
            }
            PurgeStep::DeleteDeliveries { delivered, undelivered } => {
                let delete = move |conn: &mut _, now| {
                    webhooks::delete_old(conn, now, delivered, undelivered, limit)
                };
                let deliveries_deleted = self.0.write("purge", delete).await?;
                Purged { deliveries_deleted, ..Purged::default() }
            }
        };
        Ok(PurgeBatch::of_index(purged, limit))
    }

    async fn end_overdue_sessions(&self, limit: u32) -> Result<Purged> {
        let find = move |conn: &mut _, now| overdue(conn, now, limit);
        let ids = self.0.read("purge_overdue", find).await?;
        if ids.is_empty() {
            return Ok(Purged::default());
        }
        let end = move |conn: &mut _, now| end_overdue(conn, now, &ids);
        self.0.write("purge", end).await
    }
}

/// Sessions that expire after the first `?`, and became idle before the second, without a record of
/// it. The hint keeps SQLite from walking all live sessions.
pub(super) const IDLE: &str = "sessions INDEXED BY sessions_idle
    WHERE ended_at IS NULL AND idle_timeout_seconds IS NOT NULL AND expires_at > ?
        AND last_activity + idle_timeout_seconds * 1000000
            + min(5000000, idle_timeout_seconds * 100000) <= ?";

#[derive(QueryableByName)]
struct IdRow {
    #[diesel(sql_type = Binary)]
    id: Vec<u8>,
}

/// Up to `limit` sessions that are over without a record of it. It looks at every live session with
/// an idle timeout, so it runs on a reader. [`end_overdue`] checks each session again.
pub(super) fn overdue(
    conn: &mut SqliteConnection,
    now: Timestamp,
    limit: u32,
) -> QueryResult<Vec<Vec<u8>>> {
    let now = now.timestamp_micros();
    let rows: Vec<IdRow> = diesel::sql_query(format!(
        "SELECT id FROM sessions WHERE ended_at IS NULL AND expires_at <= ?
            UNION ALL SELECT id FROM {IDLE} LIMIT ?"
    ))
    .bind::<BigInt, _>(now)
    .bind::<BigInt, _>(now)
    .bind::<BigInt, _>(now)
    .bind::<BigInt, _>(i64::from(limit))
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Records the end of those of `ids` that are over, with the time at which they ended.
fn end_overdue(
    conn: &mut SqliteConnection,
    now: Timestamp,
    ids: &[Vec<u8>],
) -> QueryResult<Purged> {
    let mut purged = Purged::default();
    for id in ids {
        let Some(session) = ClaimedSession::find(conn, id)? else { continue };
        let id_of_row = base16ct::lower::encode_string(id);
        let Some(lifetime) = readable(session.lifetime(), "session", id_of_row) else { continue };
        if lifetime.end.is_some() {
            continue;
        }
        if let SessionState::Over(End { at, reason }) = lifetime.state(now) {
            record_end(conn, id, at, reason)?;
            match reason {
                EndReason::Idle => purged.sessions_idle += 1,
                _ => purged.sessions_expired += 1,
            }
        }
    }
    Ok(purged)
}

/// Deletes sessions that ended more than `retention` ago. Their nonces count as rows, too. A
/// session with more nonces than fit into a batch is emptied first, over several batches.
fn delete_ended_sessions(
    conn: &mut SqliteConnection,
    now: Timestamp,
    retention: Duration,
    limit: u32,
) -> QueryResult<Purged> {
    let cutoff = before(now, retention);
    let mut purged = Purged::default();
    let mut room = i64::from(limit);
    let ended: Vec<i64> = sessions::table
        .filter(sessions::ended_at.lt(cutoff))
        .order(sessions::ended_at)
        .limit(room)
        .select(sessions::number)
        .load(conn)?;
    for session in ended {
        let deleted = delete_nonces(conn, session, room)?;
        purged.session_nonces_deleted += number::<u64>(deleted)?;
        room -= deleted;
        if room == 0 {
            break;
        }
        diesel::delete(sessions::table.filter(sessions::number.eq(session))).execute(conn)?;
        purged.sessions_deleted += 1;
        room -= 1;
        if room == 0 {
            break;
        }
    }
    Ok(purged)
}

fn delete_nonces(conn: &mut SqliteConnection, session: i64, limit: i64) -> QueryResult<i64> {
    let deleted = diesel::sql_query(
        "DELETE FROM session_nonces WHERE session = ?1
            AND nonce IN (SELECT nonce FROM session_nonces WHERE session = ?1 LIMIT ?2)",
    )
    .bind::<BigInt, _>(session)
    .bind::<BigInt, _>(limit)
    .execute(conn)?;
    Ok(stored(deleted))
}

/// DIDs that a resolver read before `cutoff` and not since. Never includes a revoked DID.
#[diesel::dsl::auto_type]
pub(super) fn unused_dids(cutoff: i64) -> _ {
    dids::table
        .filter(dids::stale_at.is_not_null())
        .filter(dids::revoked.eq(false))
        .filter(dids::fetched_at.lt(cutoff))
}

fn delete_unused_dids(
    conn: &mut SqliteConnection,
    now: Timestamp,
    unused: Duration,
    limit: u32,
) -> QueryResult<Purged> {
    let unused: Vec<String> = unused_dids(before(now, unused))
        .order(dids::fetched_at)
        .limit(i64::from(limit))
        .select(dids::did)
        .load(conn)?;
    let mut deleted = 0;
    for did in unused {
        diesel::delete(dids::table.find(did)).execute(conn)?;
        deleted += 1;
    }
    Ok(Purged { dids_deleted: deleted, ..Purged::default() })
}
