//! A pool of connections, and the one way to use them: [`Pool::run`] takes a connection,
//! measures, maps errors and tries conflicts again.
//!
//! A connection is driven by the runtime that the store was opened on, wherever the caller
//! runs: a worker's runtime may end before the connection does. One that was given back in the
//! middle of something (the caller went away, or no answer came) is never used again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use bb8::QueueStrategy;
use diesel::QueryResult;
use diesel_async::pooled_connection::PoolableConnection;
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, TransactionManager};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};
use tokio_util::context::TokioContext;

use super::connect::{ConnectError, Connector};
use super::errors::{InFlight, Trouble};
use super::migrations;
use super::work::Work;
use crate::metrics::Metrics;
use crate::storage::{PoolStatus, Result, StoreError};

/// Further tries of an operation that the server rolled back because of others.
const CONFLICT_RETRIES: usize = 4;
const CONFLICT_WAIT: Duration = Duration::from_millis(5);

/// How an operation changes the database, and so what a lost connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reads, or changes what may as well be changed twice.
    Repeatable,
    /// One statement, which commits by itself.
    Statement,
    /// Several statements in one transaction.
    Transaction,
}

/// The sizes and times of a pool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max: u32,
    pub(super) min: u32,
    pub(super) idle_timeout: Duration,
    pub(super) max_age: Duration,
    pub(super) acquire_timeout: Duration,
    /// What the connections have as their `statement_timeout`.
    pub(super) statement_timeout: Duration,
    /// Operations slower than this are counted and logged.
    pub(super) slow: Duration,
}

/// A pool of connections that are set up alike.
pub(super) struct Pool {
    connections: bb8::Pool<Manager>,
    limits: Limits,
    runtime: Handle,
    metrics: Arc<Metrics>,
    last_connect_error: Arc<Mutex<Option<String>>>,
}

/// A connection in the pool.
pub(super) struct Pooled {
    connection: AsyncPgConnection,
    /// Set while an operation is under way.
    busy: bool,
}

struct Manager {
    connector: Arc<Connector>,
    runtime: Handle,
    last_connect_error: Arc<Mutex<Option<String>>>,
}

impl bb8::ManageConnection for Manager {
    type Connection = Pooled;
    type Error = ConnectError;

    async fn connect(&self) -> std::result::Result<Pooled, ConnectError> {
        // The pool calls this from wherever it was used last.
        let connector = Arc::clone(&self.connector);
        let connecting = self.runtime.spawn(async move { connector.connect().await });
        let result = connecting.await.unwrap_or_else(|error| Err(ConnectError::aborted(&error)));
        let mut last = self.last_connect_error.lock().unwrap_or_else(PoisonError::into_inner);
        *last = result.as_ref().err().map(ToString::to_string);
        result.map(|connection| Pooled { connection, busy: false })
    }

    /// Sends nothing: that would cost every operation a round trip.
    async fn is_valid(&self, pooled: &mut Pooled) -> std::result::Result<(), ConnectError> {
        if pooled.connection.is_broken() { Err(ConnectError::closed()) } else { Ok(()) }
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        pooled.busy || pooled.connection.is_broken()
    }
}

/// How an attempt failed.
struct Failure {
    trouble: Trouble,
    in_flight: InFlight,
}

impl Pool {
    /// # Errors
    /// When the first connections cannot be opened.
    pub(super) async fn open(
        connector: Arc<Connector>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let runtime = Handle::current();
        let last_connect_error = Arc::default();
        let manager = Manager {
            connector,
            runtime: runtime.clone(),
            last_connect_error: Arc::clone(&last_connect_error),
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
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { connections, limits, runtime, metrics, last_connect_error })
    }

    pub(super) fn status(&self) -> PoolStatus {
        let state = self.connections.state();
        PoolStatus {
            max: self.limits.max,
            open: state.connections,
            in_use: state.connections.saturating_sub(state.idle_connections),
        }
    }

    /// Runs an operation on a connection of its own. `work` is called again after a conflict;
    /// inside a transaction it must leave begin and commit to this.
    pub(super) async fn run<T, F>(&self, kind: Kind, operation: &'static str, work: F) -> Result<T>
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
            let mut pooled = self.checkout().await?;
            let Failure { trouble, in_flight } =
                match self.attempt(&mut pooled, kind, operation, &work).await {
                    Ok(value) => return Ok(value),
                    Err(failure) => failure,
                };
            match trouble {
                Trouble::Refused(why) => {
                    return Err(self.diagnose(&mut pooled, why, in_flight).await);
                }
                Trouble::Conflict(_) => {
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
                let last = self.last_connect_error.lock().unwrap_or_else(PoisonError::into_inner);
                let cause = match (&*last, error) {
                    (Some(cause), _) => cause.clone(),
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
        let committing = AtomicBool::new(kind == Kind::Statement);
        // The server's own timeout comes first, unless server or network fell silent.
        let patience = self.limits.statement_timeout * 2 + Duration::from_secs(1);
        pooled.busy = true;
        let connection = &mut pooled.connection;
        let trouble = match timeout(patience, perform(connection, kind, work, &committing)).await {
            Ok(result) => {
                pooled.busy = false;
                result.map_err(|error| Trouble::of(&error))
            }
            Err(_) => Err(Trouble::Lost(format!("no answer within {} s", patience.as_secs()))),
        };
        let took = started.elapsed();
        self.metrics.operation(took, trouble.is_ok());
        if took > self.limits.slow {
            self.metrics.slow_statements.inc();
            tracing::warn!(operation, ?took, "slow database operation");
        }
        trouble.map_err(|trouble| Failure {
            trouble,
            in_flight: if committing.into_inner() { InFlight::Commit } else { InFlight::NoCommit },
        })
    }

    /// What a refusal by the server means: that the schema is another, that the server hung up
    /// with it, or just what it says.
    async fn diagnose(&self, pooled: &mut Pooled, why: String, in_flight: InFlight) -> StoreError {
        pooled.busy = true;
        let pending = migrations::pending(&mut pooled.connection);
        let pending = timeout(self.limits.statement_timeout, pending).await;
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
    work: &F,
    committing: &AtomicBool,
) -> QueryResult<T>
where
    F: Work<T>,
{
    if kind != Kind::Transaction {
        return work(connection).await;
    }
    AnsiTransactionManager::begin_transaction(connection).await?;
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
