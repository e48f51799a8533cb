//! Restores: the rows go into a new file beside the database, which is recovered there, and then
//! takes the database's place by a rename. Until then, nothing of the database changes.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::connection::errors::{is_unreadable, store_error};
use super::connection::target::{Role, Target};
use super::dump::held_in;
use super::migrations;
use super::recovery::recover_in;
use super::schema::{api_tokens, leases, sealing_keys};
use crate::config::SqliteLocation;
use crate::data_dir::sync_name;
use crate::storage::restore::{Restore, RestoreChunk, RestoreRows};
use crate::storage::tables::{Column, Kind, TABLES};
use crate::storage::{BACKUP_LEASE, Recovered, Result, StoreError};

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
    replace(path, |_| false, |conn| fill(conn, rows, restore), Ok)
}

/// Replaces the database at this path by a new file, which is made, filled, and given its name. `last`
/// runs when everything but the rename is done, and can still stop it. `goes_on` says whether a new
/// file that was left is filled further.
pub(super) fn replace<T, U>(
    path: &Path,
    goes_on: impl FnOnce(&mut SqliteConnection) -> bool,
    fill: impl FnOnce(&mut SqliteConnection) -> Result<T>,
    last: impl FnOnce(T) -> Result<U>,
) -> Result<U> {
    // A name that is a link goes on leading to the database.
    let path = match path.canonicalize() {
        Ok(path) => path,
        Err(_) => std::path::absolute(path).map_err(|error| failed(path, &error))?,
    };
    let new = with_suffix(&path, UNFINISHED);
    if !new.exists() || !connect(&new).is_ok_and(|mut conn| goes_on(&mut conn)) {
        remove(&new)?;
    }
    let replaced = make(&new, fill).and_then(|filled| {
        let old = Old::take(&path)?;
        let done = last(filled)?;
        std::fs::rename(&new, &path)
            .and_then(|()| sync_name(&path))
            .and_then(|()| old.map_or(Ok(()), Old::spoil))
            .map_err(|error| failed(&path, &error))?;
        Ok(done)
    });
    if replaced.is_err() {
        remove(&new)?;
    }
    replaced
}

/// Makes the new file, with every table, and syncs it once it is filled.
fn make<T>(new: &Path, fill: impl FnOnce(&mut SqliteConnection) -> Result<T>) -> Result<T> {
    let mut conn = connect(new)?;
    conn.batch_execute(FAST).map_err(|error| store_error(&error))?;
    migrations::up(&mut conn)?;
    let filled = fill(&mut conn)?;
    empty_wal(&mut conn, new)?;
    drop(conn);
    no_wal(new)?;
    File::open(new)
        .and_then(|file| file.sync_all())
        .and_then(|()| sync_name(new))
        .map_err(|error| failed(new, &error))?;
    Ok(filled)
}

fn connect(path: &Path) -> Result<SqliteConnection> {
    Target::prepare(&SqliteLocation::File(path.to_owned()))?.connect(Role::Writer)
}

/// Empties the tables, as migrations make rows of their own.
pub(super) fn empty(conn: &mut SqliteConnection) -> QueryResult<()> {
    let empty: Vec<_> =
        TABLES.iter().map(|table| format!("DELETE FROM {};", held_in(table))).collect();
    conn.batch_execute(&empty.concat())
}

/// Takes the rows of a chunk, all or none.
pub(super) fn take(conn: &mut SqliteConnection, chunk: RestoreChunk) -> Result<()> {
    let taken = diesel::sql_query(insert(&chunk)).bind::<Text, _>(chunk.rows).execute(conn);
    taken.map(drop).map_err(|error| store_error(&error))
}

/// Takes the archive's rows, and recovers the database.
fn fill(
    conn: &mut SqliteConnection,
    rows: &mut RestoreRows,
    restore: &Restore,
) -> Result<Recovered> {
    empty(conn).map_err(|error| store_error(&error))?;
    while let Some(chunk) = rows.next_blocking()? {
        take(conn, chunk)?;
    }
    let now = restore.recovery.now;
    let recovered = conn.immediate_transaction(|conn| {
        let recovered = recover_in(conn, now, &restore.recovery)?;
        // No session has a key any more: any sealing key will do from now on.
        diesel::delete(sealing_keys::table).execute(conn)?;
        if restore.revoke_tokens {
            diesel::update(api_tokens::table.filter(api_tokens::revoked_at.is_null()))
                .set(api_tokens::revoked_at.eq(recovered.at.timestamp_micros()))
                .execute(conn)?;
        }
        let at = restore.taken_at.timestamp_micros();
        diesel::insert_into(leases::table)
            .values((
                leases::name.eq(BACKUP_LEASE),
                leases::holder.eq("restore"),
                leases::taken_at.eq(at),
                leases::until.eq(at),
                leases::finished_at.eq(at),
            ))
            .on_conflict(leases::name)
            .do_update()
            .set((leases::until.eq(at), leases::finished_at.eq(at)))
            .execute(conn)?;
        Ok(recovered)
    });
    recovered.map_err(|error: diesel::result::Error| store_error(&error))
}

/// The old file, which is locked while it is replaced.
struct Old {
    /// Holds SQLite's lock. A process that opens the file now waits.
    _lock: SqliteConnection,
    /// When this is closed, the lock is gone.
    file: File,
}

impl Old {
    /// Has the old database be one file, because its WAL would be taken for the new one's, and locks
    /// it. `None` if there is none, or none that SQLite can read.
    fn take(path: &Path) -> Result<Option<Self>> {
        match lock(path) {
            Ok(lock) => {
                no_wal(path)?;
                let file = File::options().write(true).open(path);
                Ok(Some(Self { _lock: lock, file: file.map_err(|error| failed(path, &error))? }))
            }
            Err(error) if is_unreadable(&error) || !path.exists() => {
                remove_beside(path)?;
                Ok(None)
            }
            Err(_) => Err(in_use(path)),
        }
    }

    /// A process that waited for the lock has the old file open, and would make a WAL with the new
    /// one's name. Now it finds no database.
    fn spoil(mut self) -> std::io::Result<()> {
        self.file.write_all(&[0xff; 100])
    }
}

fn lock(path: &Path) -> QueryResult<SqliteConnection> {
    // SQLite would make a file.
    if !path.exists() {
        return Err(diesel::result::Error::NotFound);
    }
    let mut conn = SqliteConnection::establish(&path.to_string_lossy())
        .map_err(|_| diesel::result::Error::NotFound)?;
    conn.batch_execute(
        "PRAGMA busy_timeout = 1000; PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE",
    )?;
    Ok(conn)
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
    remove_one(path)?;
    remove_beside(path)
}

fn remove_beside(path: &Path) -> Result<()> {
    BESIDE.iter().try_for_each(|suffix| remove_one(&with_suffix(path, suffix)))
}

fn remove_one(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(file, &error)),
        _ => Ok(()),
    }
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
fn insert(RestoreChunk { table, columns, .. }: &RestoreChunk) -> String {
    let name = table.name;
    let names: Vec<_> = columns.iter().map(|column| column.name).collect();
    let values: Vec<_> = columns.iter().map(|column| value(column)).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_waits_for_the_old_file_leaves_nothing_beside_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let [path, new] = ["a.db", "new.db"].map(|name| folder.path().join(name));
        for file in [&path, &new] {
            let mut conn = connect(file).unwrap();
            conn.batch_execute("CREATE TABLE t (n)").unwrap();
        }
        drop(lock(&new).unwrap());
        let old = Old::take(&path).unwrap().unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut conn = SqliteConnection::establish(&path.to_string_lossy()).unwrap();
                conn.batch_execute("PRAGMA busy_timeout = 60000").unwrap();
                conn.batch_execute("PRAGMA journal_mode = WAL")
            }
        });
        // It has the old file open, or will open the new one. Either is well.
        std::thread::sleep(std::time::Duration::from_millis(200));
        std::fs::rename(&new, &path).unwrap();
        old.spoil().unwrap();
        let waited = waiting.join().unwrap();
        assert!(waited.is_ok() || is_unreadable(&waited.unwrap_err()));
        connect(&path).unwrap().batch_execute("INSERT INTO t VALUES (1)").unwrap();
    }

    #[test]
    fn a_file_that_another_uses_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut other = connect(&path).unwrap();
        other.batch_execute("CREATE TABLE t (n)").unwrap();
        let Err(StoreError::Unsuitable(why)) = Old::take(&path) else { panic!("taken") };
        assert!(why.contains("another process uses"), "{why}");
    }
}
