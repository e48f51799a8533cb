//! The threads behind a store, and how a call reaches them. A call goes into a bounded channel and
//! waits for its answer. It blocks no runtime. When a caller gives up, its work is left out if it
//! has not begun, and finished if it has.

mod checkpoints;
mod clock;
mod opening;
mod readers;
mod writer;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use tokio::sync::{Notify, oneshot, watch};

use self::checkpoints::Checkpointer;
use self::clock::DatabaseClock;
use self::opening::make_durable;
use self::readers::{Read, spawn};
pub(super) use self::writer::changes;
use self::writer::{Claims, Job, Writer};
use super::claims::ask::OwnedAsk;
use super::connection::errors::store_error;
use super::connection::target::{Role, Target};
use super::serving::Serving;
use super::statistics::tally::NonceTally;
use crate::clock::Clock;
use crate::config::SqliteLocation;
use crate::domain::{Ask, Facts, Timestamp};
use crate::metrics::Metrics;
use crate::storage::marks::LatestIssue;
use crate::storage::{ClaimLimits, PoolStatus, Result, StoreError, milliseconds};

/// The most jobs that wait for the writer. One more is refused at once.
const QUEUE: usize = 4_096;

pub(super) struct Threads {
    /// `None` once closed.
    jobs: Mutex<Option<SyncSender<Job>>>,
    /// `None` once closed, and for a database in memory, which has only the writer's connection.
    reads: Mutex<Option<SyncSender<Read>>>,
    pub(super) target: Target,
    readers: u32,
    busy_readers: Arc<AtomicU32>,
    clock: Arc<DatabaseClock>,
    pub(super) tally: Arc<NonceTally>,
    pub(super) changes: watch::Receiver<u64>,
    /// The instance that serves on this store, if one does.
    pub(super) serving: Mutex<Option<Serving>>,
    pub(super) latest_issue: LatestIssue,
    /// Events were published.
    pub(super) published: Notify,
    /// Its sender is dropped when every reader has ended.
    readers_ended: watch::Receiver<()>,
    /// Its sender is dropped when the writer and the checkpointer have ended.
    writer_ended: watch::Receiver<()>,
    metrics: Arc<Metrics>,
    slow: Duration,
}

impl Threads {
    /// Opens every connection; blocks while it does.
    pub(super) fn start(
        location: &SqliteLocation,
        readers: u32,
        slow: Duration,
        limits: ClaimLimits,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self> {
        let target = Target::prepare(location)?;
        let mut conn = target.connect(Role::Writer)?;
        if !target.is_memory() {
            make_durable(&target, &mut conn)?;
        }
        let clock = Arc::new(DatabaseClock::new(clock));
        let tally = Arc::new(NonceTally::new());
        let busy_readers = Arc::new(AtomicU32::new(0));
        let (reader_alive, readers_ended) = watch::channel(());
        let reader_alive = Arc::new(reader_alive);
        let (writer_alive, writer_ended) = watch::channel(());
        let writer_alive = Arc::new(writer_alive);
        let (notify, changes) = watch::channel(0);
        let (jobs, waiting) = sync_channel(QUEUE);
        let readers = if target.is_memory() { 1 } else { readers.max(1) };
        let (reads, checkpointer) = if target.is_memory() {
            (None, None)
        } else {
            let reads = readers::start(&target, readers, &busy_readers, &reader_alive)?;
            let checkpointer = Checkpointer::start(&target, &writer_alive)?;
            (Some(reads), Some(checkpointer))
        };
        let writer = Writer {
            conn,
            jobs: waiting,
            clock: Arc::clone(&clock),
            limits,
            tally: Arc::clone(&tally),
            changes: notify,
            checkpointer,
        };
        spawn("sqlite-writer", &writer_alive, move || writer.run())?;
        Ok(Self {
            jobs: Mutex::new(Some(jobs)),
            reads: Mutex::new(reads),
            target,
            readers,
            busy_readers,
            clock,
            tally,
            changes,
            serving: Mutex::default(),
            latest_issue: LatestIssue::default(),
            published: Notify::new(),
            readers_ended,
            writer_ended,
            metrics,
            slow,
        })
    }

    /// Finishes the waiting work, and returns when every connection is closed.
    pub(super) async fn close(&self) {
        // One after the other, so that the last connection removes the WAL. Nothing is ever sent:
        // each wait ends when the last thread drops its sender.
        drop(self.reads.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.readers_ended.clone().changed().await;
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.writer_ended.clone().changed().await;
    }

    /// Whether writing is still possible. The writer ends only when the store is closed, or by a
    /// bug.
    pub(super) fn is_writing(&self) -> bool {
        self.writer_ended.has_changed().is_ok()
    }

    pub(super) fn status(&self) -> PoolStatus {
        PoolStatus {
            max: self.readers,
            open: self.readers,
            in_use: self.busy_readers.load(Ordering::Relaxed),
            refusal: None,
        }
    }

    /// The database's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Runs `operation` on a reader.
    pub(super) async fn read<T, F>(&self, name: &'static str, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteConnection, Timestamp) -> QueryResult<T> + Send + 'static,
    {
        if self.target.is_memory() {
            return self.write(name, operation).await;
        }
        let (reply, answer) = oneshot::channel();
        let clock = Arc::clone(&self.clock);
        let read: Read = Box::new(move |conn| {
            if !reply.is_closed() {
                let now = clock.now();
                let _ = reply.send(operation(conn, now).map_err(|e| store_error(&e)));
            }
        });
        self.timed(name, wait(self.send(&self.reads, read), answer)).await
    }

    /// Runs `operation` in the writer's next transaction, and returns when it is committed.
    pub(super) async fn write<T, F>(&self, name: &'static str, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteConnection, Timestamp) -> QueryResult<T> + Send + 'static,
    {
        let (job, answer) = writer::write(operation);
        self.timed(name, wait(self.send(&self.jobs, job), answer)).await
    }

    /// Runs `operation` on the writer's connection, outside of any group. It makes its own
    /// transactions.
    pub(super) async fn alone<T, F>(&self, name: &'static str, operation: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut SqliteConnection) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Job::Alone(Box::new(move |conn| {
            let _ = reply.send(operation(conn));
        }));
        self.timed(name, wait(self.send(&self.jobs, job), answer)).await
    }

    pub(super) async fn claim(&self, asks: &[Ask<'_>]) -> Vec<Result<Facts>> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Claims(Claims { asks: asks.iter().map(OwnedAsk::from).collect(), reply });
        let facts = self.timed("claim", wait(self.send(&self.jobs, job), answer)).await;
        match facts {
            Ok(facts) => facts,
            Err(error) => asks.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn send<J>(&self, channel: &Mutex<Option<SyncSender<J>>>, job: J) -> Result<()> {
        let closed = || StoreError::Unavailable("the database is closed".into());
        let channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
        match channel.as_ref().ok_or_else(closed)?.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(closed()),
            Err(TrySendError::Full(_)) => {
                self.metrics.pool_acquire_failures.inc();
                Err(StoreError::Unavailable("too many calls wait for the database".into()))
            }
        }
    }

    async fn timed<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let started = Instant::now();
        let result = call.await;
        self.measured(name, started.elapsed(), result.is_ok());
        result
    }

    fn measured(&self, name: &'static str, took: Duration, is_ok: bool) {
        self.metrics.operation(took, is_ok);
        if took > self.slow {
            self.metrics.slow_statements.inc();
            let milliseconds = milliseconds(took);
            tracing::warn!(operation = name, milliseconds, "slow database operation");
        }
    }
}

async fn wait<T>(sent: Result<()>, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    sent?;
    // A thread that ends without an answer has panicked, perhaps after it committed.
    answer.await.unwrap_or_else(|_| {
        Err(StoreError::OutcomeUnknown("the database's thread ended unexpectedly".into()))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;
    use std::pin::pin;
    use std::sync::mpsc;

    use diesel::connection::SimpleConnection;
    use diesel::sql_types::BigInt;
    use futures_util::{FutureExt as _, future};

    use super::*;

    fn start(location: &SqliteLocation) -> Threads {
        let limits = ClaimLimits { quota_per_signer: 10, quota_per_namespace: 10 };
        let metrics = Arc::new(Metrics::new().unwrap());
        let slow = Duration::from_mins(1);
        Threads::start(location, 2, slow, limits, metrics, Clock::system()).unwrap()
    }

    fn file(folder: &Path) -> SqliteLocation {
        SqliteLocation::File(folder.join("test.db"))
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_forgets_nobody() {
        let threads = start(&SqliteLocation::Memory);
        let (release, held) = mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let mut blocker = pin!(threads.alone("hold", move |_| {
            let _ = begun.send(());
            let _ = held.recv();
            Ok(())
        }));
        assert!(blocker.as_mut().now_or_never().is_none());
        begins.await.unwrap();
        let mut waiting: Vec<_> =
            (0..QUEUE).map(|n| Box::pin(threads.write("wait", move |_, _| Ok(n)))).collect();
        for write in &mut waiting {
            assert!(write.now_or_never().is_none());
        }
        let refused = threads.write("refused", |_, _| Ok(())).now_or_never();
        assert!(matches!(refused, Some(Err(StoreError::Unavailable(_)))), "{refused:?}");
        release.send(()).unwrap();
        let answers = future::join_all(waiting).await;
        assert_eq!(answers, (0..QUEUE).map(Ok).collect::<Vec<_>>());
        assert_eq!(blocker.await, Ok(()));
    }

    #[tokio::test]
    async fn closing_finishes_what_waits_removes_the_wal_and_refuses_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let threads = start(&file(folder.path()));
        let create = |conn: &mut SqliteConnection, _| conn.batch_execute("CREATE TABLE t (n)");
        let mut waiting = Box::pin(threads.write("create", create));
        assert!((&mut waiting).now_or_never().is_none());
        threads.close().await;
        assert_eq!(waiting.await, Ok(()));
        assert!(!folder.path().join("test.db-wal").exists());
        assert!(!threads.is_writing());
        let late = threads.read("late", |_, _| Ok(())).await;
        assert!(matches!(late, Err(StoreError::Unavailable(_))), "{late:?}");
    }

    #[tokio::test]
    async fn changes_by_others_are_noticed_and_own_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let location = file(folder.path());
        let threads = start(&location);
        let mut changes = threads.changes.clone();
        let run = |sql: &'static str| threads.write("own", move |conn, _| conn.batch_execute(sql));
        run("CREATE TABLE t (n)").await.unwrap();
        threads
            .alone("checkpoint", |conn| {
                conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
                Ok(())
            })
            .await
            .unwrap();
        run("INSERT INTO t VALUES (1)").await.unwrap();
        let mut other = Target::prepare(&location).unwrap().connect(Role::Writer).unwrap();
        other.batch_execute("INSERT INTO t VALUES (2)").unwrap();
        changes.changed().await.unwrap();
        assert_eq!(*changes.borrow(), 1);
    }

    /// A number in the WAL's header that grows with each restart of the WAL.
    fn starts_of_wal(database: &Path) -> u32 {
        let mut header = [0; 16];
        let mut wal = std::fs::File::open(database.with_extension("db-wal")).unwrap();
        wal.read_exact(&mut header).unwrap();
        u32::from_be_bytes(*header.last_chunk().unwrap())
    }

    /// Writes enough for a long WAL, but too little for a commit to copy it.
    async fn fill(threads: &Threads) {
        let fill = "CREATE TABLE t (page);
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO t SELECT randomblob(4000) FROM n";
        threads.write("fill", move |conn, _| conn.batch_execute(fill)).await.unwrap();
    }

    /// Whether the WAL restarts while this many rows are written.
    async fn starts_anew(threads: &Threads, database: &Path, rows: usize) -> bool {
        let before = starts_of_wal(database);
        let insert = "INSERT INTO t VALUES (0)";
        for _ in 0..rows {
            threads.write("insert", move |conn, _| conn.batch_execute(insert)).await.unwrap();
            if starts_of_wal(database) != before {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn a_long_wal_starts_anew_while_the_writer_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let threads = start(&file(folder.path()));
        fill(&threads).await;
        assert!(starts_anew(&threads, &folder.path().join("test.db"), 20_000).await);
        let rows = threads.read("count", |conn, _| {
            diesel::select(diesel::dsl::sql::<BigInt>("count(*) FROM t WHERE page <> 0"))
                .get_result::<i64>(conn)
        });
        assert_eq!(rows.await, Ok(20_000));
    }

    #[tokio::test]
    async fn a_long_wal_starts_anew_once_its_reader_has_gone() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("test.db");
        let threads = start(&file(folder.path()));
        fill(&threads).await;
        let (release, held) = mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let mut reader = pin!(threads.read("hold", move |conn, _| {
            conn.batch_execute("BEGIN; SELECT count(*) FROM t")?;
            let _ = begun.send(());
            let _ = held.recv();
            conn.batch_execute("COMMIT")
        }));
        assert!(reader.as_mut().now_or_never().is_none());
        begins.await.unwrap();
        assert!(!starts_anew(&threads, &database, 3_000).await);
        release.send(()).unwrap();
        assert_eq!(reader.await, Ok(()));
        assert!(starts_anew(&threads, &database, 20_000).await);
    }
}
