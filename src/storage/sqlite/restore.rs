//! Restores: the rows go into a new file beside the database, which is recovered there, and then
//! takes the database's place by a rename. Until then, nothing of the database changes.

use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::connection::errors::store_error;
use super::connection::target::{Role, Target};
use super::migrations;
use super::recovery::recover_in;
use super::schema::{api_tokens, sealing_keys};
use crate::config::SqliteLocation;
use crate::data_dir::sync_name;
use crate::storage::restore::{Restore, RestoreRows};
use crate::storage::tables::{Column, Kind, TABLES, Table};
use crate::storage::{Recovered, Result, StoreError};

/// How the new file is called until it is whole. A restore that was killed leaves it.
const UNFINISHED: &str = ".restoring";
/// The files that SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];
/// A new file is synced once, at its end. A larger cache takes rows in any order.
const FAST: &str = "PRAGMA synchronous = OFF; PRAGMA cache_size = -131072";

#[derive(QueryableByName)]
struct Checkpoint {
    #[diesel(sql_type = BigInt)]
    busy: i64,
}

/// Restores the database at this path, which need not exist; blocks. No other process may use it:
/// the caller holds its lock.
pub fn restore(path: &Path, rows: &mut RestoreRows, restore: &Restore) -> Result<Recovered> {
    // A name that is a link goes on leading to the database.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(_) => std::path::absolute(path).map_err(|error| failed(path, &error))?,
    };
    let new = with_suffix(&path, UNFINISHED);
    remove(&new)?;
    let filled = fill(&new, rows, restore).and_then(|recovered| {
        if path.exists() {
            settle(&path)?;
        } else {
            // The WAL of a file that is gone would be taken for the new one's.
            remove(&path)?;
        }
        std::fs::rename(&new, &path)
            .and_then(|()| sync_name(&path))
            .map_err(|error| failed(&path, &error))?;
        Ok(recovered)
    });
    if filled.is_err() {
        remove(&new)?;
    }
    filled
}

/// Makes the new file, whole, recovered and synced.
fn fill(new: &Path, rows: &mut RestoreRows, restore: &Restore) -> Result<Recovered> {
    let database = |error: diesel::result::Error| store_error(&error);
    let target = Target::prepare(&SqliteLocation::File(new.to_owned()))?;
    let mut conn = target.connect(Role::Writer)?;
    conn.batch_execute(FAST).map_err(database)?;
    migrations::up(&mut conn)?;
    // Migrations make rows of their own.
    let empty: Vec<_> = TABLES.iter().map(|table| format!("DELETE FROM {};", table.name)).collect();
    conn.batch_execute(&empty.concat()).map_err(database)?;
    while let Some(chunk) = rows.next_blocking()? {
        diesel::sql_query(insert(chunk.table))
            .bind::<Text, _>(chunk.rows)
            .execute(&mut conn)
            .map_err(database)?;
    }
    let now = restore.recovery.now;
    let recovered = conn
        .immediate_transaction(|conn| {
            let recovered = recover_in(conn, now, &restore.recovery)?;
            // No session has a key any more: any sealing key will do from now on.
            diesel::delete(sealing_keys::table).execute(conn)?;
            if restore.revoke_tokens {
                diesel::update(api_tokens::table.filter(api_tokens::revoked_at.is_null()))
                    .set(api_tokens::revoked_at.eq(recovered.at.timestamp_micros()))
                    .execute(conn)?;
            }
            Ok(recovered)
        })
        .map_err(database)?;
    empty_wal(&mut conn, new)?;
    drop(conn);
    no_wal(new)?;
    std::fs::File::open(new)
        .and_then(|file| file.sync_all())
        .and_then(|()| sync_name(new))
        .map_err(|error| failed(new, &error))?;
    Ok(recovered)
}

/// Has the old database be one file: its WAL would be taken for the new one's.
fn settle(path: &Path) -> Result<()> {
    let target = Target::prepare(&SqliteLocation::File(path.to_owned()))?;
    let mut conn = target.connect(Role::Writer)?;
    empty_wal(&mut conn, path)?;
    drop(conn);
    no_wal(path)
}

/// Copies the WAL into the database.
fn empty_wal(conn: &mut SqliteConnection, path: &Path) -> Result<()> {
    let done: Checkpoint = diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)")
        .get_result(conn)
        .map_err(|error| store_error(&error))?;
    if done.busy == 0 { Ok(()) } else { Err(in_use(path)) }
}

/// The last connection that closes removes the WAL: if one is left, another process has the file
/// open.
fn no_wal(path: &Path) -> Result<()> {
    let left = BESIDE.iter().any(|suffix| with_suffix(path, suffix).exists());
    if left { Err(in_use(path)) } else { Ok(()) }
}

fn in_use(path: &Path) -> StoreError {
    let path = path.display();
    StoreError::Unsuitable(format!("another process uses {path}; wait for it, or stop it"))
}

/// Removes a file that is no database, and what SQLite keeps beside it.
fn remove(path: &Path) -> Result<()> {
    for suffix in std::iter::once("").chain(BESIDE) {
        let file = with_suffix(path, suffix);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&file, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

fn failed(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}

/// Inserts rows that come as one JSON array.
fn insert(Table { name, columns }: &Table) -> String {
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    let values: Vec<_> = columns.iter().map(value).collect();
    let (names, values) = (names.join(", "), values.join(", "));
    format!("INSERT INTO {name} ({names}) SELECT {values} FROM json_each(?)")
}

/// The column's value, from what [`Kind`] says.
fn value(Column { name, kind }: &Column) -> String {
    match kind {
        Kind::Text | Kind::Number | Kind::Time | Kind::Bool | Kind::Address => {
            format!("value ->> '$.{name}'")
        }
        Kind::Bytes | Kind::Id | Kind::Ids => format!("unhex(value ->> '$.{name}')"),
        // No column has JSON's null.
        Kind::Json | Kind::Words => format!("nullif(value -> '$.{name}', 'null')"),
    }
}
