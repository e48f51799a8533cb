//! The only thread that writes. It takes everything that waits, runs it in one transaction, and
//! answers after the commit. While it commits, the next group gathers. It never waits for a group
//! to fill, and never answers before the change is on disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::define_sql_function;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use tokio::sync::{oneshot, watch};

use super::checkpoints::Checkpointer;
use super::clock::DatabaseClock;
use crate::domain::{Facts, Timestamp};
use crate::storage::sqlite::claims::ask::OwnedAsk;
use crate::storage::sqlite::claims::decide::decide;
use crate::storage::sqlite::connection::errors::{commit_error, is_isolated, store_error};
use crate::storage::sqlite::statistics::tally::NonceTally;
use crate::storage::{ClaimLimits, Result, StoreError};

/// The most asks in one transaction, so that no caller waits for a very long one.
const MAX_ASKS: usize = 4_096;
/// The most other writes in one transaction.
const MAX_WRITES: usize = 64;
/// How often the file is checked for changes by other processes.
const POLL: Duration = Duration::from_secs(1);
/// The length of the WAL is checked after this many changed rows.
const CHANGES_PER_LOOK: i64 = 512;

pub(super) enum Job {
    Claims(Claims),
    Write(Box<dyn Write>),
    /// Work that runs between two groups, and makes its own transactions.
    Alone(Box<dyn FnOnce(&mut SqliteConnection) + Send>),
}

pub(crate) struct Claims {
    pub(crate) asks: Vec<OwnedAsk>,
    pub(super) reply: oneshot::Sender<Result<Vec<Result<Facts>>>>,
}

/// A write of any kind but a claim.
pub(super) trait Write: Send {
    /// Whether the caller still waits for the answer.
    fn is_wanted(&self) -> bool;
    /// Runs inside a savepoint of its own, and keeps the result. `Ok(false)` asks to undo it. An
    /// error means that the whole transaction cannot go on.
    fn run(&mut self, conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<bool>;
    /// Sends the caller its result, or the group's failure.
    fn answer(self: Box<Self>, group: Result<()>);
}

/// A closure as a [`Write`].
struct Closure<T, F> {
    operation: Option<F>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

/// Makes a job of `operation`. It runs once, in the group's transaction and by the group's clock.
pub(crate) fn write<T, F>(operation: F) -> (Job, oneshot::Receiver<Result<T>>)
where
    T: Send + 'static,
    F: FnOnce(&mut SqliteConnection, Timestamp) -> QueryResult<T> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let write = Closure { operation: Some(operation), result: None, reply };
    (Job::Write(Box::new(write)), answer)
}

impl<T, F> Write for Closure<T, F>
where
    T: Send,
    F: FnOnce(&mut SqliteConnection, Timestamp) -> QueryResult<T> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(&mut self, conn: &mut SqliteConnection, now: Timestamp) -> QueryResult<bool> {
        let Some(operation) = self.operation.take() else { return Ok(false) };
        match operation(conn, now) {
            Ok(value) => {
                self.result = Some(Ok(value));
                Ok(true)
            }
            Err(error) if is_isolated(&error) => {
                self.result = Some(Err(store_error(&error)));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn answer(self: Box<Self>, group: Result<()>) {
        let Self { result, reply, .. } = *self;
        let not_run = || Err(StoreError::Unavailable("the write was not run".into()));
        // An error means that the caller is gone. What was committed stays committed.
        let _ = reply.send(group.and_then(|()| result.unwrap_or_else(not_run)));
    }
}

#[derive(Default)]
struct Group {
    claims: Vec<Claims>,
    writes: Vec<Box<dyn Write>>,
    asks: usize,
}

impl Group {
    fn is_full(&self) -> bool {
        self.asks >= MAX_ASKS || self.writes.len() >= MAX_WRITES
    }

    fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.writes.is_empty()
    }

    /// Leaves out work whose caller no longer waits. Nothing of it has been written.
    fn drop_unwanted(&mut self) {
        self.claims.retain(|claims| !claims.reply.is_closed());
        self.writes.retain(|write| write.is_wanted());
    }

    fn fail(self, error: &StoreError) {
        for claims in self.claims {
            let _ = claims.reply.send(Err(error.clone()));
        }
        for write in self.writes {
            write.answer(Err(error.clone()));
        }
    }
}

pub(crate) struct Writer {
    pub(crate) conn: SqliteConnection,
    pub(super) jobs: Receiver<Job>,
    pub(crate) clock: Arc<DatabaseClock>,
    pub(crate) limits: ClaimLimits,
    pub(crate) tally: Arc<NonceTally>,
    /// Counts changes by other processes.
    pub(crate) changes: watch::Sender<u64>,
    /// `None` when there is no file.
    pub(crate) checkpointer: Option<Checkpointer>,
}

impl Writer {
    /// Works until every sender is dropped, and nothing waits.
    pub(crate) fn run(mut self) {
        let mut seen = self.data_version();
        let mut polled = Instant::now();
        let mut looked_at = 0;
        loop {
            match self.jobs.recv_timeout(POLL) {
                Ok(first) => self.work(first),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(checkpointer) = &self.checkpointer {
                let changes = changes(&mut self.conn);
                let many = changes - looked_at >= CHANGES_PER_LOOK;
                if many || checkpointer.is_about_to_start_anew() {
                    looked_at = changes;
                    if let Err(error) = checkpointer.look_after(&mut self.conn) {
                        tracing::warn!(%error, "the WAL could not be looked after");
                    }
                }
            }
            if polled.elapsed() >= POLL {
                polled = Instant::now();
                let version = self.data_version();
                if version != seen {
                    seen = version;
                    self.changed_by_others();
                }
            }
        }
    }

    /// Runs one group, which starts with `first`.
    fn work(&mut self, first: Job) {
        let mut group = Group::default();
        let mut alone = None;
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Claims(claims) => {
                    group.asks += claims.asks.len();
                    group.claims.push(claims);
                }
                Job::Write(write) => group.writes.push(write),
                Job::Alone(work) => alone = Some(work),
            }
            let enough = group.is_full() || alone.is_some();
            next = if enough { None } else { self.jobs.try_recv().ok() };
        }
        self.commit(group);
        if let Some(work) = alone {
            work(&mut self.conn);
        }
    }

    fn commit(&mut self, mut group: Group) {
        group.drop_unwanted();
        if group.is_empty() {
            return;
        }
        match self.transact(&mut group) {
            Ok(facts) => {
                let mut facts = facts.into_iter();
                for Claims { asks, reply } in group.claims {
                    let _ = reply.send(Ok(facts.by_ref().take(asks.len()).collect()));
                }
                for write in group.writes {
                    write.answer(Ok(()));
                }
            }
            Err(error) => {
                // This fails when SQLite has already rolled back by itself, which is just as well.
                let _ = self.conn.batch_execute("ROLLBACK");
                tracing::warn!(%error, "a transaction was not committed");
                group.fail(&error);
            }
        }
    }

    /// Runs a group and commits it. The claims come first, all together.
    fn transact(&mut self, group: &mut Group) -> Result<Vec<Result<Facts>>> {
        let conn = &mut self.conn;
        conn.batch_execute("BEGIN IMMEDIATE").map_err(|e| store_error(&e))?;
        let now = self.clock.now();
        let asks = group.claims.iter().flat_map(|claims| &claims.asks);
        let decided = decide(conn, self.limits, now, asks).map_err(|e| store_error(&e))?;
        for write in &mut group.writes {
            in_savepoint(conn, write.as_mut(), now).map_err(|e| store_error(&e))?;
        }
        conn.batch_execute("COMMIT").map_err(|e| commit_error(&e))?;
        self.tally.add(decided.session_nonces);
        Ok(decided.facts)
    }

    /// SQLite's counter of commits by other connections. Of those, only other processes'
    /// connections write. `None` when it cannot be read; the next poll tries again.
    fn data_version(&mut self) -> Option<i64> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            data_version: i64,
        }
        let row: Row = diesel::sql_query("PRAGMA data_version").get_result(&mut self.conn).ok()?;
        Some(row.data_version)
    }

    fn changed_by_others(&mut self) {
        self.tally.forget();
        self.changes.send_modify(|changes| *changes += 1);
    }
}

define_sql_function! {
    /// How many rows the connection has changed since it was opened.
    fn total_changes() -> BigInt;
}

pub(crate) fn changes(conn: &mut SqliteConnection) -> i64 {
    // It reads no table, so it cannot fail. If it did, the changes would count for a later group.
    diesel::select(total_changes()).get_result(conn).unwrap_or_default()
}

fn in_savepoint(
    conn: &mut SqliteConnection,
    write: &mut dyn Write,
    now: Timestamp,
) -> QueryResult<()> {
    conn.batch_execute("SAVEPOINT write")?;
    if !write.run(conn, now)? {
        conn.batch_execute("ROLLBACK TO write")?;
    }
    conn.batch_execute("RELEASE write")
}

#[cfg(test)]
mod tests;
