//! Dumps: one read transaction, on a thread and a connection of its own. It holds back no claim,
//! but while it lasts, the WAL grows.

use std::thread::sleep;
use std::time::Instant;

use diesel::connection::{DefaultLoadingMode, SimpleConnection};
use diesel::prelude::*;
use diesel::sql_types::Text;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::connection::errors::store_error;
use super::connection::target::{Role, Target};
use super::{SqliteStore, history, migrations};
use crate::priority::run_low;
use crate::storage::dump::{self, Dump, Feed, Gathering, PAGE, Pace};
use crate::storage::tables::{Column, Kind, TABLES, Table};
use crate::storage::{Fingerprints, Result, StoreError};

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

impl SqliteStore {
    pub async fn dump(&self, pace: Pace) -> Result<Dump> {
        let (target, now) = (self.0.target.clone(), self.0.now());
        let opened = spawn_blocking(move || open(&target)).await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable(format!("the dump was given up: {error}")))
        });
        let (mut conn, schema, generation) = opened?;
        let (feed, dump) = dump::begin(schema, generation, now);
        let reading = move || {
            let read = read_all(&mut conn, &feed, pace);
            feed.end_blocking(read.map_err(|error| store_error(&error)));
        };
        // A dump whose thread ends early says so itself.
        run_low("sqlite-dump", reading)
            .map_err(|error| StoreError::Unavailable(format!("no thread for a dump: {error}")))?;
        Ok(dump)
    }
}

/// A connection that from now on sees what was committed before.
fn open(target: &Target) -> Result<(SqliteConnection, String, Uuid)> {
    if target.is_memory() {
        return Err(StoreError::Unsuitable(
            "a database in memory has one connection, and no backup: use a file".to_owned(),
        ));
    }
    let mut conn = target.connect(Role::Reader)?;
    conn.batch_execute("BEGIN").map_err(|error| store_error(&error))?;
    let schema = dump::schema(&migrations::status(&mut conn)?)?;
    let history = history::read(&mut conn).map_err(|error| store_error(&error))?;
    Ok((conn, schema, history.generation))
}

/// The table that holds the rows of this one: `nonces` is a view here.
pub(super) fn held_in(table: &Table) -> &'static str {
    if table.name == "nonces" { "session_nonces" } else { table.name }
}

/// Returns early, and without an error, once the dump was dropped.
fn read_all(conn: &mut SqliteConnection, feed: &Feed, pace: Pace) -> QueryResult<()> {
    for table in &TABLES {
        let mut gathering = Gathering::of(table);
        let rows = diesel::sql_query(select(table)).load_iter::<Line, DefaultLoadingMode>(conn)?;
        let (mut began, mut read) = (Instant::now(), 0);
        for row in rows {
            read += 1;
            let full = gathering.add(&row?.line);
            if read % PAGE == 0 {
                sleep(pace.pause(began.elapsed()));
                began = Instant::now();
            }
            if let Some(chunk) = full {
                if feed.chunk_blocking(chunk).is_err() {
                    return Ok(());
                }
                began = Instant::now();
            }
        }
        if let Some(chunk) = gathering.rest()
            && feed.chunk_blocking(chunk).is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

/// What every table holds.
pub(super) fn fingerprints(conn: &mut SqliteConnection) -> QueryResult<Fingerprints> {
    let mut found = Fingerprints::default();
    for table in &TABLES {
        let rows = diesel::sql_query(select(table)).load_iter::<Line, DefaultLoadingMode>(conn)?;
        for row in rows {
            found.add(table, &row?.line);
        }
    }
    Ok(found)
}

/// Each row of the table as JSON.
fn select(table: &Table) -> String {
    let values: Vec<_> = table
        .columns
        .iter()
        .map(|column| format!("'{}', {}", column.name, value(column)))
        .collect();
    format!("SELECT json_object({}) AS line FROM {}", values.join(", "), table.name)
}

/// What [`Kind`] says of a column's value.
fn value(Column { name, kind }: &Column) -> String {
    match kind {
        Kind::Text | Kind::Number | Kind::Time | Kind::Address => (*name).to_owned(),
        // The hex of NULL would be an empty string.
        Kind::Bytes | Kind::Id | Kind::Ids => {
            format!("iif({name} IS NULL, NULL, lower(hex({name})))")
        }
        Kind::Bool => format!("json(iif({name}, 'true', 'false'))"),
        Kind::Json | Kind::Words => format!("json({name})"),
    }
}
