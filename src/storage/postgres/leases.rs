//! Leases: one holder at a time runs a job.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Double, Text};
use diesel_async::RunQueryDsl;

use super::PostgresStore;
use super::connection::operation::Operation;
use super::connection::statement::Prepared;
use super::schema::leases;
use crate::domain::Timestamp;
use crate::storage::{Lease, Result, TAKEN_AHEAD};

const TAKE: &str = "
    INSERT INTO leases (name, holder, taken_at, until)
    VALUES ($1, $2, now(), now() + make_interval(secs => $3))
    ON CONFLICT (name) DO UPDATE
    SET holder = excluded.holder, taken_at = excluded.taken_at, until = excluded.until
    WHERE leases.holder = excluded.holder OR leases.until <= now()
        OR leases.taken_at > now() + make_interval(secs => $4)";

const RELEASE: &str = "
    UPDATE leases
    SET until = now(), finished_at = CASE WHEN $3 THEN now() ELSE finished_at END
    WHERE name = $1 AND holder = $2";

impl PostgresStore {
    pub async fn take_lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool> {
        let taken = self
            .write("take_lease", async |c| {
                let query = sql_query(TAKE)
                    .bind::<Text, _>(name)
                    .bind::<Text, _>(holder)
                    .bind::<Double, _>(ttl.as_secs_f64())
                    .bind::<Double, _>(TAKEN_AHEAD.as_secs_f64());
                Prepared(query).execute(c).await
            })
            .await?;
        Ok(taken > 0)
    }

    pub async fn release_lease(&self, name: &str, holder: &str, finished: bool) -> Result<()> {
        self.write("release_lease", async |c| {
            let query = sql_query(RELEASE)
                .bind::<Text, _>(name)
                .bind::<Text, _>(holder)
                .bind::<Bool, _>(finished);
            Prepared(query).execute(c).await.map(drop)
        })
        .await
    }

    pub async fn lease(&self, name: &str) -> Result<Option<Lease>> {
        type Row = (String, String, Timestamp, Timestamp, Option<Timestamp>);
        let row: Option<(Row, Timestamp)> = self
            .read(Operation::even_if_cut("lease"), async |c| {
                let now = diesel::dsl::now.into_sql::<diesel::sql_types::Timestamptz>();
                leases::table
                    .find(name)
                    .select((leases::all_columns, now))
                    .first(c)
                    .await
                    .optional()
            })
            .await?;
        Ok(row.map(|((name, holder, taken_at, until, finished_at), observed_at)| Lease {
            name,
            holder,
            taken_at,
            until,
            finished_at,
            observed_at,
        }))
    }
}
