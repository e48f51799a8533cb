//! The composition root: builds the whole service from a configuration, once, and stops its parts
//! in the right order.

mod listening;
mod marks;
mod start_error;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::web::Data;
use futures_util::future::join;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::budget::{Connections, Shares};
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl, Setting};
use crate::data_dir::{self, API_ADDRESS_FILE, DataDirLock, OPS_ADDRESS_FILE};
use crate::http::{State, StrangersLines};
use crate::jobs::heartbeat;
use crate::jobs::{Jobs, OfEvents};
use crate::metrics::Metrics;
use crate::resolvers::{Resolvers, Sender};
use crate::server;
use crate::services::{
    AdminToken, Agents, Claims, ConfiguredWebhook, Deliverer, Dids, Erasure, Events, Evidence,
    Heads, Instances, Journal, Readiness, Records, Sealer, SealingKeys, Searches, ServiceError,
    Sessions, Statistics, Tokens, Verdicts, Webhooks, admit_keys,
};
use crate::storage::sqlite::{DatabaseLock, DatabaseLockError};
use crate::storage::{self, ClaimLimits, Finding, Store, StoreError};
use crate::tls::Certificates;

use self::listening::{Listening, bind, local_address};
pub use self::marks::lost_database;
pub use self::start_error::StartError;
use self::start_error::setting;

/// A stop closes idle connections after no request has been in flight for this long.
const QUIET: Duration = Duration::from_millis(500);
/// How long a stop waits for the database once no caller waits for an answer any more. Transactions
/// that are cut off then are rolled back.
const LEFTOVERS: Duration = Duration::from_secs(10);

/// The running service.
pub struct Application {
    /// The bound addresses.
    pub api_address: SocketAddr,
    pub ops_address: SocketAddr,
    /// Where the operator finds the admin token.
    pub admin_token: AdminToken,
    state: Data<State>,
    store: Store,
    jobs: Jobs,
    api: Listening,
    ops: Listening,
    watcher: JoinHandle<()>,
    evidence: Evidence,
    certificates: Option<Arc<Certificates>>,
    _locks: (DataDirLock, Option<DatabaseLock>),
}

/// Opens the configured database, without migrating it.
pub async fn open_store(
    config: &Config,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Result<Store, StoreError> {
    let limits = ClaimLimits {
        quota_per_signer: config.claims.quota_per_signer,
        quota_per_namespace: config.claims.quota_per_namespace,
    };
    Store::open(&config.database, limits, metrics.clone(), clock.clone()).await
}

impl Application {
    /// Builds and starts everything. When this returns, requests are being served.
    ///
    /// Must be called on a multi-thread Tokio runtime, which drives the database connections.
    pub async fn start(
        config: Config,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let mut joined = None;
        // On the heap: it is large, and runs once.
        let started = Box::pin(Self::build(config, clock, metrics, &mut joined)).await;
        if let (Err(_), Some(store)) = (&started, joined) {
            heartbeat::fail(&store).await;
        }
        started
    }

    /// `joined` is the database once it knows of this instance.
    async fn build(
        config: Config,
        clock: Clock,
        metrics: Arc<Metrics>,
        joined: &mut Option<Store>,
    ) -> Result<Self, StartError> {
        data_dir::create(&config.data_dir)?;
        let folder_lock = data_dir::lock(&config.data_dir)?;
        for file in [API_ADDRESS_FILE, OPS_ADDRESS_FILE] {
            data_dir::remove_note(&config.data_dir.join(file))?;
        }

        // Every check that needs no database comes before the database is touched.
        let certificates = config.server.tls.as_ref();
        let certificates = certificates
            .map(|files| Certificates::read(files, clock.clone(), metrics.clone()).map(Arc::new))
            .transpose()?;
        let tls = certificates.as_ref().map(Certificates::server_config).transpose();
        let tls = tls.map_err(|error| setting("server.tls.cert", &error))?;
        let api_listener = bind("server.listen", config.server.listen)?;
        let ops_listener = bind("ops.listen", config.ops.listen)?;
        let api_address = local_address("server.listen", &api_listener)?;
        let ops_address = local_address("ops.listen", &ops_listener)?;
        let resolvers =
            Resolvers::new(&config.resolvers, metrics.clone(), tokio::runtime::Handle::current())?;
        let sender = Sender::new(&config.webhooks)?;
        let endpoints = ConfiguredWebhook::all(&config.webhooks)
            .map_err(|error| setting("webhooks.endpoints", &error))?;
        if let Some(why) = lost_database(&config) {
            return Err(StartError::Lost(why));
        }

        let database_lock = lock_database(&config)?;
        let store = open_store(&config, &metrics, &clock).await?;
        look_at_server(&store).await?;
        if let Some(departure) = store.departure().await? {
            return Err(StartError::Moved(departure));
        }
        let mark = heartbeat::remembered(&config)?;
        if let Some(mark) = &mark {
            marks::compare(&store, mark, &config).await?;
        }
        store.takes_changes().await?;
        bring_schema_up_to_date(&store, &config).await?;
        // Before anything is accepted by it.
        store.raise_skew(config.signatures.skew().to_std().unwrap_or_default()).await?;
        store.join(marks::joining(api_address, mark.as_ref(), &config, &clock)).await?;
        *joined = Some(store.clone());
        let recovered_at = store.recovered_at();
        metrics.recovered_at.set(recovered_at.map_or(0, |at| at.timestamp()));

        // A new key could open nothing in a database that was sealed with another key.
        let first = matches!(store, Store::Sqlite(_)) && store.sealing_keys().await?.is_empty();
        let keys = SealingKeys::load(&config.sealing, &config.data_dir, first)?;
        let sealer = Sealer::new(&keys);
        admit_keys(&sealer, &store).await?;
        let journal = Journal::of(&config.data_dir, clock.clone(), metrics.clone());
        let tokens = Tokens::new(store.clone(), clock.clone()).journaled(journal.clone());
        let admin_token = tokens.ensure_admin(&config.auth, &config.data_dir).await?;

        let config = Arc::new(config);
        let webhooks = Webhooks::new(store.clone(), sealer.clone(), endpoints.into());
        if !webhooks.configure().await? {
            let message = "there are as many webhooks as may be; delete one first".to_owned();
            return Err(StartError::Setting { key: "webhooks.endpoints", message });
        }
        let deliverer = Deliverer::new(
            store.clone(),
            sealer.clone(),
            sender,
            &config.webhooks,
            clock.clone(),
            metrics.clone(),
        );
        let sessions = Sessions::start(store.clone(), sealer, &config.sessions, metrics.clone());
        let evidence = Evidence::start(store.clone(), &config.events, metrics.clone());
        let claims = Claims::start(store.clone(), &config.claims, metrics.clone())
            .evidenced(evidence.clone());
        let dids =
            Dids::new(store.clone(), resolvers, &config.dids, clock.clone(), metrics.clone())
                .journaled(journal);
        let verdicts = Verdicts::new(
            dids.clone(),
            claims.clone(),
            sessions.clone(),
            config.signatures.profiles.as_slice().into(),
            config.dids.max_stale,
            clock.clone(),
            metrics.clone(),
        );
        let strangers_lines = StrangersLines::new(
            config.log.stranger_lines_per_second,
            metrics.log_lines_dropped.strangers.clone(),
        );
        let records = Records::new(store.clone(), &config.records, metrics.clone());
        let agents = Agents::new(store.clone(), &config.agents, metrics.clone());
        let state = Data::new(State {
            agents,
            erasure: Erasure::new(store.clone(), dids.clone(), records.clone()),
            evidence: evidence.clone(),
            events: Events::new(store.clone(), &config.events, metrics.clone()),
            records,
            sessions,
            claims,
            dids,
            tokens,
            verdicts,
            readiness: Readiness::new(store.clone(), clock.clone()),
            statistics: Statistics::new(store.clone()),
            instances: Instances::new(store.clone()),
            webhooks,
            searches: Searches::new(store.clone()),
            bodies: Shares::new(
                config.limits.body_bytes,
                config.limits.body_bytes_per_peer,
                metrics.in_use.with_label_values(&["body_bytes"]),
            ),
            metrics: metrics.clone(),
            strangers_lines: Arc::new(strangers_lines),
            started_at: clock.now(),
            clock: clock.clone(),
            config: config.clone(),
            draining: Arc::new(AtomicBool::new(false)),
        });
        let heads = Heads::new(&store, keys.head_keys(), &config.data_dir, &metrics);
        let jobs = Jobs::start(
            &store,
            &metrics,
            &clock,
            certificates.as_ref(),
            OfEvents { heads, deliverer },
            &config,
            &Uuid::now_v7().to_string(),
        );
        let watcher = state.dids.watch(store.watch_dids());
        server::allow_files(&config);
        let connections = Connections::new(config.limits.clone(), metrics.clone());
        let api = server::api(&state, &config, &connections, api_listener, tls);
        let api = Listening::start(api.map_err(|error| setting("server.listen", &error))?);
        let ops = server::ops(&state, ops_listener);
        let ops = Listening::start(ops.map_err(|error| setting("ops.listen", &error))?);
        data_dir::write_note(&config.data_dir.join(API_ADDRESS_FILE), &api_address.to_string())?;
        data_dir::write_note(&config.data_dir.join(OPS_ADDRESS_FILE), &ops_address.to_string())?;
        Ok(Self {
            api_address,
            ops_address,
            admin_token,
            state,
            store,
            jobs,
            api,
            ops,
            watcher,
            evidence,
            certificates,
            _locks: (folder_lock, database_lock),
        })
    }

    /// Reads the certificate again, for new connections.
    pub fn reload(&self) {
        if let Some(certificates) = &self.certificates {
            certificates.reload();
        } else {
            tracing::info!("there is nothing to read again: no certificate is configured");
        }
    }

    /// Writes into the log that this instance started, with these settings.
    pub async fn record_start(&self, settings: &[Setting]) -> Result<(), ServiceError> {
        self.state.instances.record_start(&self.api_address.to_string(), settings).await
    }

    /// Stops in order: readiness turns 503, accepting stops, requests in flight are answered,
    /// jobs stop, waiting claims and calls of sessions are answered, the database is closed.
    pub async fn stop(self) {
        tracing::info!("stopping");
        self.state.draining.store(true, Ordering::SeqCst);
        tokio::select! {
            () = self.api.handle.stop(true) => {}
            () = self.quiet() => {}
        }
        self.api.task.abort();
        self.watcher.abort();
        let rest = async {
            self.jobs.stop().await;
            join(self.state.claims.close(), self.state.sessions.close()).await;
            self.evidence.close().await;
            heartbeat::depart(&self.store).await;
            self.store.close().await;
        };
        if tokio::time::timeout(LEFTOVERS, rest).await.is_err() {
            tracing::warn!("the database does not answer; stopping all the same");
        }
        self.ops.handle.stop(false).await;
        tracing::info!("stopped");
    }

    /// Waits until no request has been in flight for a while. The connections that are left are
    /// then idle, and wait for no answer.
    async fn quiet(&self) {
        let step = QUIET / 10;
        let mut quiet = Duration::ZERO;
        while quiet < QUIET {
            tokio::time::sleep(step).await;
            let busy = self.state.metrics.http_in_flight.get() > 0;
            quiet = if busy { Duration::ZERO } else { quiet + step };
        }
    }
}

/// Refuses an unsuitable database server before anything is changed there.
async fn look_at_server(store: &Store) -> Result<(), StartError> {
    for Finding { fatal, what } in store.findings().await? {
        if fatal {
            return Err(StoreError::Unsuitable(what).into());
        }
        tracing::warn!("{what}");
    }
    Ok(())
}

/// Takes an SQLite database for this process; PostgreSQL is shared.
pub fn lock_database(config: &Config) -> Result<Option<DatabaseLock>, DatabaseLockError> {
    match &config.database.url {
        DatabaseUrl::Sqlite(location) => DatabaseLock::take(location).map(Some),
        DatabaseUrl::Postgres(_) => Ok(None),
    }
}

/// SQLite is this process's own, and is migrated at every start. PostgreSQL is shared: only an
/// operator, or `database.migrate_on_start`, changes its schema.
async fn bring_schema_up_to_date(store: &Store, config: &Config) -> Result<(), StartError> {
    let migrations = store.migrations().await?;
    if let Some(unknown) = storage::migrations::unknown(&migrations) {
        return Err(StartError::Schema(format!(
            "the database has migration {unknown}, which this version of onceguard does not know; \
             start a newer version"
        )));
    }
    let pending = migrations.iter().filter(|migration| !migration.applied).count();
    if pending == 0 {
        return Ok(());
    }
    if matches!(store, Store::Postgres(_)) && !config.database.migrate_on_start {
        return Err(StartError::Schema(format!(
            "{pending} migrations are pending; run `onceguard migrate up`, or set \
             database.migrate_on_start = true"
        )));
    }
    if matches!(store, Store::Postgres(_))
        && pending == migrations.len()
        && let Some(served_before) = marks::served_before(config)
    {
        return Err(StartError::Lost(format!("the database is empty, {served_before}")));
    }
    for name in store.migrate_up().await? {
        tracing::info!(migration = name, "migrated");
    }
    Ok(())
}
