//! Counts and sizes.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::connection::statement::Prepared;
use super::sessions::row::{did, unsigned};
use super::{PostgresStore, unreadable};
use crate::domain::RecordKind;
use crate::storage::{Counts, RecordCounts, Result, Statistics, TableSize};

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

/// An owner that was erased has nothing, although its records are still being removed.
const RECORD_COUNTS: &str = "
    SELECT count(*) AS owners, coalesce(sum(records), 0)::bigint AS records,
        coalesce(sum(bytes), 0)::bigint AS bytes,
        (SELECT sum(records)::bigint FROM record_shares) AS agents_records,
        (SELECT sum(bytes)::bigint FROM record_shares) AS agents_bytes
    FROM record_owners WHERE did IS NOT NULL";

const TOP_KINDS: &str = "
    SELECT kind AS name, count(*) AS number
    FROM records JOIN record_owners ON record_owners.id = owner
    WHERE deleted_at IS NULL AND did IS NOT NULL
    GROUP BY kind ORDER BY count(*) DESC, kind LIMIT $1";

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
struct RecordCountsRow {
    #[diesel(sql_type = BigInt)]
    owners: i64,
    #[diesel(sql_type = BigInt)]
    records: i64,
    #[diesel(sql_type = BigInt)]
    bytes: i64,
    #[diesel(sql_type = BigInt)]
    agents_records: i64,
    #[diesel(sql_type = BigInt)]
    agents_bytes: i64,
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
    fn read(self, records: RecordCounts) -> QueryResult<Counts> {
        Ok(Counts {
            active_sessions: unsigned(self.active)?,
            ended_sessions: unsigned(self.ended)?,
            live_nonces: unsigned(self.nonces)?,
            dids: unsigned(self.dids)?,
            revoked_dids: unsigned(self.revoked_dids)?,
            records,
        })
    }
}

impl RecordCountsRow {
    fn read(self) -> QueryResult<RecordCounts> {
        Ok(RecordCounts {
            owners: unsigned(self.owners)?,
            records: unsigned(self.records)?,
            bytes: unsigned(self.bytes)?,
            agents_records: unsigned(self.agents_records)?,
            agents_bytes: unsigned(self.agents_bytes)?,
        })
    }
}

async fn counts(c: &mut AsyncPgConnection) -> QueryResult<Counts> {
    let row: CountsRow = Prepared(sql_query(COUNTS)).get_result(c).await?;
    let records: RecordCountsRow = Prepared(sql_query(RECORD_COUNTS)).get_result(c).await?;
    row.read(records.read()?)
}

impl PostgresStore {
    pub async fn counts(&self) -> Result<Counts> {
        self.read("counts", async |c| counts(c).await).await
    }

    pub async fn statistics(&self, top: u32) -> Result<Statistics> {
        self.read("statistics", async |c| {
            let counts = counts(c).await?;
            let database: Named = Prepared(sql_query(DATABASE_SIZE)).get_result(c).await?;
            let sizes: Vec<Named> = Prepared(sql_query(SIZES)).load(c).await?;
            let top_clients = sql_query(TOP_CLIENTS).bind::<BigInt, _>(i64::from(top));
            let top_clients: Vec<Named> = Prepared(top_clients).load(c).await?;
            let top_kinds = sql_query(TOP_KINDS).bind::<BigInt, _>(i64::from(top));
            let top_kinds: Vec<Named> = Prepared(top_kinds).load(c).await?;
            Ok(Statistics {
                counts,
                database_bytes: unsigned(database.number)?,
                tables: sizes
                    .into_iter()
                    .map(|row| Ok(TableSize { name: row.name, bytes: unsigned(row.number)? }))
                    .collect::<QueryResult<_>>()?,
                top_clients: top_clients
                    .into_iter()
                    .map(|row| Ok((did(&row.name)?, unsigned(row.number)?)))
                    .collect::<QueryResult<_>>()?,
                top_kinds: top_kinds
                    .into_iter()
                    .map(|row| Ok((kind(&row.name)?, unsigned(row.number)?)))
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

fn kind(text: &str) -> QueryResult<RecordKind> {
    RecordKind::parse(text).map_err(|_| unreadable("a kind of records that is none"))
}
