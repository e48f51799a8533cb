//! What the purge would end or remove now. Reads only.

use diesel::prelude::*;

use crate::domain::{EndReason, SessionState, Timestamp};
use crate::storage::{PurgeStep, Purged};

use super::claims::ClaimedSession;
use super::purge::{before, overdue};
use super::schema::{audit_events, nonces, sessions, signer_nonces};
use super::types::number;

pub(super) fn preview(
    conn: &mut SqliteConnection,
    now: Timestamp,
    steps: &[PurgeStep],
) -> QueryResult<Purged> {
    let mut purged = Purged::default();
    for step in steps {
        match *step {
            PurgeStep::EndOverdueSessions => count_overdue(conn, now, &mut purged)?,
            PurgeStep::DeleteEndedSessions { retention } => {
                let ended = sessions::table.filter(sessions::ended_at.lt(before(now, retention)));
                let held =
                    nonces::table.filter(nonces::session_id.eq_any(ended.select(sessions::id)));
                purged.sessions_deleted = number(ended.count().get_result(conn)?)?;
                purged.session_nonces_deleted = number(held.count().get_result(conn)?)?;
            }
            PurgeStep::DeleteSignerNonces { margin } => {
                let expired = signer_nonces::expires_at.lt(before(now, margin));
                let expired = signer_nonces::table.filter(expired);
                purged.signer_nonces_deleted = number(expired.count().get_result(conn)?)?;
            }
            PurgeStep::DeleteAuditEvents { retention } => {
                let old = audit_events::table.filter(audit_events::at.lt(before(now, retention)));
                purged.audit_events_deleted = number(old.count().get_result(conn)?)?;
            }
        }
    }
    Ok(purged)
}

fn count_overdue(
    conn: &mut SqliteConnection,
    now: Timestamp,
    purged: &mut Purged,
) -> QueryResult<()> {
    for id in overdue(conn, now, u32::MAX)? {
        let session = sessions::table.find(id);
        let row: Option<ClaimedSession> =
            session.select(ClaimedSession::as_select()).first(conn).optional()?;
        let Some(row) = row else { continue };
        match row.lifetime()?.state(now) {
            SessionState::Expired { reason: EndReason::Idle, .. } => purged.sessions_idle += 1,
            SessionState::Expired { .. } => purged.sessions_expired += 1,
            SessionState::Active | SessionState::Ended { .. } => {}
        }
    }
    Ok(())
}
