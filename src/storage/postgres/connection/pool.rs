//! A pool of connections, and the one way to use them: [`Pool::run`] takes a connection,
//! measures, maps errors and tries conflicts again.
//!
//! A connection is driven by the runtime that the store was opened on, wherever the caller
//! runs: a worker's runtime may end before the connection does. One that was given back in the
//! middle of something (the caller went away, or no answer came) is never used again, and the
//! server gives up what it was doing: at no time has the pool more of the server's processes than
//! connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use bb8::QueueStrategy;
use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection, TransactionManager,
};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::context::TokioContext;

use super::connect::{ConnectError, Connector, Opened};
use super::errors::{InFlight, Trouble};
use super::work::Work;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::storage::postgres::guard::{Admission, Guard, is_allowed_if_cut};
use crate::storage::postgres::migrations;
use crate::storage::{PoolStatus, Result, StoreError, milliseconds};

/// Further tries of an operation that the server rolled back because of others.
const CONFLICT_RETRIES: usize = 4;
const CONFLICT_WAIT: Duration = Duration::from_millis(5);

/// How an operation changes the database, and so what a lost connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads, or changes what may as well be changed twice.
    Repeatable,
    /// One statement, which commits by itself, and decides nothing.
    Statement,
    /// One statement that decides, and calls `mark_commit()`.
    Decision,
    /// Several statements in one transaction. It counts as a decision.
    Transaction,
    /// Several statements in one transaction that decides nothing, and that a crash may take back.
    Errand,
}

impl Kind {
    /// Whether its transaction calls `mark_commit()`.
    const fn decides(self) -> bool {
        matches!(self, Self::Decision | Self::Transaction)
    }
}

/// How a transaction begins: that it decides costs no further round trip.
const BEGIN: &str = "BEGIN; SELECT mark_commit()";
/// In a database that was cut, or where nothing is decided.
const BEGIN_UNMARKED: &str = "BEGIN";

/// The sizes and times of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max: u32,
    pub(crate) min: u32,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_age: Duration,
    pub(crate) acquire_timeout: Duration,
    /// What the connections have as their `statement_timeout`.
    pub(crate) statement_timeout: Duration,
    /// What they have as their `lock_timeout`, if they have one.
    pub(crate) lock_timeout: Option<Duration>,
    /// Operations slower than this are counted and logged.
    pub(crate) slow: Duration,
}

/// A pool of connections that are set up alike.
pub(crate) struct Pool {
    connections: bb8::Pool<Manager>,
    limits: Limits,
    runtime: Handle,
    metrics: Arc<Metrics>,
    connector: Arc<Connector>,
    server: Arc<AtomicU64>,
}

/// A connection in the pool.
pub(super) struct Pooled {
    /// `None` only while this is dropped.
    connection: Option<AsyncPgConnection>,
    admission: Admission,
    /// Set while an operation is under way.
    busy: bool,
    /// The number of servers that stopped taking writes before this was opened.
    server: u64,
    /// One of as many as the pool may have connections. It is given back when the server's process
    /// is free, which may be after the connection was given up.
    process: Option<OwnedSemaphorePermit>,
    connector: Arc<Connector>,
    runtime: Handle,
}

impl Pooled {
    fn is_usable(&mut self, server: &AtomicU64) -> bool {
        !self.busy
            && self.server == server.load(Ordering::Relaxed)
            && self.connection.as_mut().is_some_and(|connection| !connection.is_broken())
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let (connection, process) = (self.connection.take(), self.process.take());
        if let Some(connection) = connection.filter(|_| self.busy) {
            let connector = Arc::clone(&self.connector);
            self.runtime.spawn(Origin::current().run(async move {
                connector.give_up(connection).await;
                drop(process);
            }));
        }
    }
}

struct Manager {
    connector: Arc<Connector>,
    runtime: Handle,
    server: Arc<AtomicU64>,
    processes: Arc<Semaphore>,
}

impl bb8::ManageConnection for Manager {
    type Connection = Pooled;
    type Error = ConnectError;

    async fn connect(&self) -> std::result::Result<Pooled, ConnectError> {
        // The semaphore is never closed.
        let process = Arc::clone(&self.processes).acquire_owned().await.ok();
        let server = self.server.load(Ordering::Relaxed);
        // The pool calls this from wherever it was used last.
        let connector = Arc::clone(&self.connector);
        let connecting = Origin::current().run(async move { connector.open(true).await });
        let connecting = self.runtime.spawn(connecting);
        let result = connecting.await.unwrap_or_else(|error| Err(ConnectError::aborted(&error)));
        result.map(|Opened { connection, admission }| Pooled {
            connection: Some(connection),
            admission,
            busy: false,
            server,
            process,
            connector: Arc::clone(&self.connector),
            runtime: self.runtime.clone(),
        })
    }

    /// Sends nothing: that would cost every operation a round trip.
    async fn is_valid(&self, pooled: &mut Pooled) -> std::result::Result<(), ConnectError> {
        if pooled.is_usable(&self.server) { Ok(()) } else { Err(ConnectError::outdated()) }
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        !pooled.is_usable(&self.server)
    }
}

/// How an attempt failed.
struct Failure {
    trouble: Trouble,
    in_flight: InFlight,
    took: Duration,
}

impl Pool {
    /// `server` counts the servers that stopped taking writes: the pools of a store share it.
    ///
    /// # Errors
    /// When the first connections cannot be opened.
    pub(crate) async fn open(
        connector: Arc<Connector>,
        limits: Limits,
        server: &Arc<AtomicU64>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let runtime = Handle::current();
        let manager = Manager {
            connector: Arc::clone(&connector),
            runtime: runtime.clone(),
            server: Arc::clone(server),
            processes: Arc::new(Semaphore::new(limits.max as usize)),
        };
        let connections = bb8::Pool::builder()
            .max_size(limits.max)
            .min_idle(limits.min.min(limits.max))
            .idle_timeout(limits.idle_timeout)
            .max_lifetime(limits.max_age)
            .connection_timeout(limits.acquire_timeout)
            // The one used last has everything at hand, and so has the server's process behind it.
            .queue_strategy(QueueStrategy::Lifo)
            // The connector itself knows which errors may pass.
            .retry_connection(false)
            .build(manager)
            .await
            .map_err(StoreError::from)?;
        let server = Arc::clone(server);
        Ok(Self { connections, limits, runtime, metrics, connector, server })
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let state = self.connections.state();
        PoolStatus {
            refusal: self.refusal(),
            max: self.limits.max,
            open: state.connections,
            in_use: state.connections.saturating_sub(state.idle_connections),
        }
    }

    fn refusal(&self) -> Option<&'static str> {
        let guard = self.connector.guard();
        guard
            .and_then(Guard::refusal)
            .or_else(|| self.connector.last_error().as_ref().and_then(ConnectError::refusal))
    }

    /// Runs an operation on a connection of its own. `work` is called again after a conflict;
    /// inside a transaction it must leave begin and commit to this.
    pub(crate) async fn run<T, F>(&self, kind: Kind, operation: &'static str, work: F) -> Result<T>
    where
        F: Work<T>,
    {
        // What the pool spawns, it spawns on the store's runtime too.
        TokioContext::new(self.retry(kind, operation, work), self.runtime.clone()).await
    }

    async fn retry<T, F>(&self, kind: Kind, operation: &'static str, work: F) -> Result<T>
    where
        F: Work<T>,
    {
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(CONFLICT_WAIT)
            .with_max_times(CONFLICT_RETRIES)
            .with_jitter()
            .build();
        loop {
            if let Some(guard) = self.connector.guard() {
                guard.let_pass(operation)?;
            }
            let mut pooled = self.checkout().await?;
            self.refuse_if_cut(&pooled, kind, operation)?;
            let Failure { trouble, in_flight, took } =
                match self.attempt(&mut pooled, kind, operation, &work).await {
                    Ok(value) => return Ok(value),
                    Err(failure) => failure,
                };
            match trouble {
                Trouble::Refused(why) => {
                    let error = self.diagnose(&mut pooled, why, in_flight).await;
                    return Err(self.if_locked(error, took));
                }
                Trouble::Conflict(_) | Trouble::ReadOnly(_) | Trouble::Unchecked(_) => {
                    match trouble {
                        Trouble::ReadOnly(_) => self.leave(pooled.server, "it is read-only"),
                        Trouble::Unchecked(_) => self.leave(pooled.server, "it was recovered"),
                        _ => {}
                    }
                    drop(pooled);
                    match waits.next() {
                        Some(wait) => sleep(wait).await,
                        None => return Err(trouble.into_error(in_flight)),
                    }
                }
                Trouble::Lost(_) | Trouble::Fault(_) => return Err(trouble.into_error(in_flight)),
            }
        }
    }

    /// No connection to this server is used again, in any pool, nor are those that were opened
    /// meanwhile.
    fn leave(&self, server: u64, why: &'static str) {
        let next = server.wrapping_add(1);
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.server.compare_exchange(server, next, success, failure).is_ok() {
            tracing::warn!(why, "the database has changed; its connections are replaced");
        }
    }

    /// In a database that was cut, only [`is_allowed_if_cut`] passes. A command may read it, too.
    fn refuse_if_cut(&self, pooled: &Pooled, kind: Kind, operation: &str) -> Result<()> {
        let refused = kind.decides() || self.connector.guard().is_some();
        if pooled.admission.cut && refused && !is_allowed_if_cut(operation) {
            return Err(StoreError::WentBack(
                "it is not on the server that its history names: run `onceguard recover`".into(),
            ));
        }
        Ok(())
    }

    async fn checkout(&self) -> Result<bb8::PooledConnection<'_, Manager>> {
        let started = Instant::now();
        let result = self.connections.get().await;
        self.metrics.pool_wait_seconds.observe(started.elapsed().as_secs_f64());
        match result {
            Ok(pooled) => {
                self.metrics.pool_acquired.inc();
                Ok(pooled)
            }
            Err(error) => {
                self.metrics.pool_acquire_failures.inc();
                let cause = match (self.connector.last_error(), error) {
                    (Some(cause), _) => cause.to_string(),
                    (None, bb8::RunError::User(error)) => error.to_string(),
                    (None, bb8::RunError::TimedOut) => "all connections are in use".to_owned(),
                };
                let waited = self.limits.acquire_timeout.as_secs_f64();
                Err(StoreError::Unavailable(format!("no connection within {waited} s: {cause}")))
            }
        }
    }

    async fn attempt<T, F>(
        &self,
        pooled: &mut Pooled,
        kind: Kind,
        operation: &'static str,
        work: &F,
    ) -> std::result::Result<T, Failure>
    where
        F: Work<T>,
    {
        let started = Instant::now();
        let committing = AtomicBool::new(matches!(kind, Kind::Statement | Kind::Decision));
        // The server's own timeout comes first, unless server or network fell silent.
        let patience = self.limits.statement_timeout * 2 + Duration::from_secs(1);
        pooled.busy = true;
        let marked = kind.decides() && !pooled.admission.cut;
        let begin = if marked { BEGIN } else { BEGIN_UNMARKED };
        let performing = async {
            let connection = pooled.connection.as_mut().ok_or(Error::BrokenTransactionManager)?;
            perform(connection, kind, begin, work, &committing).await
        };
        let trouble = match timeout(patience, performing).await {
            Ok(result) => {
                pooled.busy = false;
                if let (Ok(_), true, Some(guard), Some(mark)) =
                    (&result, kind.decides(), self.connector.guard(), &pooled.admission.mark)
                {
                    guard.acknowledge(mark);
                }
                result.map_err(|error| Trouble::of(&error))
            }
            Err(_) => Err(Trouble::Lost(format!("no answer within {} s", patience.as_secs()))),
        };
        let took = started.elapsed();
        self.metrics.operation(took, trouble.is_ok());
        if took > self.limits.slow {
            self.metrics.slow_statements.inc();
            tracing::warn!(operation, milliseconds = milliseconds(took), "slow database operation");
        }
        trouble.map_err(|trouble| Failure {
            trouble,
            in_flight: if committing.into_inner() { InFlight::Commit } else { InFlight::NoCommit },
            took,
        })
    }

    /// Whether a lock may be the cause of a refusal. Its code and a message in a known language
    /// would tell, and neither is to be had (see [`errors`](super::errors)). What tells is that the
    /// server waited about as long as for a lock. Half of that is enough: PostgreSQL goes by the
    /// wall clock, which may be set meanwhile, and a lock suspected wrongly costs one more try.
    fn if_locked(&self, error: StoreError, took: Duration) -> StoreError {
        match error {
            StoreError::Unavailable(why)
                if self.limits.lock_timeout.is_some_and(|timeout| took >= timeout / 2) =>
            {
                StoreError::Locked(why)
            }
            error => error,
        }
    }

    /// What a refusal by the server means: that the schema is another, that the server hung up
    /// with it, or just what it says.
    async fn diagnose(&self, pooled: &mut Pooled, why: String, in_flight: InFlight) -> StoreError {
        pooled.busy = true;
        let looking = async {
            let connection = pooled.connection.as_mut().ok_or(Error::BrokenTransactionManager)?;
            migrations::pending(connection).await
        };
        let pending = timeout(self.limits.statement_timeout, looking).await;
        pooled.busy = pending.is_err();
        let trouble = match pending {
            Ok(Ok(pending)) if pending.is_empty() => Trouble::Refused(why),
            Ok(Ok(_)) => {
                return StoreError::Migration(format!(
                    "the database lacks migrations ({why}): run `onceguard migrate up`"
                ));
            }
            Ok(Err(error)) if !matches!(Trouble::of(&error), Trouble::Lost(_)) => {
                Trouble::Refused(why)
            }
            Ok(Err(_)) | Err(_) => Trouble::Lost(why),
        };
        trouble.into_error(in_flight)
    }
}

async fn perform<T, F>(
    connection: &mut AsyncPgConnection,
    kind: Kind,
    begin: &str,
    work: &F,
    committing: &AtomicBool,
) -> QueryResult<T>
where
    F: Work<T>,
{
    if !matches!(kind, Kind::Transaction | Kind::Errand) {
        return work(connection).await;
    }
    if let Err(error) = AnsiTransactionManager::begin_transaction_sql(connection, begin).await {
        // It began, and then failed.
        let _ = connection.batch_execute("ROLLBACK").await;
        return Err(error);
    }
    match work(connection).await {
        Ok(value) => {
            committing.store(true, Ordering::Relaxed);
            AnsiTransactionManager::commit_transaction(connection).await?;
            Ok(value)
        }
        Err(error) => {
            // If this fails too, the connection counts as broken and the server rolls back.
            let _ = AnsiTransactionManager::rollback_transaction(connection).await;
            Err(error)
        }
    }
}
