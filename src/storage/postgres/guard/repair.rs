//! Puts the database right behind a connection that is being checked: takes a recovery that another
//! instance made, takes a new server, or recovers. Changes nothing but under the lock of the row of
//! `history`, and only what is still to be done then.

use std::sync::atomic::Ordering;

use diesel::prelude::*;
use diesel::sql_query;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use super::Guard;
use super::judge::Verdict;
use super::remembered::Remembered;
use super::seen::{Seen, look};
use crate::domain::{Actor, Timestamp};
use crate::storage::postgres::recovery::recover_in;
use crate::storage::postgres::schema::history;
use crate::storage::{Joining, Recovered, Recovery, Server};

/// Who recovers, in the audit log.
const ACTOR: Actor = Actor::Job("recovery");
/// Ending many sessions may take longer than other statements may. An instance that stops between two
/// of them must lose the lock: the others wait for it.
const PATIENTLY: &str = "
    SET LOCAL statement_timeout = 0;
    SET LOCAL lock_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 3000";
/// Takes the server that answers for the one that the database is on.
pub(in crate::storage::postgres) const ADOPT: &str = "
    UPDATE history
    SET system_identifier = s.system_identifier, timeline = s.timeline,
        database_oid = s.database_oid, nonces_oid = s.nonces_oid
    FROM server_identity() AS s";

impl Guard {
    /// Takes a recovery that another instance made.
    pub(super) fn take(&self, seen: &Seen, remembered: &Remembered) {
        let (before, generation) = (remembered.generation, seen.generation);
        if self.switch_to(generation, before, seen.recovered_at, seen.here()) {
            tracing::warn!(%generation, "another instance recovered the database");
        }
    }

    /// `false` if another connection of this instance was first.
    fn switch_to(
        &self,
        generation: Uuid,
        before: Uuid,
        at: Option<Timestamp>,
        server: Server,
    ) -> bool {
        if !self.known().take(before, generation, at, server) {
            return false;
        }
        // The connections that were opened before are not used again.
        self.server.fetch_add(1, Ordering::Relaxed);
        self.metrics.recovered_at.set(at.map_or(0, |at| at.timestamp()));
        true
    }

    /// Locks the row, and judges again: what the lock was wanted for may be done. `None` while
    /// another connection holds the lock, which may take long.
    async fn judge_locked(
        &self,
        c: &mut AsyncPgConnection,
    ) -> QueryResult<Option<(Verdict, Seen, Remembered)>> {
        c.batch_execute(PATIENTLY).await?;
        let locked = history::table.select(history::generation).for_update().skip_locked();
        if locked.first::<Uuid>(c).await.optional()?.is_none() {
            return Ok(None);
        }
        let remembered = self.known().remembered();
        let seen = look(c, &remembered).await?;
        let (verdict, _) = self.judge(&seen, &remembered, false);
        Ok(Some((verdict, seen, remembered)))
    }

    /// Returns whether it did.
    pub(super) async fn adopt(&self, c: &mut AsyncPgConnection) -> QueryResult<bool> {
        let adopted = c
            .transaction(async |c| {
                let Some((Verdict::Adopt, seen, _)) = self.judge_locked(c).await? else {
                    return Ok(None);
                };
                sql_query(ADOPT).execute(c).await?;
                QueryResult::Ok(Some(seen.here().timeline))
            })
            .await?;
        if let Some(timeline) = adopted {
            tracing::info!(timeline, "the database is on this server now");
        }
        Ok(adopted.is_some())
    }

    /// Returns whether it did.
    pub(super) async fn recover(&self, c: &mut AsyncPgConnection) -> QueryResult<bool> {
        let Joining { skew, clock, memory, .. } = &self.joining;
        let recovered = c
            .transaction(async |c| {
                let Some((Verdict::Recover(why), seen, remembered)) = self.judge_locked(c).await?
                else {
                    return Ok(None);
                };
                let now = clock.now().max(self.until());
                let acts = memory.remembered();
                let recovery = Recovery {
                    skew: *skew,
                    now,
                    issued_until: self.issued_until(),
                    clock_was_at: None,
                    actor: ACTOR,
                    remembered: acts,
                };
                let recovered = recover_in(c, &recovery).await?;
                QueryResult::Ok(Some((why, seen.here(), remembered.generation, recovered)))
            })
            .await?;
        // What another connection did is looked at next.
        let Some((why, server, before, recovered)) = recovered else { return Ok(false) };
        self.metrics.cuts.inc();
        self.switch_to(recovered.generation, before, Some(recovered.at), server);
        let Recovered { generation, not_before, sessions_ended, done_again, .. } = recovered;
        tracing::warn!(
            why,
            %generation,
            %not_before,
            sessions_ended,
            revoked_again = done_again.len(),
            "the database went back in time, and was recovered: revoke again what was revoked since \
             (docs/recovery.md)"
        );
        Ok(true)
    }
}
