//! What the purge would end or remove now. Reads only.

use diesel::prelude::*;

use super::{callers, events, overdue, unused_dids};
use crate::domain::{End, EndReason, SessionState, Timestamp};
use crate::storage::sqlite::SqliteStore;
use crate::storage::sqlite::claims::sessions::ClaimedSession;
use crate::storage::sqlite::schema::{
    nonces, publications, record_blobs, record_owners, records, sessions, signer_nonces,
};
use crate::storage::sqlite::types::{before, number};
use crate::storage::sqlite::webhooks;
use crate::storage::{PurgeStep, Purged, Result};

impl SqliteStore {
    pub async fn purge_preview(&self, steps: &[PurgeStep]) -> Result<Purged> {
        let steps = steps.to_vec();
        self.0.read("purge_preview", move |conn, now| preview(conn, now, &steps)).await
    }
}

fn preview(
    conn: &mut SqliteConnection,
    now: Timestamp,
    steps: &[PurgeStep],
) -> QueryResult<Purged> {
    let mut purged = Purged::default();
    // A later step may delete the sessions that an earlier one ends.
    let mut to_end = Vec::new();
    let mut cut = 0;
    for step in steps {
        match *step {
            PurgeStep::EndOverdueSessions => to_end = count_overdue(conn, now, &mut purged)?,
            PurgeStep::DeleteEndedSessions { retention } => {
                let cutoff = before(now, retention);
                let ended = sessions::table.filter(sessions::ended_at.lt(cutoff));
                let held =
                    nonces::table.filter(nonces::session_id.eq_any(ended.select(sessions::id)));
                purged.sessions_deleted = number(ended.count().get_result(conn)?)?;
                purged.session_nonces_deleted = number(held.count().get_result(conn)?)?;
                for (id, _) in to_end.iter().filter(|(_, at)| at.timestamp_micros() < cutoff) {
                    let held = nonces::table.filter(nonces::session_id.eq(id.as_slice()));
                    purged.sessions_deleted += 1;
                    purged.session_nonces_deleted += number::<u64>(held.count().get_result(conn)?)?;
                }
            }
            PurgeStep::DeleteSignerNonces { margin } => {
                let expired = signer_nonces::expires_at.lt(before(now, margin));
                let expired = signer_nonces::table.filter(expired);
                purged.signer_nonces_deleted = number(expired.count().get_result(conn)?)?;
            }
            PurgeStep::DeleteEvents { retention, undelivered } => {
                (purged.events_deleted, cut) = events::preview(conn, now, retention, undelivered)?;
            }
            PurgeStep::EmptyEvents { retention, undelivered } => {
                purged.events_emptied = callers::preview(conn, now, retention, undelivered, cut)?;
            }
            PurgeStep::DeleteUnusedDids { unused } => {
                let unused = unused_dids(before(now, unused));
                purged.dids_deleted = number(unused.count().get_result(conn)?)?;
            }
            PurgeStep::ExpireRecords => {
                let expired = records::expires_at.le(now.timestamp_micros());
                let expired = records::table.filter(expired);
                purged.records_expired = number(expired.count().get_result(conn)?)?;
            }
            PurgeStep::DeleteTombstones { retention } => {
                let old = records::deleted_at.lt(before(now, retention));
                let old = records::table.filter(old);
                purged.tombstones_deleted = number(old.count().get_result(conn)?)?;
            }
            PurgeStep::DeleteErasedRecords => {
                let erased = || {
                    let owners = record_owners::table.filter(record_owners::did.is_null());
                    owners.select(record_owners::id)
                };
                let blobs = record_blobs::table.filter(record_blobs::owner.eq_any(erased()));
                let rows = records::table.filter(records::owner.eq_any(erased()));
                let left = blobs.count().get_result::<i64>(conn)?
                    + rows.count().get_result::<i64>(conn)?
                    + erased().count().get_result::<i64>(conn)?;
                purged.erased_rows_deleted = number(left)?;
            }
            PurgeStep::ForgetPublications { kept } => {
                let old = publications::at.lt(before(now, kept));
                let old = publications::table.filter(old);
                purged.publications_forgotten = number(old.count().get_result(conn)?)?;
            }
            PurgeStep::DeleteDeliveries { delivered, undelivered } => {
                purged.deliveries_deleted = webhooks::count_old(conn, now, delivered, undelivered)?;
            }
        }
    }
    Ok(purged)
}

/// Counts the sessions that would be ended, and returns them with the time of their end.
fn count_overdue(
    conn: &mut SqliteConnection,
    now: Timestamp,
    purged: &mut Purged,
) -> QueryResult<Vec<(Vec<u8>, Timestamp)>> {
    let mut ended = Vec::new();
    for id in overdue(conn, now, u32::MAX)? {
        let Some(session) = ClaimedSession::find(conn, &id)? else { continue };
        if let SessionState::Over(End { at, reason }) = session.lifetime()?.state(now) {
            match reason {
                EndReason::Idle => purged.sessions_idle += 1,
                _ => purged.sessions_expired += 1,
            }
            ended.push((id, at));
        }
    }
    Ok(ended)
}
