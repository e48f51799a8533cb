//! The store itself: its three pools, and how an operation is run on each. Claims have connections of
//! their own, and so have batches that open, end and touch sessions, so that none of them, nor anything
//! else, can starve another.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use super::claims::detour::Detour;
use super::connection::assumptions::Assumptions;
use super::connection::connect::Connector;
use super::connection::operation::Operation;
use super::connection::pool::{Limits, Pool};
use super::connection::run::Kind;
use super::connection::tls::Tls;
use super::connection::work::Work;
use super::guard::Guard;
use crate::config::{Database, PostgresOptions};
use crate::metrics::Metrics;
use crate::storage::marks::LatestIssue;
use crate::storage::{ClaimLimits, Result, StoreError};

/// Connections that only claims use: as many as there can be batches at a time, of every kind, and
/// of claims that wait for a lock. Few of them are ever needed, so they are opened when they are.
const CLAIM_CONNECTIONS: u32 = 16;
/// Of these, the ones that are always open.
const IDLE_CLAIM_CONNECTIONS: u32 = 2;
/// Connections that only openings, endings and touches of sessions use: one for a batch of each
/// kind, and one for its calls that wait for a lock.
const SESSION_CONNECTIONS: u32 = 6;
/// Of these, the ones that are always open.
const IDLE_SESSION_CONNECTIONS: u32 = 2;
/// How long a statement of a batch waits for a lock. Everything else of its batch waits with it.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// Batches run few statements, each prepared once, on tables that grow from nothing to millions
/// of rows between two runs of ANALYZE. Also with old statistics, each row must be reached
/// through an index, in a plan that is made once: a sequential scan, or a join that reads a
/// whole table, would be right for an empty table and ruinous later.
const BATCH_PLANNER: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// A PostgreSQL database. Clones share its connections.
#[derive(Clone)]
pub struct PostgresStore {
    /// `None` once the store is closed.
    pools: Arc<RwLock<Option<Arc<Pools>>>>,
    /// Says when the pools, the listener and the last pooled connection that is given up are gone.
    pub(super) open: TaskTracker,
    /// Tells those who listen to end.
    pub(super) closing: CancellationToken,
    pub(super) general: Arc<Connector>,
    /// Empty until this store serves. The connectors share it.
    pub(super) guard: Arc<OnceLock<Guard>>,
    /// Counts the servers that are not used any more. The pools share it.
    pub(super) server: Arc<AtomicU64>,
    pub(super) metrics: Arc<Metrics>,
    /// The name of this store in its sessions, for those who watch what it does.
    pub(super) instance: Uuid,
    pub(super) latest_issue: Arc<LatestIssue>,
    pub(super) runtime: Handle,
    pub(super) limits: ClaimLimits,
    pub(super) detour: Arc<Detour>,
    /// Events were published.
    pub(super) published: Arc<Notify>,
}

pub(super) struct Pools {
    pub(super) general: Pool,
    pub(super) claims: Pool,
    pub(super) sessions: Pool,
    _open: TaskTrackerToken,
}

impl PostgresStore {
    pub async fn open(
        options: &PostgresOptions,
        config: &Database,
        limits: ClaimLimits,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let tls = Tls::new(options, config.allow_plaintext)?;
        let instance = Uuid::now_v7();
        let lock_timeout = LOCK_TIMEOUT.as_millis().to_string();
        let mut batch_settings = BATCH_PLANNER.to_vec();
        batch_settings.push(("lock_timeout", lock_timeout.as_str()));
        let guard: Arc<OnceLock<Guard>> = Arc::default();
        let connector = |statement_timeout, settings| {
            let assumptions = Assumptions::new(instance, statement_timeout, settings);
            let patience = config.pool.acquire_timeout;
            let (tls, metrics) = (tls.clone(), Arc::clone(&metrics));
            let guard = Arc::clone(&guard);
            Arc::new(Connector::new(options, tls, assumptions, guard, patience, metrics))
        };
        let general = connector(config.statement_timeout, &[]);
        let claims = connector(config.claim_statement_timeout, &batch_settings);
        let sessions = connector(config.statement_timeout, &batch_settings);
        let general_limits = Limits {
            max: config.pool.max,
            min: config.pool.min,
            idle_timeout: config.pool.idle_timeout,
            max_age: config.pool.max_age,
            acquire_timeout: config.pool.acquire_timeout,
            statement_timeout: config.statement_timeout,
            lock_timeout: None,
            slow: config.slow_statement,
        };
        let claim_limits = Limits {
            max: CLAIM_CONNECTIONS,
            min: IDLE_CLAIM_CONNECTIONS,
            statement_timeout: config.claim_statement_timeout,
            lock_timeout: Some(LOCK_TIMEOUT),
            ..general_limits
        };
        let session_limits = Limits {
            max: SESSION_CONNECTIONS,
            min: IDLE_SESSION_CONNECTIONS,
            lock_timeout: Some(LOCK_TIMEOUT),
            ..general_limits
        };
        let open = TaskTracker::new();
        let server = Arc::new(AtomicU64::new(0));
        let connector = Arc::clone(&general);
        let pool = async |connector, limits| {
            Pool::open(connector, limits, &server, &open, Arc::clone(&metrics)).await
        };
        let pools = Pools {
            general: pool(connector, general_limits).await?,
            claims: pool(claims, claim_limits).await?,
            sessions: pool(sessions, session_limits).await?,
            _open: open.token(),
        };
        Ok(Self {
            pools: Arc::new(RwLock::new(Some(Arc::new(pools)))),
            open,
            closing: CancellationToken::new(),
            general,
            guard,
            server,
            metrics,
            instance,
            latest_issue: Arc::default(),
            runtime: Handle::current(),
            limits,
            detour: Arc::default(),
            published: Arc::default(),
        })
    }

    pub async fn close(&self) {
        self.closing.cancel();
        // Operations under way hold the pools until they are done.
        let pools = self.pools.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(pools);
        self.open.close();
        self.open.wait().await;
    }

    pub(in crate::storage) fn latest_issue(&self) -> &LatestIssue {
        &self.latest_issue
    }

    pub(super) fn pools(&self) -> Result<Arc<Pools>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.clone().ok_or_else(|| StoreError::Unavailable("the store is closed".into()))
    }

    /// An operation that only reads.
    pub(super) async fn read<T, F>(&self, operation: impl Into<Operation>, work: F) -> Result<T>
    where
        T: Send,
        F: Work<T>,
    {
        self.pools()?.general.run(Kind::Repeatable, operation, work).await
    }

    /// One statement that writes.
    pub(super) async fn write<T, F>(&self, operation: impl Into<Operation>, work: F) -> Result<T>
    where
        T: Send,
        F: Work<T>,
    {
        self.pools()?.general.run(Kind::Statement, operation, work).await
    }

    /// A batch of openings, endings or touches of sessions.
    pub(super) async fn for_sessions<T, F>(
        &self,
        kind: Kind,
        operation: impl Into<Operation>,
        work: F,
    ) -> Result<T>
    where
        T: Send,
        F: Work<T>,
    {
        self.pools()?.sessions.run(kind, operation, work).await
    }

    /// Several statements in one transaction that a crash may take back.
    pub(super) async fn errand<T, F>(&self, operation: impl Into<Operation>, work: F) -> Result<T>
    where
        T: Send,
        F: Work<T>,
    {
        self.pools()?.general.run(Kind::Errand, operation, work).await
    }

    /// Several statements in one transaction.
    pub(super) async fn transaction<T, F>(
        &self,
        operation: impl Into<Operation>,
        work: F,
    ) -> Result<T>
    where
        T: Send,
        F: Work<T>,
    {
        self.pools()?.general.run(Kind::Transaction, operation, work).await
    }
}
