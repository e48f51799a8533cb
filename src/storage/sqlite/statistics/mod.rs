//! Counts for the gauges, and sizes for the operator. Reads only.

pub(super) mod tally;

use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};

use self::tally::NonceTally;
use super::SqliteStore;
use super::purge::IDLE;
use super::schema::{dids, session_nonces, sessions};
use super::types::{did, number, unreadable};
use crate::domain::{RecordKind, Timestamp};
use crate::storage::{Counts, RecordCounts, Result, Statistics, TableSize};

impl SqliteStore {
    pub async fn counts(&self) -> Result<Counts> {
        let tally = Arc::clone(&self.0.tally);
        self.0.read("counts", move |conn, now| counts(conn, now, &tally)).await
    }

    pub async fn statistics(&self, top: u32) -> Result<Statistics> {
        let tally = Arc::clone(&self.0.tally);
        self.0.read("statistics", move |conn, now| statistics(conn, now, &tally, top)).await
    }

    pub async fn holds_data(&self) -> Result<bool> {
        self.0.read("holds_data", |conn, _| holds_data(conn)).await
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    number: i64,
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
struct Flag {
    #[diesel(sql_type = Bool)]
    flag: bool,
}

/// Reads only indexes, the rows of live sessions with an idle timeout, and the owners of records.
fn counts(conn: &mut SqliteConnection, now: Timestamp, tally: &NonceTally) -> QueryResult<Counts> {
    let micros = now.timestamp_micros();
    let all: i64 = sessions::table.count().get_result(conn)?;
    let unexpired = sessions::ended_at.is_null().and(sessions::expires_at.gt(micros));
    let unexpired: i64 = sessions::table.filter(unexpired).count().get_result(conn)?;
    let idled: Number = diesel::sql_query(format!("SELECT count(*) AS number FROM {IDLE}"))
        .bind::<BigInt, _>(micros)
        .bind::<BigInt, _>(micros)
        .get_result(conn)?;
    let active = unexpired - idled.number;
    let in_sessions = tally.get(|| session_nonces::table.count().get_result(conn))?;
    let of_signers: Number =
        diesel::sql_query("SELECT coalesce(sum(live), 0) AS number FROM signers")
            .get_result(conn)?;
    let known: i64 = dids::table.count().get_result(conn)?;
    let revoked: Number =
        diesel::sql_query("SELECT count(*) AS number FROM dids WHERE revoked = 1")
            .get_result(conn)?;
    Ok(Counts {
        active_sessions: number(active)?,
        ended_sessions: number(all - active)?,
        live_nonces: number(in_sessions + of_signers.number)?,
        dids: number(known)?,
        revoked_dids: number(revoked.number)?,
        records: record_counts(conn)?,
    })
}

/// An owner that was erased has nothing, although its records are still being removed.
fn record_counts(conn: &mut SqliteConnection) -> QueryResult<RecordCounts> {
    let row: RecordCountsRow = diesel::sql_query(
        "SELECT count(*) AS owners, coalesce(sum(records), 0) AS records,
                coalesce(sum(bytes), 0) AS bytes,
                (SELECT sum(records) FROM record_shares) AS agents_records,
                (SELECT sum(bytes) FROM record_shares) AS agents_bytes
            FROM record_owners WHERE did IS NOT NULL",
    )
    .get_result(conn)?;
    Ok(RecordCounts {
        owners: number(row.owners)?,
        records: number(row.records)?,
        bytes: number(row.bytes)?,
        agents_records: number(row.agents_records)?,
        agents_bytes: number(row.agents_bytes)?,
    })
}

/// Walks every page of the file to find the tables' sizes.
pub(super) fn statistics(
    conn: &mut SqliteConnection,
    now: Timestamp,
    tally: &NonceTally,
    top: u32,
) -> QueryResult<Statistics> {
    let counts = counts(conn, now, tally)?;
    let database: Number = diesel::sql_query(
        "SELECT page_count * page_size AS number FROM pragma_page_count, pragma_page_size",
    )
    .get_result(conn)?;
    let tables: Vec<Named> = diesel::sql_query(
        // As PostgreSQL calls them.
        "SELECT iif(m.tbl_name = 'session_nonces', 'nonces', m.tbl_name) AS name,
                CAST(sum(d.pgsize) AS INTEGER) AS number
            FROM dbstat('main', 1) d JOIN sqlite_schema m ON m.name = d.name
            WHERE m.tbl_name NOT LIKE 'sqlite^_%' ESCAPE '^'
            GROUP BY m.tbl_name ORDER BY name",
    )
    .load(conn)?;
    let clients: Vec<Named> = diesel::sql_query(
        "SELECT client_did AS name, count(*) AS number FROM sessions
            WHERE ended_at IS NULL AND expires_at > ?
            GROUP BY client_did ORDER BY number DESC, name LIMIT ?",
    )
    .bind::<BigInt, _>(now.timestamp_micros())
    .bind::<BigInt, _>(i64::from(top))
    .load(conn)?;
    let kinds: Vec<Named> = diesel::sql_query(
        "SELECT kind AS name, count(*) AS number
            FROM records JOIN record_owners ON record_owners.id = owner
            WHERE deleted_at IS NULL AND did IS NOT NULL
            GROUP BY kind ORDER BY number DESC, kind LIMIT ?",
    )
    .bind::<BigInt, _>(i64::from(top))
    .load(conn)?;
    Ok(Statistics {
        counts,
        database_bytes: number(database.number)?,
        tables: tables
            .into_iter()
            .map(|row| Ok(TableSize { name: row.name, bytes: number(row.number)? }))
            .collect::<QueryResult<_>>()?,
        top_clients: clients
            .into_iter()
            .map(|row| Ok((did(&row.name)?, number(row.number)?)))
            .collect::<QueryResult<_>>()?,
        top_kinds: kinds
            .into_iter()
            .map(|row| {
                let kind =
                    RecordKind::parse(&row.name).map_err(|_| unreadable("kind of records"))?;
                Ok((kind, number(row.number)?))
            })
            .collect::<QueryResult<_>>()?,
    })
}

fn holds_data(conn: &mut SqliteConnection) -> QueryResult<bool> {
    let row: Flag = diesel::sql_query(
        "SELECT EXISTS (SELECT 1 FROM sessions) OR EXISTS (SELECT 1 FROM session_nonces)
            OR EXISTS (SELECT 1 FROM dids) OR EXISTS (SELECT 1 FROM signers)
            OR EXISTS (SELECT 1 FROM signer_nonces) OR EXISTS (SELECT 1 FROM record_owners) AS flag",
    )
    .get_result(conn)?;
    Ok(row.flag)
}
