//! A pool of connections: how they are opened, and which are used again. `run` uses them.
//!
//! A connection is driven by the runtime that the store was opened on, wherever the caller
//! runs: a worker's runtime may end before the connection does. One that was given back in the
//! middle of something (the caller went away, or no answer came) is never used again, and the
//! server gives up what it was doing: at no time has the pool more of the server's processes than
//! connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bb8::QueueStrategy;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolableConnection;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::connect::{Connector, Opened};
use super::failure::ConnectError;
use crate::metrics::Metrics;
use crate::origin::Origin;
use crate::storage::postgres::guard::{Admission, Guard};
use crate::storage::{PoolStatus, Result, StoreError};

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
    pub(super) connections: bb8::Pool<Manager>,
    pub(super) limits: Limits,
    pub(super) runtime: Handle,
    pub(super) metrics: Arc<Metrics>,
    pub(super) connector: Arc<Connector>,
    pub(super) server: Arc<AtomicU64>,
}

/// A connection in the pool.
pub(super) struct Pooled {
    /// `None` only while this is dropped.
    pub(super) connection: Option<AsyncPgConnection>,
    pub(super) admission: Admission,
    /// Set while an operation is under way.
    pub(super) busy: bool,
    /// The number of servers that stopped taking writes before this was opened.
    pub(super) server: u64,
    /// One of as many as the pool may have connections. It is given back when the server's process
    /// is free, which may be after the connection was given up.
    process: Option<OwnedSemaphorePermit>,
    connector: Arc<Connector>,
    runtime: Handle,
    open: TaskTracker,
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
            let giving_up = async move {
                connector.give_up(connection).await;
                drop(process);
            };
            self.open.spawn_on(Origin::current().run(giving_up), &self.runtime);
        }
    }
}

pub(super) struct Manager {
    connector: Arc<Connector>,
    runtime: Handle,
    server: Arc<AtomicU64>,
    processes: Arc<Semaphore>,
    open: TaskTracker,
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
            open: self.open.clone(),
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

impl Pool {
    /// `server` counts the servers that stopped taking writes, and `open` tells when the last
    /// connection is given up: the pools of a store share both.
    ///
    /// # Errors
    /// When the first connections cannot be opened.
    pub(crate) async fn open(
        connector: Arc<Connector>,
        limits: Limits,
        server: &Arc<AtomicU64>,
        open: &TaskTracker,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let runtime = Handle::current();
        let manager = Manager {
            connector: Arc::clone(&connector),
            runtime: runtime.clone(),
            server: Arc::clone(server),
            processes: Arc::new(Semaphore::new(limits.max as usize)),
            open: open.clone(),
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
}
