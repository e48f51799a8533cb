//! Copies the WAL into the database beside the writer, so that claims hardly wait for it.
//!
//! SQLite starts the WAL anew only when all of it is copied, nobody reads from it, and then
//! somebody writes. Whoever copies the end of it waits for the disk to have all that was copied
//! before. So a thread copies while the writer goes on, and has the disk take what was copied; only
//! when little is left does the writer copy that, between two groups.

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

/// Pages in the WAL (64 MiB of it) from which on it shall start anew.
const LONG: i32 = 16_384;
/// Pages that the writer copies itself: that takes a few milliseconds.
const LITTLE: i32 = 512;
/// Pages that it copies itself when the WAL has become twice as long: large groups are written
/// faster than little is left.
const MUCH: i32 = LONG / 2;
/// Passes in a row, however much is written meanwhile.
const MOST_PASSES: u32 = 8;

/// The writer's side.
pub(crate) struct Checkpointer {
    waker: SyncSender<()>,
    caught_up: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Starts the thread. It ends with this.
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
                        // The system may have dropped what it could not write, and say so once
                        // only. The WAL still has it, must not start anew, and is replayed at the
                        // next start.
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

    /// Between two groups: has a long WAL copied, and copies its end once little is left.
    pub(super) fn look_after(&self, writer: &mut SqliteConnection) -> QueryResult<()> {
        let wal = Wal::look(writer)?;
        if wal.log < LONG {
            self.caught_up.store(false, Ordering::Relaxed);
            return Ok(());
        }
        let enough = if wal.log < 2 * LONG { LITTLE } else { MUCH };
        if self.caught_up.load(Ordering::Relaxed) && wal.left() <= enough {
            // Again after the next group, until the WAL has started anew.
            Wal::copy(writer)?;
        } else {
            // An error means that it is at work already, or has ended; then the automatic
            // checkpoint of the writer's connection copies, in the end.
            let _ = self.waker.try_send(());
        }
        Ok(())
    }

    /// Whether the next group shall be followed by [`Self::look_after`], however small it is.
    pub(super) fn is_about_to_start_anew(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }
}

enum Failure {
    Copy(diesel::result::Error),
    Sync(std::io::Error),
}

/// Copies what is in the WAL; if that is long, until what is written meanwhile is little: `true`.
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

/// Pages in the WAL. Both are -1 where nothing was copied because another connection is at it.
#[derive(QueryableByName)]
pub(super) struct Wal {
    #[diesel(sql_type = Integer)]
    pub(crate) log: i32,
    /// How many of them are in the database, too.
    #[diesel(sql_type = Integer)]
    checkpointed: i32,
}

impl Wal {
    fn look(conn: &mut SqliteConnection) -> QueryResult<Self> {
        diesel::sql_query("PRAGMA wal_checkpoint(NOOP)").get_result(conn)
    }

    /// Copies what no reader still needs otherwise. Waits for nobody.
    pub(crate) fn copy(conn: &mut SqliteConnection) -> QueryResult<Self> {
        diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(conn)
    }

    /// Copies all of it, and empties it unless another connection reads from it.
    pub(crate) fn empty(conn: &mut SqliteConnection) -> QueryResult<Self> {
        diesel::sql_query("PRAGMA wal_checkpoint(TRUNCATE)").get_result(conn)
    }

    /// Whether the first `pages` of it are in the database: also if it has started anew since.
    pub(super) const fn is_copied(&self, pages: i32) -> bool {
        0 <= pages && 0 <= self.log && (pages <= self.checkpointed || self.log < pages)
    }

    const fn left(&self) -> i32 {
        self.log - self.checkpointed
    }
}
