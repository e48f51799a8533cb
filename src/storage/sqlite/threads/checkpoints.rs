//! Copies the WAL into the database beside the writer, so that claims hardly wait for it.
//!
//! SQLite restarts the WAL only when all of it is copied and no connection reads from it; the next
//! write then begins at its start. To copy the end of the WAL means to wait until the disk has
//! everything that was copied before. So a thread copies while the writer goes on, and syncs what
//! it copied. When only little is left, the writer copies the rest between two groups.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// The writer's side.
pub(crate) struct Checkpointer {
    waker: SyncSender<()>,
    caught_up: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Starts the thread, which ends when this is dropped.
    pub(crate) fn start(target: &Target, alive: &Arc<watch::Sender<()>>) -> Result<Self> {
        let cannot = |e: std::io::Error| StoreError::Unavailable(format!("cannot open it: {e}"));
        let (waker, woken) = sync_channel::<()>(1);
        let caught_up = Arc::new(AtomicBool::new(false));
        let mut conn = target.connect(Role::Checkpointer)?;
        let file = target.file().map_err(cannot)?;
        let signal = Arc::clone(&caught_up);
        spawn("sqlite-checkpointer", alive, move || {
            while woken.recv().is_ok() {
                match catch_up(&mut conn, &file) {
                    Ok(caught_up) => signal.store(caught_up, Ordering::Relaxed),
                    Err(Failure::Copy(error)) => {
                        tracing::warn!(%error, "the WAL could not be copied into the database");
                    }
                    Err(Failure::Sync(error)) => {
                        // The system may have dropped what it could not write, and reports that
                        // only once. The WAL still has it, must not restart, and is replayed at
                        // the next start of the service.
                        signal.store(false, Ordering::Relaxed);
                        tracing::error!(
                            %error,
                            "the disk did not take the database: mend it, and restart the service"
                        );
                        return;
                    }
                }
            }
        })?;
        Ok(Self { waker, caught_up })
    }

    /// Called between two groups: lets the thread copy a long WAL, and copies its end when little
    /// is left.
    pub(super) fn look_after(&self, writer: &mut SqliteConnection) -> QueryResult<()> {
        let wal = Wal::look(writer)?;
        if wal.log < LONG {
            self.caught_up.store(false, Ordering::Relaxed);
            return Ok(());
        }
        let enough = if wal.log < 2 * LONG { LITTLE } else { MUCH };
        if self.caught_up.load(Ordering::Relaxed) && wal.left() <= enough {
            // Again after the next group, until the WAL has restarted.
            Wal::copy(writer)?;
        } else {
            // An error means that the thread is at work already, or has ended. If it has ended, the
            // writer's automatic checkpoint copies in the end.
            let _ = self.waker.try_send(());
        }
        Ok(())
    }

    /// Whether to call [`Self::look_after`] after the next group, even after a small one.
    pub(super) fn is_about_to_start_anew(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }
}

enum Failure {
    Copy(diesel::result::Error),
    Sync(std::io::Error),
}

/// Copies the WAL. If it is long, repeats that until little was written meanwhile, and returns
/// `true`.
fn catch_up(conn: &mut SqliteConnection, file: &File) -> std::result::Result<bool, Failure> {
    let mut before = 0;
    for _ in 0..MOST_PASSES {
        let wal = Wal::copy(conn).map_err(Failure::Copy)?;
        file.sync_data().map_err(Failure::Sync)?;
        if wal.log < LONG {
            return Ok(false);
        }
        if wal.log - before <= LITTLE {
            break;
        }
        before = wal.log;
    }
    Ok(true)
}

/// Pages in the WAL. Both numbers are -1 when another connection was copying.
#[derive(QueryableByName)]
pub(super) struct Wal {
    #[diesel(sql_type = Integer)]
    pub(crate) log: i32,
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

    /// Whether the first `pages` of the WAL are in the database; also when it has restarted since.
    pub(super) const fn is_copied(&self, pages: i32) -> bool {
        0 <= pages && 0 <= self.log && (pages <= self.checkpointed || self.log < pages)
    }

    const fn left(&self) -> i32 {
        self.log - self.checkpointed
    }
}
