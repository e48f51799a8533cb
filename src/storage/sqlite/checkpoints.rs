//! Copies the WAL into the database beside the writer, so that no claim waits for it.
//!
//! SQLite starts the WAL anew only when all of it was copied at a moment when nobody writes, and
//! whoever copies the end of it waits for the disk to have the whole database. So a thread copies
//! while the writer goes on, and has the disk take what was copied; only when little is left does
//! the writer copy that, between two groups.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use diesel::prelude::*;
use diesel::sql_types::Integer;
use tokio::sync::watch;

use super::connection::{Role, Target};
use super::errors::store_error;
use super::readers::spawn;
use crate::storage::{Result, StoreError};

/// Pages in the WAL (64 MiB of it) from which on it shall start anew.
const LONG: i32 = 16_384;
/// Pages that the writer copies itself: that takes a few milliseconds.
const LITTLE: i32 = 512;
/// Passes after which the writer copies whatever is left, since it writes as fast as it is copied.
const MOST_PASSES: u32 = 8;

/// The writer's side.
pub(super) struct Checkpointer {
    waker: SyncSender<()>,
    little_is_left: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Starts the thread. It ends with this.
    pub(super) fn start(target: &Target, alive: &Arc<watch::Sender<()>>) -> Result<Self> {
        let cannot = |e: std::io::Error| StoreError::Unavailable(format!("cannot open it: {e}"));
        let (waker, woken) = sync_channel::<()>(1);
        let little_is_left = Arc::new(AtomicBool::new(false));
        let mut conn = target.connect(Role::Checkpointer)?;
        // Never closed: that would release the locks that SQLite holds on the file (POSIX locks
        // belong to the process, and end with the first descriptor that it closes).
        let file = ManuallyDrop::new(target.file().map_err(cannot)?);
        let signal = Arc::clone(&little_is_left);
        spawn("sqlite-checkpointer", alive, move || {
            while woken.recv().is_ok() {
                match catch_up(&mut conn, &file) {
                    Ok(little_is_left) => signal.store(little_is_left, Ordering::Relaxed),
                    Err(error) => {
                        tracing::warn!(%error, "the WAL could not be copied into the database");
                    }
                }
            }
        })?;
        Ok(Self { waker, little_is_left })
    }

    /// Has what was written until now copied.
    pub(super) fn wake(&self) {
        // An error means that it is at work already, or has ended; then the automatic checkpoint
        // of the writer's connection copies.
        let _ = self.waker.try_send(());
    }

    /// Copies the end of the WAL if little is left, so that SQLite can start it anew.
    pub(super) fn finish(&self, writer: &mut SqliteConnection) {
        if !self.little_is_left.load(Ordering::Relaxed) {
            return;
        }
        self.little_is_left.store(false, Ordering::Relaxed);
        if let Err(error) = pass(writer) {
            tracing::warn!(%error, "the end of the WAL could not be copied into the database");
        }
    }
}

/// Copies what is in the WAL; if that is long, until little of it is left to copy: `true`.
fn catch_up(conn: &mut SqliteConnection, file: &File) -> Result<bool> {
    let mut before = 0;
    for _ in 0..MOST_PASSES {
        let length = pass(conn).map_err(|e| store_error(&e))?;
        file.sync_data().map_err(|e| StoreError::Unavailable(e.to_string()))?;
        if length < LONG {
            return Ok(false);
        }
        if length - before <= LITTLE {
            break;
        }
        before = length;
    }
    Ok(true)
}

#[derive(QueryableByName)]
struct Pass {
    /// Pages in the WAL when the pass began; -1 if another process is at it.
    #[diesel(sql_type = Integer)]
    log: i32,
}

/// Waits for nobody, and takes no lock that a reader or the writer needs.
fn pass(conn: &mut SqliteConnection) -> QueryResult<i32> {
    let pass: Pass = diesel::sql_query("PRAGMA wal_checkpoint(PASSIVE)").get_result(conn)?;
    Ok(pass.log)
}
