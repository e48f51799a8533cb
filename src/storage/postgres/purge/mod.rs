//! The purge, in bounded steps. It takes its locks in the order that claims do, and passes over
//! sessions that somebody else holds.

mod callers;
mod events;
mod signers;

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Double, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use uuid::Uuid;

use super::PostgresStore;
use super::connection::statement::Prepared;
use super::count::{Count, Pair};
use super::sessions::row::unsigned;
use crate::domain::Cursor;
use crate::storage::{PurgeBatch, PurgeStep, Purged, Result};

/// The end is what it was when it came, not when it is recorded.
const END_OVERDUE: &str = "
    WITH expired AS MATERIALIZED (
        SELECT id FROM sessions
        WHERE ended_at IS NULL AND expires_at <= now()
        ORDER BY expires_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
    ),
    idle AS MATERIALIZED (
        SELECT id FROM sessions
        WHERE ended_at IS NULL AND idle_timeout_seconds IS NOT NULL AND expires_at > now()
            AND session_over_at(expires_at, last_activity, idle_timeout_seconds) <= now()
        ORDER BY id LIMIT greatest($1 - (SELECT count(*) FROM expired), 0)
        FOR NO KEY UPDATE SKIP LOCKED
    ),
    ended AS (
        UPDATE sessions
        SET ended_at = session_over_at(expires_at, last_activity, idle_timeout_seconds),
            end_reason = session_over_reason(expires_at, last_activity, idle_timeout_seconds),
            session_key = NULL, key_id = NULL, version = version + 1
        WHERE id = ANY (ARRAY(SELECT id FROM expired UNION ALL SELECT id FROM idle))
            AND ended_at IS NULL
        RETURNING end_reason
    )
    SELECT count(*) FILTER (WHERE end_reason = 'expired') AS first,
           count(*) FILTER (WHERE end_reason = 'idle') AS second
    FROM ended";

/// What a crash takes back is removed by the next run: the disk is left to the claims.
pub(super) const NEED_NOT_BE_ON_DISK: &str = "SET LOCAL synchronous_commit = off";

/// Empties the sessions that ended first. A claim that found its session live is over long before
/// the session's retention is: nobody adds nonces to these, and they need not be locked meanwhile.
/// The inner limits have each session looked up in turn, and no more of them than are emptied.
const EMPTY_ENDED: &str = "
    WITH found AS MATERIALIZED (
        SELECT s.id, n.ctid AS nonce
        FROM (
            SELECT id FROM sessions
            WHERE ended_at < now() - make_interval(secs => $1)
            ORDER BY ended_at LIMIT $2
        ) AS s
        LEFT JOIN LATERAL (
            SELECT ctid FROM nonces WHERE session_id = s.id LIMIT $2
        ) AS n ON true
        LIMIT $2
    ),
    deleted AS (
        DELETE FROM nonces
        WHERE ctid = ANY (ARRAY(SELECT nonce FROM found WHERE nonce IS NOT NULL))
        RETURNING 1
    )
    SELECT ARRAY(SELECT DISTINCT id FROM found) AS sessions,
           (SELECT count(*) FROM deleted) AS nonces";

const DELETE_EMPTY: &str = "
    DELETE FROM sessions WHERE id = ANY (ARRAY(
        SELECT id FROM sessions
        WHERE id = ANY ($1) AND NOT EXISTS (SELECT FROM nonces WHERE session_id = sessions.id)
        LIMIT $2 FOR UPDATE SKIP LOCKED
    ))";

/// Those that somebody else is changing are used.
const DELETE_UNUSED_DIDS: &str = "
    DELETE FROM dids WHERE did = ANY (ARRAY(
        SELECT did FROM dids
        WHERE stale_at IS NOT NULL AND NOT revoked
            AND fetched_at < now() - make_interval(secs => $1)
        ORDER BY fetched_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ))";

const FORGET_PUBLICATIONS: &str = "
    DELETE FROM publications WHERE digest = ANY (ARRAY(
        SELECT digest FROM publications WHERE at < now() - make_interval(secs => $1)
        ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
    ))";

const PREVIEW_PUBLICATIONS: &str = "
    SELECT count(*) FROM publications WHERE at < now() - make_interval(secs => $1)";

/// Deliveries that are past their retention.
macro_rules! old_deliveries {
    () => {
        "webhook_deliveries
        WHERE (state = 'delivered' AND created_at < now() - make_interval(secs => $1))
            OR (state IN ('pending', 'dead') AND created_at < now() - make_interval(secs => $2))"
    };
}

const DELETE_DELIVERIES: &str = concat!(
    "DELETE FROM webhook_deliveries WHERE ctid = ANY (ARRAY(SELECT ctid FROM ",
    old_deliveries!(),
    " LIMIT $3 FOR UPDATE SKIP LOCKED))"
);

const PREVIEW_DELIVERIES: &str = concat!("SELECT count(*) FROM ", old_deliveries!());

const PREVIEW_OVERDUE: &str = "
    SELECT count(*) FILTER (WHERE reason = 'expired') AS first,
           count(*) FILTER (WHERE reason = 'idle') AS second
    FROM (
        SELECT session_over_reason(expires_at, last_activity, idle_timeout_seconds) AS reason
        FROM sessions
        WHERE ended_at IS NULL
            AND session_over_at(expires_at, last_activity, idle_timeout_seconds) <= now()
    ) AS overdue";

/// With `$2`, those that would be ended first count as well.
const PREVIEW_ENDED: &str = "
    WITH gone AS (
        SELECT id FROM sessions WHERE ended_at < now() - make_interval(secs => $1)
        UNION ALL
        SELECT id FROM sessions
        WHERE $2 AND ended_at IS NULL
            AND session_over_at(expires_at, last_activity, idle_timeout_seconds)
                < now() - make_interval(secs => $1)
    )
    SELECT (SELECT count(*) FROM gone) AS first,
           (SELECT count(*) FROM gone JOIN nonces ON session_id = id) AS second";

const PREVIEW_SIGNER_NONCES: &str = "
    SELECT count(*) FROM signer_nonces
    WHERE expires_at < now() - make_interval(secs => $1)";

const PREVIEW_UNUSED_DIDS: &str = "
    SELECT count(*) FROM dids
    WHERE stale_at IS NOT NULL AND NOT revoked
        AND fetched_at < now() - make_interval(secs => $1)";

const PREVIEW_EXPIRED: &str = "
    SELECT count(*) FROM records WHERE expires_at <= now() - make_interval(secs => $1)";

const PREVIEW_TOMBSTONES: &str = "
    SELECT count(*) FROM records WHERE deleted_at < now() - make_interval(secs => $1)";

const PREVIEW_ERASED: &str = "
    WITH erased AS (SELECT id FROM record_owners WHERE did IS NULL)
    SELECT (SELECT count(*) FROM record_blobs WHERE owner IN (SELECT id FROM erased))
        + (SELECT count(*) FROM records WHERE owner IN (SELECT id FROM erased))
        + (SELECT count(*) FROM erased) AS count";

#[derive(QueryableByName)]
struct Emptied {
    #[diesel(sql_type = Array<SqlUuid>)]
    sessions: Vec<Uuid>,
    #[diesel(sql_type = BigInt)]
    nonces: i64,
}

impl PostgresStore {
    pub async fn purge(&self, step: PurgeStep, from: &Cursor, limit: u32) -> Result<PurgeBatch> {
        let rows = i64::from(limit);
        let purged = match step {
            PurgeStep::DeleteSignerNonces { margin } => {
                return self.purge_signer_nonces(margin, from, limit).await;
            }
            PurgeStep::EmptyEvents { retention, undelivered } => {
                return self.empty_events(retention, undelivered, from, limit).await;
            }
            PurgeStep::EndOverdueSessions => {
                self.write("end_overdue_sessions", async |c| {
                    let query = Prepared(sql_query(END_OVERDUE).bind::<BigInt, _>(rows));
                    query.get_result::<Pair>(c).await.and_then(overdue)
                })
                .await
            }
            PurgeStep::DeleteEndedSessions { retention } => {
                self.errand("delete_ended_sessions", async |c| {
                    delete_ended(c, retention, rows).await
                })
                .await
            }
            PurgeStep::DeleteEvents { retention, undelivered } => {
                let events_deleted = self.cut_events(retention, undelivered, limit).await?;
                Ok(Purged { events_deleted, ..Purged::default() })
            }
            PurgeStep::DeleteUnusedDids { unused } => {
                self.write("delete_unused_dids", async |c| {
                    let dids_deleted = delete(c, DELETE_UNUSED_DIDS, unused, rows).await?;
                    Ok(Purged { dids_deleted, ..Purged::default() })
                })
                .await
            }
            PurgeStep::ExpireRecords => {
                let records_expired = self.expire_records(limit).await?;
                Ok(Purged { records_expired, ..Purged::default() })
            }
            PurgeStep::DeleteTombstones { retention } => {
                let tombstones_deleted = self.forget_tombstones(retention, limit).await?;
                Ok(Purged { tombstones_deleted, ..Purged::default() })
            }
            PurgeStep::DeleteErasedRecords => {
                let erased_rows_deleted = self.remove_erased_records(limit).await?;
                Ok(Purged { erased_rows_deleted, ..Purged::default() })
            }
            PurgeStep::ForgetPublications { kept } => {
                self.write("forget_publications", async |c| {
                    let publications_forgotten = delete(c, FORGET_PUBLICATIONS, kept, rows).await?;
                    Ok(Purged { publications_forgotten, ..Purged::default() })
                })
                .await
            }
            PurgeStep::DeleteDeliveries { delivered, undelivered } => {
                self.write("delete_deliveries", async |c| {
                    let query = sql_query(DELETE_DELIVERIES)
                        .bind::<Double, _>(delivered.as_secs_f64())
                        .bind::<Double, _>(undelivered.as_secs_f64())
                        .bind::<BigInt, _>(rows);
                    let deliveries_deleted = unsigned(Prepared(query).execute(c).await?)?;
                    Ok(Purged { deliveries_deleted, ..Purged::default() })
                })
                .await
            }
        }?;
        Ok(PurgeBatch::of_index(purged, limit))
    }

    pub async fn purge_preview(&self, steps: &[PurgeStep]) -> Result<Purged> {
        self.read("purge_preview", async |c| {
            let mut all = Purged::default();
            let mut cut = 0;
            let ending = steps.contains(&PurgeStep::EndOverdueSessions);
            for step in steps {
                match *step {
                    PurgeStep::EndOverdueSessions => {
                        let pair = Prepared(sql_query(PREVIEW_OVERDUE)).get_result(c).await?;
                        let Purged { sessions_expired, sessions_idle, .. } = overdue(pair)?;
                        all = Purged { sessions_expired, sessions_idle, ..all };
                    }
                    PurgeStep::DeleteEndedSessions { retention } => {
                        let query = sql_query(PREVIEW_ENDED)
                            .bind::<Double, _>(retention.as_secs_f64())
                            .bind::<Bool, _>(ending);
                        let Pair { first, second } = Prepared(query).get_result(c).await?;
                        all.sessions_deleted = unsigned(first)?;
                        all.session_nonces_deleted = unsigned(second)?;
                    }
                    PurgeStep::DeleteSignerNonces { margin } => {
                        all.signer_nonces_deleted = count(c, PREVIEW_SIGNER_NONCES, margin).await?;
                    }
                    PurgeStep::DeleteEvents { retention, undelivered } => {
                        (all.events_deleted, cut) =
                            events::preview(c, retention, undelivered).await?;
                    }
                    PurgeStep::EmptyEvents { retention, undelivered } => {
                        all.events_emptied =
                            callers::preview(c, retention, undelivered, cut).await?;
                    }
                    PurgeStep::DeleteUnusedDids { unused } => {
                        all.dids_deleted = count(c, PREVIEW_UNUSED_DIDS, unused).await?;
                    }
                    PurgeStep::ExpireRecords => {
                        all.records_expired = count(c, PREVIEW_EXPIRED, Duration::ZERO).await?;
                    }
                    PurgeStep::DeleteTombstones { retention } => {
                        all.tombstones_deleted = count(c, PREVIEW_TOMBSTONES, retention).await?;
                    }
                    PurgeStep::DeleteErasedRecords => {
                        let rows = Prepared(sql_query(PREVIEW_ERASED)).get_result::<Count>(c);
                        all.erased_rows_deleted = unsigned(rows.await?.count)?;
                    }
                    PurgeStep::ForgetPublications { kept } => {
                        all.publications_forgotten = count(c, PREVIEW_PUBLICATIONS, kept).await?;
                    }
                    PurgeStep::DeleteDeliveries { delivered, undelivered } => {
                        let query = sql_query(PREVIEW_DELIVERIES)
                            .bind::<Double, _>(delivered.as_secs_f64())
                            .bind::<Double, _>(undelivered.as_secs_f64());
                        let rows = Prepared(query).get_result::<Count>(c);
                        all.deliveries_deleted = unsigned(rows.await?.count)?;
                    }
                }
            }
            Ok(all)
        })
        .await
    }
}

fn overdue(Pair { first, second }: Pair) -> QueryResult<Purged> {
    Ok(Purged {
        sessions_expired: unsigned(first)?,
        sessions_idle: unsigned(second)?,
        ..Purged::default()
    })
}

async fn delete_ended(
    c: &mut AsyncPgConnection,
    retention: Duration,
    limit: i64,
) -> QueryResult<Purged> {
    c.batch_execute(NEED_NOT_BE_ON_DISK).await?;
    let empty =
        sql_query(EMPTY_ENDED).bind::<Double, _>(retention.as_secs_f64()).bind::<BigInt, _>(limit);
    let Emptied { sessions, nonces } = Prepared(empty).get_result(c).await?;
    let room = limit.saturating_sub(nonces);
    let mut sessions_deleted = 0;
    if room > 0 && !sessions.is_empty() {
        let delete =
            sql_query(DELETE_EMPTY).bind::<Array<SqlUuid>, _>(&sessions).bind::<BigInt, _>(room);
        sessions_deleted = Prepared(delete).execute(c).await?;
    }
    Ok(Purged {
        session_nonces_deleted: unsigned(nonces)?,
        sessions_deleted: unsigned(sessions_deleted)?,
        ..Purged::default()
    })
}

/// Deletes up to `limit` rows that are older than `age`.
async fn delete(
    c: &mut AsyncPgConnection,
    statement: &'static str,
    age: Duration,
    limit: i64,
) -> QueryResult<u64> {
    let query = sql_query(statement).bind::<Double, _>(age.as_secs_f64()).bind::<BigInt, _>(limit);
    unsigned(Prepared(query).execute(c).await?)
}

async fn count(
    c: &mut AsyncPgConnection,
    statement: &'static str,
    age: Duration,
) -> QueryResult<u64> {
    let query = sql_query(statement).bind::<Double, _>(age.as_secs_f64());
    let Count { count } = Prepared(query).get_result(c).await?;
    unsigned(count)
}
