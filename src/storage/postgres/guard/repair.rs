//! Puts the database right behind a connection that is being checked: takes a recovery that another
//! instance made, takes a new server, or recovers. Changes nothing but under the lock of the row of
//! `history`, and only if that is as it was when it was judged.

use std::sync::atomic::Ordering;

use diesel::prelude::*;
use diesel::sql_query;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use super::Guard;
use super::known::Remembered;
use super::seen::{Seen, look};
use crate::domain::{Actor, Timestamp};
use crate::storage::postgres::recovery::recover_in;
use crate::storage::postgres::schema::history;
use crate::storage::{Joining, Recovered, Recovery};

/// Who recovers, in the audit log.
const ACTOR: Actor = Actor::Job("recovery");
/// Ending many sessions may take longer than other statements may.
const PATIENTLY: &str = "
    SET LOCAL statement_timeout = 0;
    SET LOCAL lock_timeout = 0;
    SET LOCAL idle_in_transaction_session_timeout = 0";
/// Takes the server that answers for the one that the database is on.
pub(in crate::storage::postgres) const ADOPT: &str = "
    UPDATE history
    SET system_identifier = s.system_identifier, timeline = s.timeline,
        database_oid = s.database_oid, nonces_oid = s.nonces_oid
    FROM server_identity() AS s";

impl Guard {
    pub(super) fn take(&self, seen: &Seen) {
        let mut known = self.known();
        if known.generation == seen.generation {
            return;
        }
        known.take(seen);
        drop(known);
        self.tell_recovered(seen.recovered_at);
        tracing::warn!(generation = %seen.generation, "another instance recovered the database");
    }

    fn tell_recovered(&self, at: Option<Timestamp>) {
        // No connection is used any more that was opened before.
        self.server.fetch_add(1, Ordering::Relaxed);
        self.metrics.recovered_at.set(at.map_or(0, |at| at.timestamp()));
    }

    /// Locks the row, and sees whether it is as it was.
    async fn lock(c: &mut AsyncPgConnection, seen: &Seen) -> QueryResult<bool> {
        c.batch_execute(PATIENTLY).await?;
        let locked = history::table.select(history::generation).for_update();
        let _: Uuid = locked.first(c).await?;
        let now = look(c, &Remembered::default()).await?;
        Ok(now.generation == seen.generation && now.recorded() == seen.recorded())
    }

    pub(super) async fn adopt(&self, c: &mut AsyncPgConnection, seen: &Seen) -> QueryResult<()> {
        let adopted = c
            .transaction(async |c| {
                if !Self::lock(c, seen).await? {
                    return Ok(false);
                }
                sql_query(ADOPT).execute(c).await?;
                QueryResult::Ok(true)
            })
            .await?;
        if adopted {
            tracing::info!(timeline = seen.here().timeline, "the database is on this server now");
        }
        Ok(())
    }

    pub(super) async fn recover(
        &self,
        c: &mut AsyncPgConnection,
        seen: &Seen,
        why: &str,
    ) -> QueryResult<()> {
        let Joining { skew, clock, memory, .. } = &self.joining;
        let now = clock.now().max(self.until());
        let remembered = memory.remembered();
        let recovery = Recovery { skew: *skew, now, actor: ACTOR, remembered };
        let recovered: Option<Recovered> = c
            .transaction(async |c| {
                if Self::lock(c, seen).await? {
                    recover_in(c, &recovery).await.map(Some)
                } else {
                    QueryResult::Ok(None)
                }
            })
            .await?;
        // Another connection was first: what it did is looked at next.
        let Some(recovered) = recovered else { return Ok(()) };
        let after = look(c, &Remembered::default()).await?;
        self.known().take(&after);
        self.metrics.cuts.inc();
        self.tell_recovered(Some(recovered.at));
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
        Ok(())
    }
}
