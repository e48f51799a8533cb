//! The one way to use the connections of a pool: [`Pool::run`] takes a connection, measures, maps
//! errors and tries conflicts again. It alone says whether an operation may run in a database that
//! was cut.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use diesel::QueryResult;
use diesel::result::Error;
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection, TransactionManager,
};
use tokio::time::{sleep, timeout};
use tokio_util::context::TokioContext;

use super::errors::{InFlight, Trouble};
use super::operation::Operation;
use super::pool::{Manager, Pool, Pooled};
use super::work::{AnyWork, Keeping, Work};
use crate::storage::postgres::applied;
use crate::storage::{Result, StoreError, milliseconds};

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

/// How an attempt failed.
struct Failure {
    trouble: Trouble,
    in_flight: InFlight,
    took: Duration,
}

impl Pool {
    /// Runs an operation on a connection of its own. `work` is called again after a conflict;
    /// inside a transaction it must leave begin and commit to this.
    pub(crate) async fn run<T, F>(
        &self,
        kind: Kind,
        operation: impl Into<Operation>,
        work: F,
    ) -> Result<T>
    where
        T: Send,
        F: Work<T>,
    {
        let work = Keeping::new(work);
        // What the pool spawns, it spawns on the store's runtime too.
        TokioContext::new(self.retry(kind, operation.into(), &work), self.runtime.clone()).await?;
        work.into_value()
            .ok_or_else(|| StoreError::Unexpected("an operation without a result".into()))
    }

    async fn retry(&self, kind: Kind, operation: Operation, work: &dyn AnyWork) -> Result<()> {
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
                match self.attempt(&mut pooled, kind, operation, work).await {
                    Ok(()) => return Ok(()),
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

    /// In a database that was cut, only what may run even there passes. A command may read it, too.
    fn refuse_if_cut(&self, pooled: &Pooled, kind: Kind, operation: Operation) -> Result<()> {
        let refused = kind.decides() || self.connector.guard().is_some();
        if pooled.admission.cut && refused && !operation.even_if_cut {
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

    async fn attempt(
        &self,
        pooled: &mut Pooled,
        kind: Kind,
        operation: Operation,
        work: &dyn AnyWork,
    ) -> std::result::Result<(), Failure> {
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
                if let (Ok(()), true, Some(guard), Some(mark)) =
                    (&result, kind.decides(), self.connector.guard(), &pooled.admission.mark)
                {
                    guard.acknowledge(mark);
                }
                result.map_err(|error| Trouble::of(&error))
            }
            Err(_) => Err(Trouble::Lost(format!(
                "no answer within {} s: is the network silent, or the server, or its synchronous \
                 standby?",
                patience.as_secs()
            ))),
        };
        let took = started.elapsed();
        self.metrics.operation(took, trouble.is_ok());
        if took > self.limits.slow {
            self.metrics.slow_statements.inc();
            tracing::warn!(
                operation = operation.name,
                milliseconds = milliseconds(took),
                "slow database operation"
            );
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
            applied::pending(connection).await
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

async fn perform(
    connection: &mut AsyncPgConnection,
    kind: Kind,
    begin: &str,
    work: &dyn AnyWork,
    committing: &AtomicBool,
) -> QueryResult<()> {
    if !matches!(kind, Kind::Transaction | Kind::Errand) {
        return work.run(connection).await;
    }
    if let Err(error) = AnsiTransactionManager::begin_transaction_sql(connection, begin).await {
        // It began, and then failed.
        let _ = connection.batch_execute("ROLLBACK").await;
        return Err(error);
    }
    match work.run(connection).await {
        Ok(()) => {
            committing.store(true, Ordering::Relaxed);
            AnsiTransactionManager::commit_transaction(connection).await
        }
        Err(error) => {
            // If this fails too, the connection counts as broken and the server rolls back.
            let _ = AnsiTransactionManager::rollback_transaction(connection).await;
            Err(error)
        }
    }
}
