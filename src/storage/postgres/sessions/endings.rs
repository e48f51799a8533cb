//! Ending sessions, one by one or many at once. An end wipes the sealed key in the same
//! statement; the nonces stay.

use std::collections::{HashMap, HashSet};

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{QueryFragment, QueryId};
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::row::{session_columns, unsigned};
use super::together::{Failed, Refusal, together_or_each};
use super::{sessions, unique};
use crate::domain::{Changed, Did, EndReason, NewEvent, Parties, Session, SessionState};
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::confirm::confirm;
use crate::storage::postgres::connection::operation::Operation;
use crate::storage::postgres::connection::run::Kind;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::events;
use crate::storage::{Ending, Held, OnLock, Result, Tried};

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

macro_rules! lock {
    ($on_lock:expr) => {
        concat!(
            "SELECT ",
            session_columns!(),
            " FROM sessions WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE",
            $on_lock
        )
    };
}

/// The lock also confirms what is found, see `connection::confirm`.
const LOCK: &str = lock!(" SKIP LOCKED");
const WAIT_AND_LOCK: &str = lock!("");

/// Which of these are there.
const THERE: &str = "SELECT id FROM sessions WHERE id = ANY ($1)";

const END: &str = concat!(
    "UPDATE sessions
     SET ended_at = clock_timestamp(), end_reason = reason, session_key = NULL, key_id = NULL,
         version = version + 1
     FROM unnest($1, $2) AS ending (ending_id, reason)
     WHERE id = ending_id
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
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(QueryableByName)]
struct Batch {
    #[diesel(sql_type = BigInt)]
    picked: i64,
    #[diesel(sql_type = BigInt)]
    ended: i64,
}

impl PostgresStore {
    pub async fn end_each(
        &self,
        endings: &[Ending],
        on_lock: OnLock,
    ) -> Vec<Result<Tried<Changed>>> {
        together_or_each(endings, |endings| self.end_together(endings, on_lock)).await
    }

    async fn end_together(
        &self,
        endings: &[Ending],
        on_lock: OnLock,
    ) -> std::result::Result<Vec<Result<Tried<Changed>>>, Failed> {
        let refusal = Refusal::default();
        let work =
            async |c: &mut AsyncPgConnection| refusal.note(end_each(c, endings, on_lock).await);
        let ended = self.for_sessions(Kind::Transaction, "end_each", work).await;
        ended.map_err(|error| refusal.failed(error))
    }

    pub async fn end_sessions(
        &self,
        parties: &Parties,
        reason: EndReason,
        event: Option<NewEvent>,
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
        event: Option<NewEvent>,
        limit: u32,
    ) -> Result<u64> {
        let reason = EndReason::DidRevoked.as_str();
        self.transaction(Operation::even_if_cut("end_sessions_of_revoked"), async |c| {
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

async fn end_each(
    c: &mut AsyncPgConnection,
    endings: &[Ending],
    on_lock: OnLock,
) -> QueryResult<Vec<Result<Tried<Changed>>>> {
    let statement = match on_lock {
        OnLock::Skip => LOCK,
        OnLock::Wait => WAIT_AND_LOCK,
    };
    let mut missing = unique(endings.iter().map(|ending| &ending.id));
    let query = Prepared(sql_query(statement).bind::<Array<SqlUuid>, _>(&missing));
    let mut found = sessions(query.load(c).await?);
    missing.retain(|id| !found.contains_key(id));
    let busy = those_there(c, &missing).await?;

    // Of two endings of one session, the first ends it.
    let is_live = |session: &Result<Session>| {
        session.as_ref().is_ok_and(|session| session.state() == SessionState::Active)
    };
    let mut live: HashSet<Uuid> =
        found.iter().filter(|(_, session)| is_live(session)).map(|(id, _)| *id).collect();
    let ends: Vec<bool> = endings.iter().map(|ending| live.remove(&ending.id.0)).collect();
    let to_end = || endings.iter().zip(&ends).filter_map(|(ending, ends)| ends.then_some(ending));
    found.extend(end(c, to_end()).await?);
    let events: Vec<_> = to_end().filter_map(|ending| ending.audit.as_ref()).collect();
    events::record_all(c, &events).await?;

    let answers = endings.iter().zip(&ends).map(|(Ending { id, .. }, ends)| {
        Ok(match found.get(&id.0).cloned().transpose()? {
            Some(session) if *ends => Tried::Done(Changed::Done(session)),
            Some(session) => Tried::Done(Changed::Over(session)),
            None if busy.contains(&id.0) => Tried::Busy(Held::Session(*id)),
            None => Tried::Done(Changed::NotFound),
        })
    });
    Ok(answers.collect())
}

async fn those_there(c: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<HashSet<Uuid>> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let query = Prepared(sql_query(THERE).bind::<Array<SqlUuid>, _>(ids));
    let there: Vec<IdRow> = query.load(c).await?;
    Ok(there.into_iter().map(|row| row.id).collect())
}

/// Ends sessions that are locked and live, each named once, and returns them by their ids.
async fn end(
    c: &mut AsyncPgConnection,
    endings: impl Iterator<Item = &Ending>,
) -> QueryResult<HashMap<Uuid, Result<Session>>> {
    let (ids, reasons): (Vec<_>, Vec<_>) =
        endings.map(|ending| (ending.id.0, ending.reason.as_str())).unzip();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sql_query(END).bind::<Array<SqlUuid>, _>(ids).bind::<Array<Text>, _>(reasons);
    Ok(sessions(Prepared(query).load(c).await?))
}

/// Writes the event, with the count, if any session was ended; and otherwise confirms that none
/// is left.
async fn record_ends(
    c: &mut AsyncPgConnection,
    event: Option<&NewEvent>,
    ended: u64,
) -> QueryResult<()> {
    if ended == 0 {
        return confirm(c).await;
    }
    let Some(mut event) = event.cloned() else { return Ok(()) };
    event.data.add("sessions", ended.into());
    events::record(c, &event).await
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
