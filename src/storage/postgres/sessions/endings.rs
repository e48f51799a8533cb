//! Ending sessions, one by one or many at once. An end wipes the sealed key in the same
//! statement; the nonces stay.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{QueryFragment, QueryId};
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text, Uuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::row::{SessionRow, session_columns, unsigned};
use crate::domain::{AuditEvent, Changed, Did, EndReason, Parties, SessionId};
use crate::storage::Result;
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::audit;
use crate::storage::postgres::connection::confirm::confirm;
use crate::storage::postgres::connection::statement::Prepared;

/// Overdue sessions are over already, for another reason, which the purge records.
macro_rules! live {
    () => {
        "s.ended_at IS NULL
         AND session_over_at(s.expires_at, s.last_activity, s.idle_timeout_seconds) > now()"
    };
}

/// Ends the sessions that `$picked` selects, by `$2` at most, for the reason `$1`. It locks
/// them in the order of their ids, as everybody does who locks several; one that another ends
/// meanwhile is picked but not ended.
macro_rules! end_picked {
    ($($picked:expr),+) => {
        concat!(
            "WITH picked AS MATERIALIZED (", $($picked),+, " LIMIT $2),
             locked AS MATERIALIZED (
                 SELECT id FROM sessions
                 WHERE id = ANY (ARRAY(SELECT id FROM picked)) AND ended_at IS NULL
                 ORDER BY id FOR NO KEY UPDATE
             ),
             ended AS (
                 UPDATE sessions
                 SET ended_at = clock_timestamp(), end_reason = $1, session_key = NULL,
                     key_id = NULL, version = version + 1
                 WHERE id = ANY (ARRAY(SELECT id FROM locked)) AND ended_at IS NULL
                 RETURNING id
             )
             SELECT (SELECT count(*) FROM picked) AS picked,
                    (SELECT count(*) FROM ended) AS ended"
        )
    };
}

const END: &str = concat!(
    "UPDATE sessions
     SET ended_at = clock_timestamp(), end_reason = $2, session_key = NULL, key_id = NULL,
         version = version + 1
     WHERE id = $1
     RETURNING ",
    session_columns!()
);

const END_OF_CLIENT: &str =
    end_picked!("SELECT s.id FROM sessions s WHERE s.client_did = $3 AND ", live!());

const END_OF_SERVER: &str =
    end_picked!("SELECT s.id FROM sessions s WHERE s.server_did = $3 AND ", live!());

const END_OF_BOTH: &str = end_picked!(
    "SELECT s.id FROM sessions s WHERE s.client_did = $3 AND s.server_did = $4 AND ",
    live!()
);

const END_OF_REVOKED: &str = end_picked!(
    "SELECT s.id FROM dids d JOIN sessions s ON s.client_did = d.did WHERE d.revoked AND ",
    live!(),
    " UNION SELECT s.id FROM dids d JOIN sessions s ON s.server_did = d.did WHERE d.revoked AND ",
    live!()
);

const END_OF_ONE_REVOKED: &str = end_picked!(
    "SELECT s.id FROM dids d JOIN sessions s ON s.client_did = d.did
     WHERE d.did = $3 AND d.revoked AND ",
    live!(),
    " UNION SELECT s.id FROM dids d JOIN sessions s ON s.server_did = d.did
     WHERE d.did = $3 AND d.revoked AND ",
    live!()
);

#[derive(QueryableByName)]
struct Batch {
    #[diesel(sql_type = BigInt)]
    picked: i64,
    #[diesel(sql_type = BigInt)]
    ended: i64,
}

impl PostgresStore {
    pub async fn end_session(
        &self,
        id: SessionId,
        reason: EndReason,
        event: Option<AuditEvent>,
    ) -> Result<Changed> {
        self.transaction("end_session", async |c| {
            if let Err(refused) = super::lock(c, id).await? {
                return Ok(refused);
            }
            let query = sql_query(END).bind::<Uuid, _>(id.0).bind::<Text, _>(reason.as_str());
            let row: SessionRow = Prepared(query).get_result(c).await?;
            if let Some(event) = &event {
                audit::record(c, event).await?;
            }
            row.read().map(Changed::Done)
        })
        .await
    }

    pub async fn end_sessions(
        &self,
        parties: &Parties,
        reason: EndReason,
        event: Option<AuditEvent>,
        limit: u32,
    ) -> Result<u64> {
        let (client, server) = (parties.client_did.as_ref(), parties.server_did.as_ref());
        self.transaction("end_sessions", async |c| {
            let reason = reason.as_str();
            let ended = match (client, server) {
                (Some(client), Some(server)) => {
                    end_batch(c, limit, |limit| {
                        sql_query(END_OF_BOTH)
                            .bind::<Text, _>(reason)
                            .bind::<BigInt, _>(limit)
                            .bind::<Text, _>(client.as_str())
                            .bind::<Text, _>(server.as_str())
                    })
                    .await?
                }
                (Some(did), None) => end_one_party(c, END_OF_CLIENT, reason, did, limit).await?,
                (None, Some(did)) => end_one_party(c, END_OF_SERVER, reason, did, limit).await?,
                (None, None) => 0,
            };
            record_ends(c, event.as_ref(), ended).await?;
            Ok(ended)
        })
        .await
    }

    pub async fn end_sessions_of_revoked(
        &self,
        did: Option<&Did>,
        event: Option<AuditEvent>,
        limit: u32,
    ) -> Result<u64> {
        let reason = EndReason::DidRevoked.as_str();
        self.transaction("end_sessions_of_revoked", async |c| {
            let ended = match did {
                Some(did) => end_one_party(c, END_OF_ONE_REVOKED, reason, did, limit).await?,
                None => {
                    end_batch(c, limit, |limit| {
                        sql_query(END_OF_REVOKED).bind::<Text, _>(reason).bind::<BigInt, _>(limit)
                    })
                    .await?
                }
            };
            record_ends(c, event.as_ref(), ended).await?;
            Ok(ended)
        })
        .await
    }
}

/// Writes the event, with the count, if any session was ended; and otherwise confirms that none
/// is left.
async fn record_ends(
    c: &mut AsyncPgConnection,
    event: Option<&AuditEvent>,
    ended: u64,
) -> QueryResult<()> {
    if ended == 0 {
        return confirm(c).await;
    }
    let Some(mut event) = event.cloned() else { return Ok(()) };
    if let Some(detail) = event.detail.as_object_mut() {
        detail.insert("sessions".into(), ended.into());
    }
    audit::record(c, &event).await
}

async fn end_one_party(
    c: &mut AsyncPgConnection,
    statement: &'static str,
    reason: &str,
    did: &Did,
    limit: u32,
) -> QueryResult<u64> {
    end_batch(c, limit, |limit| {
        sql_query(statement)
            .bind::<Text, _>(reason)
            .bind::<BigInt, _>(limit)
            .bind::<Text, _>(did.as_str())
    })
    .await
}

/// Ends `limit` sessions, or all there are: where others ended some of those it had picked, it
/// picks again.
async fn end_batch<Q>(
    c: &mut AsyncPgConnection,
    limit: u32,
    statement: impl Fn(i64) -> Q,
) -> QueryResult<u64>
where
    Q: QueryFragment<Pg> + QueryId + Send,
{
    let mut room = i64::from(limit);
    let mut ended = 0;
    while room > 0 {
        let batch: Batch = Prepared(statement(room)).get_result(c).await?;
        ended += batch.ended;
        if batch.picked < room {
            break;
        }
        room -= batch.ended;
    }
    unsigned(ended)
}
