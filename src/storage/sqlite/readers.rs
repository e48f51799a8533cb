//! The threads that read, each with a connection of its own, and the one that copies the WAL
//! into the database while the writer goes on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use tokio::sync::watch;

use crate::storage::{Result, StoreError};

use super::connection::{Role, Target};

/// Reads that may wait; one more is refused at once.
const QUEUE: usize = 1_024;

pub(super) type Read = Box<dyn FnOnce(&mut SqliteConnection) + Send>;

/// Opens `count` connections, each on its thread. They end when the sender is dropped.
pub(super) fn start(
    target: &Target,
    count: u32,
    busy: &Arc<AtomicU32>,
    alive: &Arc<watch::Sender<()>>,
) -> Result<SyncSender<Read>> {
    let (reads, waiting) = sync_channel::<Read>(QUEUE);
    let waiting = Arc::new(Mutex::new(waiting));
    for _ in 0..count {
        let mut conn = target.connect(Role::Reader)?;
        let (waiting, busy) = (Arc::clone(&waiting), Arc::clone(busy));
        spawn("sqlite-reader", alive, move || {
            while let Some(read) = next(&waiting) {
                busy.fetch_add(1, Ordering::Relaxed);
                read(&mut conn);
                busy.fetch_sub(1, Ordering::Relaxed);
            }
        })?;
    }
    Ok(reads)
}

fn next(waiting: &Mutex<Receiver<Read>>) -> Option<Read> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Starts the checkpointer. It works each time that it is woken, and ends with its waker.
///
/// A passive checkpoint takes no lock that the writer needs. What the writer adds meanwhile it
/// leaves to the next time, or to the automatic checkpoint of the writer's own connection, which
/// by then finds little to do and can let the WAL start anew.
pub(super) fn start_checkpointer(
    target: &Target,
    alive: &Arc<watch::Sender<()>>,
) -> Result<SyncSender<()>> {
    let (waker, woken) = sync_channel::<()>(1);
    let mut conn = target.connect(Role::Checkpointer)?;
    spawn("sqlite-checkpointer", alive, move || {
        while woken.recv().is_ok() {
            if let Err(error) = conn.batch_execute("PRAGMA wal_checkpoint(PASSIVE)") {
                tracing::warn!(%error, "the WAL could not be copied into the database");
            }
        }
    })?;
    Ok(waker)
}

/// Starts a thread, which lets `alive` go after all that `work` owns.
pub(super) fn spawn(
    name: &str,
    alive: &Arc<watch::Sender<()>>,
    work: impl FnOnce() + Send + 'static,
) -> Result<()> {
    let alive = Arc::clone(alive);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        work();
        drop(alive);
    });
    thread.map(drop).map_err(|e| StoreError::Unavailable(format!("cannot start a thread: {e}")))
}
