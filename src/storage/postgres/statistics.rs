//! Counts and sizes.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::RunQueryDsl;

use super::PostgresStore;
use super::connection::statement::Prepared;
use super::sessions::row::{did, unsigned};
use crate::storage::{Counts, Result, Statistics, TableSize};

/// The rows of `$table`: counted while that is quick, and estimated as the planner does (rows
/// a page when it was last analyzed, times the pages it has now) once it is large.
macro_rules! rows_of {
    ($table:literal) => {
        concat!(
            "(SELECT CASE
                  WHEN pg_relation_size(oid) < 33554432 OR reltuples < 0 OR relpages = 0
                  THEN (SELECT count(*) FROM ",
            $table,
            ")
                  ELSE (reltuples / relpages * pg_relation_size(oid)
                      / current_setting('block_size')::bigint)::bigint
              END
              FROM pg_class WHERE oid = '",
            $table,
            "'::regclass)"
        )
    };
}

const COUNTS: &str = concat!(
    "SELECT active, greatest(",
    rows_of!("sessions"),
    " - active, 0) AS ended, ",
    rows_of!("nonces"),
    " + ",
    rows_of!("signer_nonces"),
    " AS nonces, ",
    rows_of!("dids"),
    " AS dids, (SELECT count(*) FROM dids WHERE revoked) AS revoked_dids
     FROM (
         SELECT count(*) AS active FROM sessions
         WHERE ended_at IS NULL AND expires_at > now()
             AND session_over_at(expires_at, last_activity, idle_timeout_seconds) > now()
     ) AS sessions_now"
);

const SIZES: &str = "
    SELECT relname::text AS name, pg_total_relation_size(oid) AS number
    FROM pg_class
    WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
    ORDER BY relname";

const TOP_CLIENTS: &str = "
    SELECT client_did AS name, count(*) AS number FROM sessions
    WHERE ended_at IS NULL
        AND session_over_at(expires_at, last_activity, idle_timeout_seconds) > now()
    GROUP BY client_did ORDER BY count(*) DESC, client_did LIMIT $1";

const DATABASE_SIZE: &str =
    "SELECT current_database()::text AS name, pg_database_size(current_database()) AS number";

const HOLDS_DATA: &str = "
    SELECT EXISTS (SELECT FROM sessions) OR EXISTS (SELECT FROM dids)
        OR EXISTS (SELECT FROM nonces) OR EXISTS (SELECT FROM signers)
        OR EXISTS (SELECT FROM signer_nonces) OR EXISTS (SELECT FROM record_owners) AS holds";

#[derive(QueryableByName)]
struct CountsRow {
    #[diesel(sql_type = BigInt)]
    active: i64,
    #[diesel(sql_type = BigInt)]
    ended: i64,
    #[diesel(sql_type = BigInt)]
    nonces: i64,
    #[diesel(sql_type = BigInt)]
    dids: i64,
    #[diesel(sql_type = BigInt)]
    revoked_dids: i64,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Holds {
    #[diesel(sql_type = Bool)]
    holds: bool,
}

impl CountsRow {
    fn read(self) -> QueryResult<Counts> {
        Ok(Counts {
            active_sessions: unsigned(self.active)?,
            ended_sessions: unsigned(self.ended)?,
            live_nonces: unsigned(self.nonces)?,
            dids: unsigned(self.dids)?,
            revoked_dids: unsigned(self.revoked_dids)?,
        })
    }
}

impl PostgresStore {
    pub async fn counts(&self) -> Result<Counts> {
        self.read("counts", async |c| {
            let row: CountsRow = Prepared(sql_query(COUNTS)).get_result(c).await?;
            row.read()
        })
        .await
    }

    pub async fn statistics(&self, top: u32) -> Result<Statistics> {
        self.read("statistics", async |c| {
            let counts: CountsRow = Prepared(sql_query(COUNTS)).get_result(c).await?;
            let database: Named = Prepared(sql_query(DATABASE_SIZE)).get_result(c).await?;
            let sizes: Vec<Named> = Prepared(sql_query(SIZES)).load(c).await?;
            let top_clients = sql_query(TOP_CLIENTS).bind::<BigInt, _>(i64::from(top));
            let top_clients: Vec<Named> = Prepared(top_clients).load(c).await?;
            Ok(Statistics {
                counts: counts.read()?,
                database_bytes: unsigned(database.number)?,
                tables: sizes
                    .into_iter()
                    .map(|row| Ok(TableSize { name: row.name, bytes: unsigned(row.number)? }))
                    .collect::<QueryResult<_>>()?,
                top_clients: top_clients
                    .into_iter()
                    .map(|row| Ok((did(&row.name)?, unsigned(row.number)?)))
                    .collect::<QueryResult<_>>()?,
            })
        })
        .await
    }

    pub async fn holds_data(&self) -> Result<bool> {
        let row: Holds = self
            .read("holds_data", async |c| Prepared(sql_query(HOLDS_DATA)).get_result(c).await)
            .await?;
        Ok(row.holds)
    }
}
