//! Makes everything in a newly opened database file durable, before any answer rests on it.
//!
//! SQLite reads every commit that it finds in the WAL. The process before this one may have been
//! killed before such a commit was on disk, or the disk may have failed to take it, and no caller
//! was told that it is there. To sync the WAL is not enough, because the system forgets the pages
//! for which a sync failed. So the whole WAL is copied into the database, the database is synced,
//! and the WAL restarts.

use std::fs::File;
use std::thread::sleep;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::checkpoints::Wal;
use crate::storage::sqlite::connection::errors::store_error;
use crate::storage::sqlite::connection::target::{BUSY_TIMEOUT, Target};
use crate::storage::{Result, StoreError};

/// The wait before another look whether a connection still reads an older state.
const PAUSE: Duration = Duration::from_millis(5);

/// Returns when the disk has everything that `conn` can see.
///
/// # Errors
/// Also when another process reads an older state for too long.
pub(super) fn make_durable(target: &Target, conn: &mut SqliteConnection) -> Result<()> {
    let failed = |error: diesel::result::Error| store_error(&error);
    let cannot = |error: std::io::Error| {
        StoreError::Unavailable(format!("the disk does not take the database: {error}"))
    };
    // Copies beside the other users of the file, so that no process waits for this one.
    let began = Instant::now();
    let mut found = None;
    loop {
        let wal = Wal::copy(conn).map_err(failed)?;
        // While another process copies, it is not known how long the WAL is.
        found = found.or(wal.pages());
        if found.is_some_and(|pages| wal.is_copied(pages)) {
            break;
        }
        if began.elapsed() > BUSY_TIMEOUT {
            return Err(StoreError::Unavailable(
                "another process reads from the database, or copies its WAL; try again".into(),
            ));
        }
        sleep(PAUSE);
    }
    // SQLite itself has synced it only if it copied the whole WAL at once.
    target.file().map_err(cannot)?.sync_data().map_err(cannot)?;
    // The rest of the WAL must not come back after a power failure and overwrite newer data. When
    // another process uses the file, that one opened it earlier, and has done this already.
    conn.batch_execute("PRAGMA busy_timeout = 0").map_err(failed)?;
    let emptied = Wal::empty(conn);
    let timeout = BUSY_TIMEOUT.as_millis();
    conn.batch_execute(&format!("PRAGMA busy_timeout = {timeout}")).map_err(failed)?;
    emptied.map_err(failed)?;
    match File::open(target.wal()) {
        Ok(wal) => wal.sync_all().map_err(cannot),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::thread;

    use diesel::sql_types::BigInt;

    use super::*;
    use crate::config::SqliteLocation;
    use crate::storage::sqlite::connection::target::Role;

    fn target(folder: &Path) -> Target {
        Target::prepare(&SqliteLocation::File(folder.join("test.db"))).unwrap()
    }

    fn rows(conn: &mut SqliteConnection) -> i64 {
        diesel::select(diesel::dsl::sql::<BigInt>("count(*) FROM t")).get_result(conn).unwrap()
    }

    /// A database with a row in its file, and with another one only in its WAL.
    fn with_a_wal(folder: &Path) -> SqliteConnection {
        let mut conn = target(folder).connect(Role::Writer).unwrap();
        conn.batch_execute("CREATE TABLE t (n); INSERT INTO t VALUES (1)").unwrap();
        Wal::empty(&mut conn).unwrap();
        conn.batch_execute("INSERT INTO t VALUES (2)").unwrap();
        conn
    }

    /// The state that a killed process leaves, without the lock file.
    fn copy(from: &Path, to: &Path, files: &[&str]) {
        for file in files {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }

    #[test]
    fn what_only_the_wal_has_is_in_the_database_before_it_is_used() {
        let (killed, left, alone) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let _running = with_a_wal(killed.path());
        copy(killed.path(), left.path(), &["test.db", "test.db-wal"]);
        let target_left = target(left.path());
        let mut conn = target_left.connect(Role::Writer).unwrap();
        assert_eq!(rows(&mut conn), 2);
        make_durable(&target_left, &mut conn).unwrap();
        assert_eq!(std::fs::metadata(left.path().join("test.db-wal")).unwrap().len(), 0);
        copy(left.path(), alone.path(), &["test.db"]);
        assert_eq!(rows(&mut target(alone.path()).connect(Role::Writer).unwrap()), 2);
    }

    #[test]
    fn it_does_the_same_beside_a_process_that_reads_what_is_newest() {
        let (folder, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut reader = with_a_wal(folder.path());
        reader.batch_execute("BEGIN").unwrap();
        assert_eq!(rows(&mut reader), 2);
        let target_beside = target(folder.path());
        let mut conn = target_beside.connect(Role::Writer).unwrap();
        make_durable(&target_beside, &mut conn).unwrap();
        copy(folder.path(), alone.path(), &["test.db"]);
        assert_eq!(rows(&mut target(alone.path()).connect(Role::Writer).unwrap()), 2);
        // It still waits for others, as it did before.
        conn.batch_execute("INSERT INTO t VALUES (3)").unwrap();
        assert_eq!(rows(&mut reader), 2);
    }

    #[test]
    fn it_waits_for_a_process_that_is_copying_already() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = with_a_wal(folder.path());
        reader.batch_execute("BEGIN").unwrap();
        assert_eq!(rows(&mut reader), 2);
        let connect = || target(folder.path()).connect(Role::Writer).unwrap();
        let (mut emptying, mut looking, mut opening) = (connect(), connect(), connect());
        // Copies, and then waits for the reader; again when the look had hindered it.
        let emptied =
            thread::spawn(move || while Wal::empty(&mut emptying).unwrap().pages().is_none() {});
        while Wal::copy(&mut looking).unwrap().pages().is_some() {
            assert!(!emptied.is_finished(), "the reader holds it up");
            sleep(PAUSE);
        }
        let target_beside = target(folder.path());
        let made = thread::spawn(move || make_durable(&target_beside, &mut opening));
        // By now it has found that another one copies.
        sleep(20 * PAUSE);
        reader.batch_execute("COMMIT").unwrap();
        made.join().unwrap().unwrap();
        emptied.join().unwrap();
    }
}
