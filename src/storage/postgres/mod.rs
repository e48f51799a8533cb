//! The PostgreSQL store: diesel-async over two pools. Claims have connections of their own, so
//! that neither they nor anything else can starve the other.
//!
//! Every operation runs through `pool::Pool::run`. Nothing here decides a time: the database's
//! clock does, in SQL.

mod audit;
mod claims;
mod connect;
mod counted_claims;
mod detour;
mod dids;
mod endings;
mod errors;
mod leases;
mod listen;
mod lists;
mod migrations;
mod named_sessions;
mod pool;
mod purge;
mod quick_claims;
mod readings;
mod schema;
mod sealing;
mod session_claims;
mod session_row;
mod sessions;
mod signer_claims;
mod signer_purge;
mod statement;
mod statistics;
mod tls;
mod tokens;
mod work;

use std::sync::{Arc, PoisonError, RwLock};

use diesel::sql_types::Timestamptz;
use diesel::{QueryableByName, sql_query};
use diesel_async::RunQueryDsl;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use self::connect::Connector;
use self::detour::Detour;
use self::pool::{Kind, Limits, Pool};
use self::statement::Prepared;
use self::tls::Tls;
use self::work::Work;
use super::{ClaimLimits, PoolStatus, PostgresOptions, Result, StoreError};
use crate::config::Database;
use crate::domain::Timestamp;
use crate::metrics::Metrics;

/// Connections that only claims use.
const CLAIM_CONNECTIONS: u32 = 2;

/// Claims run few statements, each prepared once, on tables that grow from nothing to millions
/// of rows between two runs of ANALYZE. Whatever the statistics say, each row must be reached
/// through an index, in a plan that is made once: a sequential scan, or a join that reads a
/// whole table, would be right for an empty table and ruinous later.
const CLAIM_PLANNER: &str = "SET plan_cache_mode = force_generic_plan;
     SET enable_seqscan = off;
     SET enable_hashjoin = off;
     SET enable_mergejoin = off;
     SET enable_bitmapscan = off;
     SET jit = off;";

/// A PostgreSQL database. Clones share its connections.
#[derive(Clone)]
pub struct PostgresStore {
    /// `None` once the store is closed.
    pools: Arc<RwLock<Option<Arc<Pools>>>>,
    /// Says when the pools and whoever listens are gone.
    open: TaskTracker,
    /// Tells those who listen to end.
    closing: CancellationToken,
    general: Arc<Connector>,
    /// The name of this store in its sessions, for those who watch what it does.
    instance: Uuid,
    runtime: Handle,
    limits: ClaimLimits,
    detour: Arc<Detour>,
}

struct Pools {
    general: Pool,
    claims: Pool,
    _open: TaskTrackerToken,
}

#[derive(QueryableByName)]
struct Now {
    #[diesel(sql_type = Timestamptz)]
    now: Timestamp,
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
        let connector = |statement_timeout, planner| {
            let metrics = Arc::clone(&metrics);
            let tls = tls.clone();
            Arc::new(Connector::new(options, tls, instance, statement_timeout, planner, metrics))
        };
        let general = connector(config.statement_timeout, "");
        let claims = connector(config.claim_statement_timeout, CLAIM_PLANNER);
        let general_limits = Limits {
            max: config.pool.max,
            min: config.pool.min,
            idle_timeout: config.pool.idle_timeout,
            max_age: config.pool.max_age,
            acquire_timeout: config.pool.acquire_timeout,
            statement_timeout: config.statement_timeout,
            slow: config.slow_statement,
        };
        let claim_limits = Limits {
            max: CLAIM_CONNECTIONS,
            min: CLAIM_CONNECTIONS,
            statement_timeout: config.claim_statement_timeout,
            ..general_limits
        };
        let open = TaskTracker::new();
        let pools = Pools {
            general: Pool::open(Arc::clone(&general), general_limits, Arc::clone(&metrics)).await?,
            claims: Pool::open(claims, claim_limits, metrics).await?,
            _open: open.token(),
        };
        Ok(Self {
            pools: Arc::new(RwLock::new(Some(Arc::new(pools)))),
            open,
            closing: CancellationToken::new(),
            general,
            instance,
            runtime: Handle::current(),
            limits,
            detour: Arc::default(),
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

    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        self.pools().map(|pools| pools.general.status()).unwrap_or_default()
    }

    pub async fn now(&self) -> Result<Timestamp> {
        let now: Now = self
            .read("now", async |c| Prepared(sql_query("SELECT now() AS now")).get_result(c).await)
            .await?;
        Ok(now.now)
    }

    fn pools(&self) -> Result<Arc<Pools>> {
        let pools = self.pools.read().unwrap_or_else(PoisonError::into_inner);
        pools.clone().ok_or_else(|| StoreError::Unavailable("the store is closed".into()))
    }

    /// An operation that only reads.
    async fn read<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        F: Work<T>,
    {
        self.pools()?.general.run(Kind::Repeatable, operation, work).await
    }

    /// One statement that writes.
    async fn write<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        F: Work<T>,
    {
        self.pools()?.general.run(Kind::Statement, operation, work).await
    }

    /// Several statements in one transaction.
    async fn transaction<T, F>(&self, operation: &'static str, work: F) -> Result<T>
    where
        F: Work<T>,
    {
        self.pools()?.general.run(Kind::Transaction, operation, work).await
    }
}

/// A row that this binary cannot read, as Diesel's error.
fn unreadable(what: impl std::fmt::Display) -> diesel::result::Error {
    diesel::result::Error::DeserializationError(what.to_string().into())
}
