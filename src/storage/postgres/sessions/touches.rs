//! Recording activity. All that is asked together is one statement, which commits by itself.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, Bool, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::row::{SessionRow, session_columns};
use super::together::{Failed, Refusal, together_or_each};
use super::unique;
use crate::domain::{Changed, SessionId, SessionState};
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::run::Kind;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::of_its_row;
use crate::storage::{Held, OnLock, Result, Tried};

macro_rules! touch {
    ($on_lock:expr) => {
        concat!(
            "WITH stale AS MATERIALIZED (
                 SELECT id FROM sessions
                 WHERE id = ANY ($1) AND ended_at IS NULL
                     AND session_over_at(expires_at, last_activity, idle_timeout_seconds) > now()
                     AND last_activity < now() - session_granularity(idle_timeout_seconds)
                 ORDER BY id FOR NO KEY UPDATE",
            $on_lock,
            ")
             UPDATE sessions SET last_activity = now()
             WHERE id = ANY (ARRAY(SELECT id FROM stale)) AND ended_at IS NULL
             RETURNING ",
            session_columns!()
        )
    };
}

const TOUCH: &str = touch!(" SKIP LOCKED");
const WAIT_AND_TOUCH: &str = touch!("");

/// `stale`: its activity must be written down, and is not.
const READ: &str = concat!(
    "SELECT last_activity < now() - session_granularity(idle_timeout_seconds) AS stale, ",
    session_columns!(),
    " FROM sessions WHERE id = ANY ($1)"
);

#[derive(QueryableByName)]
struct UntouchedRow {
    #[diesel(embed)]
    session: SessionRow,
    #[diesel(sql_type = Bool)]
    stale: bool,
}

impl PostgresStore {
    pub async fn touch_each(
        &self,
        ids: &[SessionId],
        on_lock: OnLock,
    ) -> Vec<Result<Tried<Changed>>> {
        together_or_each(ids, |ids| self.touch_together(ids, on_lock)).await
    }

    async fn touch_together(
        &self,
        ids: &[SessionId],
        on_lock: OnLock,
    ) -> std::result::Result<Vec<Result<Tried<Changed>>>, Failed> {
        let refusal = Refusal::default();
        let work = async |c: &mut AsyncPgConnection| refusal.note(touch(c, ids, on_lock).await);
        let touched = self.for_sessions(Kind::Statement, "touch_sessions", work).await;
        touched.map_err(|error| refusal.failed(error))
    }
}

async fn touch(
    c: &mut AsyncPgConnection,
    ids: &[SessionId],
    on_lock: OnLock,
) -> QueryResult<Vec<Result<Tried<Changed>>>> {
    let statement = match on_lock {
        OnLock::Skip => TOUCH,
        OnLock::Wait => WAIT_AND_TOUCH,
    };
    let mut others = unique(ids.iter());
    let query = Prepared(sql_query(statement).bind::<Array<SqlUuid>, _>(&others));
    let touched: Vec<SessionRow> = query.load(c).await?;
    let mut answers: HashMap<Uuid, Result<Tried<Changed>>> = HashMap::new();
    for row in touched {
        answers.insert(row.id, answer(row, false));
    }
    others.retain(|id| !answers.contains_key(id));
    if !others.is_empty() {
        // Over, not there, locked, or active so recently that nothing needs writing.
        let query = Prepared(sql_query(READ).bind::<Array<SqlUuid>, _>(&others));
        let untouched: Vec<UntouchedRow> = query.load(c).await?;
        for UntouchedRow { session, stale } in untouched {
            answers.insert(session.id, answer(session, stale));
        }
    }
    let answer = |id: &SessionId| answers.get(&id.0).cloned();
    let not_found = || Ok(Tried::Done(Changed::NotFound));
    Ok(ids.iter().map(|id| answer(id).unwrap_or_else(not_found)).collect())
}

fn answer(row: SessionRow, stale: bool) -> Result<Tried<Changed>> {
    let session = row.read().map_err(|error| of_its_row(&error))?;
    Ok(match session.state() {
        SessionState::Active if stale => Tried::Busy(Held::Session(session.id)),
        SessionState::Active => Tried::Done(Changed::Done(session)),
        SessionState::Over(_) => Tried::Done(Changed::Over(session)),
    })
}
