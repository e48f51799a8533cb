//! Copies the WAL into the database beside the writer, so that claims hardly wait for it.
//!
//! SQLite restarts the WAL only when all of it is copied and no connection reads from it; the next
//! write then begins at its start. To copy the end of the WAL means to wait until the disk has
//! everything that was copied before. So a thread copies while the writer goes on, and syncs what
//! it copied. When only little is left, the writer copies the rest between two groups.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use diesel::prelude::*;
use diesel::sql_types::Integer;
use tokio::sync::watch;

use super::readers::spawn;
use crate::storage::sqlite::connection::target::{Role, Target};
use crate::storage::{Result, StoreError};

/// From this many pages on (64 MiB), the WAL should restart.
const LONG: i32 = 16_384;
/// The most pages that the writer copies itself, in a few milliseconds.
const LITTLE: i32 = 512;
/// The same when the WAL has become twice as long: the thread may not catch up with large groups.
const MUCH: i32 = LONG / 2;
/// The most passes in a row.
const MOST_PASSES: u32 = 8;
/// A reader of an older state, such as a backup, keeps the WAL from restarting. When the WAL has grown
/// by so many pages (4 MiB), the thread looks whether it has gone. It used to try all the time: a
/// hundred syncs a second beside those of the claims.
const AGAIN: i32 = 1024;

/// The writer's side.
pub(crate) struct Checkpointer {
    waker: SyncSender<()>,
    progress: Arc<Progress>,
}

/// How far the thread came.
#[derive(Default)]
struct Progress {
    /// Whether it has copied all but little.
    caught_up: AtomicBool,
    /// How long the WAL was when a reader kept the thread from copying all of it.
    held_at: AtomicI32,
}

impl Progress {
    fn is(&self, copied: &Copied) {
        self.caught_up.store(*copied == Copied::AllButLittle, Ordering::Relaxed);
        let held_at = if let Copied::Held(pages) = copied { *pages } else { 0 };
        self.held_at.store(held_at, Ordering::Relaxed);
    }
}

impl Checkpointer {
    /// Starts the thread, which ends when this is dropped.
    pub(crate) fn start(target: &Target, alive: &Arc<watch::Sender<()>>) -> Result<Self> {
        let cannot = |e: std::io::Error| StoreError::Unavailable(format!("cannot open it: {e}"));
        let (waker, woken) = sync_channel::<()>(1);
        let progress = Arc::<Progress>::default();
        let mut conn = target.connect(Role::Checkpointer)?;
        let file = target.file().map_err(cannot)?;
        let signal = Arc::clone(&progress);
        spawn("sqlite-checkpointer", alive, move || {
            while woken.recv().is_ok() {
                match catch_up(&mut conn, &file) {
                    Ok(copied) => signal.is(&copied),
                    Err(Failure::Copy(error)) => {
                        tracing::warn!(%error, "the WAL could not be copied into the database");
                    }
                    Err(Failure::Sync(error)) => {
                        // The system may have dropped what it could not write, and reports that
                        // only once. The WAL still has it, must not restart, and is replayed at
                        // the next start of the service.
                        signal.is(&Copied::AShortOne);
                        tracing::error!(
                            %error,
                            "the disk did not take the database: mend it, and restart the service"
                        );
                        return;
                    }
                }
            }
        })?;
        Ok(Self { waker, progress })
    }

    /// Called between two groups: lets the thread copy a long WAL, and copies its end when little
    /// is left.
    pub(super) fn look_after(&self, writer: &mut SqliteConnection) -> QueryResult<()> {
        let wal = Wal::look(writer)?;
        if wal.log < LONG {
            self.progress.is(&Copied::AShortOne);
            return Ok(());
        }
        let enough = if wal.log < 2 * LONG { LITTLE } else { MUCH };
        let Progress { caught_up, held_at } = &*self.progress;
        if caught_up.load(Ordering::Relaxed) && wal.left() <= enough {
            // Again after the next group, until the WAL has restarted.
            Wal::copy(writer)?;
        } else if wal.log - held_at.load(Ordering::Relaxed) >= AGAIN {
            // An error means that the thread is at work already, or has ended. If it has ended, the
            // writer's automatic checkpoint copies in the end.
            let _ = self.waker.try_send(());
        }
        Ok(())
    }

    /// Whether to call [`Self::look_after`] after the next group, even after a small one.
    pub(super) fn is_about_to_start_anew(&self) -> bool {
        self.progress.caught_up.load(Ordering::Relaxed)
    }
}

enum Failure {
    Copy(diesel::result::Error),
    Sync(std::io::Error),
}

/// What was copied of the WAL.
#[derive(Debug, PartialEq, Eq)]
enum Copied {
    /// It is not long.
    AShortOne,
    /// What is left was written meanwhile.
    AllButLittle,
    /// What a reader of an older state let be copied. The WAL has so many pages.
    Held(i32),
}

/// Copies the WAL. If it is long, repeats that until little was written meanwhile.
fn catch_up(conn: &mut SqliteConnection, file: &File) -> std::result::Result<Copied, Failure> {
    let mut before = Wal { log: 0, checkpointed: 0 };
    for _ in 0..MOST_PASSES {
        let wal = Wal::copy(conn).map_err(Failure::Copy)?;
        if wal.log >= LONG && wal.checkpointed == before.checkpointed && wal.left() > LITTLE {
            return Ok(Copied::Held(wal.log));
        }
        file.sync_data().map_err(Failure::Sync)?;
        if wal.log < LONG {
            return Ok(Copied::AShortOne);
        }
        if wal.log - before.log <= LITTLE {
            break;
        }
        before = wal;
    }
    Ok(Copied::AllButLittle)
}

/// Pages in the WAL. Both numbers are -1 when another connection was copying.
#[derive(QueryableByName)]
pub(super) struct Wal {
    #[diesel(sql_type = Integer)]
    log: i32,
    /// How many of these pages are in the database, too.
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

impl Wal {
    fn look(conn: &mut SqliteConnection) -> QueryResult<Self> {
        diesel::sql_query("PRAGMA wal_checkpoint(NOOP)").get_result(conn)
    }

    /// Copies what readers of older states allow. Waits for no other connection.
    pub(crate) fn copy(conn: &mut SqliteConnection) -> QueryResult<Self> {
        diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(conn)
    }

    /// Copies the whole WAL, and empties it unless another connection reads from it.
    pub(crate) fn empty(conn: &mut SqliteConnection) -> QueryResult<Self> {
        diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result(conn)
    }

    /// How many pages it has; `None` when another connection was copying.
    pub(super) fn pages(&self) -> Option<i32> {
        (0 <= self.log).then_some(self.log)
    }

    /// Whether the first `pages` of the WAL are in the database; also when it has restarted since.
    pub(super) fn is_copied(&self, pages: i32) -> bool {
        self.pages().is_some_and(|now| pages <= self.checkpointed || now < pages)
    }

    const fn left(&self) -> i32 {
        self.log - self.checkpointed
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection as _;

    use super::*;
    use crate::config::SqliteLocation;

    const FILL: &str = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO t SELECT randomblob(4000) FROM n";

    #[test]
    fn a_wal_that_a_reader_holds_is_left_alone_until_it_has_grown() {
        let folder = tempfile::tempdir().unwrap();
        let location = SqliteLocation::File(folder.path().join("test.db"));
        let target = Target::prepare(&location).unwrap();
        let connect = |role| target.connect(role).unwrap();
        let (mut writer, mut reader) = (connect(Role::Writer), connect(Role::Reader));
        let (mut conn, file) = (connect(Role::Checkpointer), target.file().unwrap());
        writer.batch_execute("CREATE TABLE t (page)").unwrap();
        reader.batch_execute("BEGIN; SELECT count(*) FROM t").unwrap();
        writer.batch_execute(FILL).unwrap();

        let Ok(Copied::Held(pages)) = catch_up(&mut conn, &file) else { panic!("it is held") };
        assert!(pages >= LONG, "{pages}");
        let (waker, woken) = sync_channel(1);
        let checkpointer = Checkpointer { waker, progress: Arc::default() };
        checkpointer.progress.is(&Copied::Held(pages));
        checkpointer.look_after(&mut writer).unwrap();
        assert!(woken.try_recv().is_err(), "it was held a moment ago");
        checkpointer.progress.is(&Copied::Held(pages - AGAIN));
        checkpointer.look_after(&mut writer).unwrap();
        assert!(woken.try_recv().is_ok(), "the reader may have gone");

        reader.batch_execute("COMMIT").unwrap();
        assert!(matches!(catch_up(&mut conn, &file), Ok(Copied::AllButLittle)));
        checkpointer.progress.is(&Copied::AllButLittle);
        checkpointer.look_after(&mut writer).unwrap();
        writer.batch_execute("INSERT INTO t VALUES (0)").unwrap();
        assert!(Wal::look(&mut writer).unwrap().log < LONG, "it has restarted");
    }
}
