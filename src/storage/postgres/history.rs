//! What this database did in the past that its rows no longer show: its generations, and until
//! when signers' nonces that have expired may be gone.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Integer;
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::PostgresStore;
use super::connection::operation::Operation;
use super::connection::statement::Prepared;
use super::schema::history;
use super::sessions::row::unsigned;
use crate::domain::Timestamp;
use crate::storage::history::whole_seconds;
use crate::storage::{History, Result};

/// Waits for a recovery that is under way, also if the skew stays as it is. So an instance that
/// starts serves after the recovery.
const RAISE_SKEW: &str = "UPDATE history SET skew_seconds = greatest(skew_seconds, $1)";

#[derive(Queryable, Selectable)]
#[diesel(table_name = history, check_for_backend(diesel::pg::Pg))]
struct HistoryRow {
    generation: Uuid,
    ancestors: Vec<Option<Uuid>>,
    recovered_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    ahead_until: Option<Timestamp>,
    skew_seconds: i32,
    purged_until: Option<Timestamp>,
}

impl HistoryRow {
    fn read(self) -> QueryResult<History> {
        let Self { generation, ancestors, recovered_at, .. } = self;
        let Self { not_before, ahead_until, skew_seconds, purged_until, .. } = self;
        Ok(History {
            generation,
            ancestors: ancestors.into_iter().flatten().collect(),
            recovered_at,
            not_before,
            ahead_until,
            skew: Duration::from_secs(unsigned(i64::from(skew_seconds))?),
            purged_until,
        })
    }
}

impl PostgresStore {
    pub async fn history(&self) -> Result<History> {
        self.read(Operation::even_if_cut("history"), async |c| {
            let row = history::table.select(HistoryRow::as_select()).first(c).await?;
            row.read()
        })
        .await
    }

    pub async fn raise_skew(&self, skew: Duration) -> Result<()> {
        let seconds = seconds(skew);
        self.write(Operation::even_if_cut("raise_skew"), async |c| {
            let raise = sql_query(RAISE_SKEW).bind::<Integer, _>(seconds);
            Prepared(raise).execute(c).await.map(drop)
        })
        .await
    }
}

pub(super) fn seconds(skew: Duration) -> i32 {
    i32::try_from(whole_seconds(skew)).unwrap_or(i32::MAX)
}
