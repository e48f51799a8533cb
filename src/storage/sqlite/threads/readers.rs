//! The threads that read, each with a connection of its own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use diesel::prelude::*;
use tokio::sync::watch;

use crate::storage::sqlite::connection::target::{Role, Target};
use crate::storage::{Result, StoreError};

/// The most reads that wait. One more is refused at once.
const QUEUE: usize = 1_024;

pub(super) type Read = Box<dyn FnOnce(&mut SqliteConnection) + Send>;

/// Opens `count` connections, each on its own thread. They end when the sender is dropped.
pub(crate) fn start(
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

/// Starts a thread, which drops `alive` after everything that `work` owns.
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
