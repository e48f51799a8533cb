//! The composition root: builds the whole service from a configuration, once, and takes it
//! apart again in the right order.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::{Config, Tls};
use crate::data_dir::{self, API_ADDRESS_FILE, DataDirError, DataDirLock, OPS_ADDRESS_FILE};
use crate::http::middleware::Observe;
use crate::http::{self, State};
use crate::jobs::{Jobs, purge};
use crate::metrics::Metrics;
use crate::resolvers::{InvalidResolver, Resolvers};
use crate::services::{
    AdminToken, Claims, Dids, Sealer, SealingError, SealingKeys, ServiceError, Sessions, Tokens,
    Verdicts, admit_keys,
};
use crate::storage::{ClaimLimits, Store, StoreError};

/// A client that has not sent a whole request head by then is cut off.
const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long no request must be in flight before idle connections are simply closed at a stop.
const QUIET: Duration = Duration::from_millis(500);
/// How long a stop waits for the database once nobody waits for an answer any more. What is cut
/// off then is rolled back.
const LEFTOVERS: Duration = Duration::from_secs(10);

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database's schema is not this version's, and is not changed by a start.
    #[error("{0}")]
    Schema(String),
    #[error(transparent)]
    Sealing(#[from] SealingError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("{key}: {message}")]
    Setting { key: &'static str, message: String },
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl From<InvalidResolver> for StartError {
    fn from(InvalidResolver { key, message }: InvalidResolver) -> Self {
        Self::Setting { key, message }
    }
}

/// The running service.
pub struct Application {
    /// The bound addresses.
    pub api_address: SocketAddr,
    pub ops_address: SocketAddr,
    /// Where the operator finds the admin token.
    pub admin_token: AdminToken,
    state: Data<State>,
    jobs: Jobs,
    api: Listening,
    ops: Listening,
    watcher: JoinHandle<()>,
    _lock: DataDirLock,
}

/// A started HTTP server.
struct Listening {
    handle: ServerHandle,
    task: JoinHandle<std::io::Result<()>>,
}

impl Listening {
    fn start(server: Server) -> Self {
        Self { handle: server.handle(), task: tokio::spawn(server) }
    }
}

/// Opens the configured database, without migrating it.
pub async fn open_store(
    config: &Config,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Result<Store, StoreError> {
    let limits = ClaimLimits { quota_per_signer: config.claims.quota_per_signer };
    Store::open(&config.database, limits, metrics.clone(), clock.clone()).await
}

impl Application {
    /// Builds and starts everything. When this returns, requests are being served.
    ///
    /// Must be called on a multi-thread Tokio runtime, which drives the database connections.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        data_dir::create(&config.data_dir)?;
        let lock = data_dir::lock(&config.data_dir)?;
        for file in [API_ADDRESS_FILE, OPS_ADDRESS_FILE] {
            data_dir::remove_note(&config.data_dir.join(file))?;
        }
        let metrics = Arc::new(Metrics::new()?);
        let store = open_store(&config, &metrics, &clock).await?;
        bring_schema_up_to_date(&store, &config).await?;

        // A key that is made for a database that was sealed with another could open nothing.
        let first = matches!(store, Store::Sqlite(_)) && store.sealing_keys().await?.is_empty();
        let keys = SealingKeys::load(&config.sealing, &config.data_dir, first)?;
        let sealer = Sealer::new(&keys);
        admit_keys(&sealer, &store).await?;
        let tokens = Tokens::new(store.clone(), clock.clone());
        let admin_token = tokens.ensure_admin(&config.auth, &config.data_dir).await?;

        let api_listener = bind("server.listen", config.server.listen)?;
        let ops_listener = bind("ops.listen", config.ops.listen)?;
        let api_address = local_address("server.listen", &api_listener)?;
        let ops_address = local_address("ops.listen", &ops_listener)?;
        let tls = config.server.tls.as_ref().map(tls_config).transpose()?;

        let config = Arc::new(config);
        let sessions = Sessions::new(store.clone(), sealer, &config.sessions, metrics.clone());
        let claims = Claims::start(store.clone(), &config.claims, metrics.clone());
        let resolvers =
            Resolvers::new(&config.resolvers, metrics.clone(), tokio::runtime::Handle::current())?;
        let dids =
            Dids::new(store.clone(), resolvers, &config.dids, clock.clone(), metrics.clone());
        let verdicts = Verdicts::new(
            dids.clone(),
            claims.clone(),
            sessions.clone(),
            config.signatures.profiles.as_slice().into(),
            config.dids.max_stale,
            clock.clone(),
        );
        let state = Data::new(State {
            sessions,
            claims,
            dids,
            tokens,
            verdicts,
            store: store.clone(),
            metrics: metrics.clone(),
            started_at: clock.now(),
            clock,
            config: config.clone(),
            draining: Arc::new(AtomicBool::new(false)),
        });
        let jobs = Jobs::start(
            &store,
            &metrics,
            purge::Limits::new(&config),
            &config.jobs,
            &Uuid::now_v7().to_string(),
        );
        let watcher = state.dids.watch(store.watch_dids());
        let api = Listening::start(api_server(&state, &config, api_listener, tls)?);
        let ops = Listening::start(ops_server(&state, ops_listener)?);
        data_dir::write_note(&config.data_dir.join(API_ADDRESS_FILE), &api_address.to_string())?;
        data_dir::write_note(&config.data_dir.join(OPS_ADDRESS_FILE), &ops_address.to_string())?;
        Ok(Self {
            api_address,
            ops_address,
            admin_token,
            state,
            jobs,
            api,
            ops,
            watcher,
            _lock: lock,
        })
    }

    /// Stops in order: readiness turns 503, accepting stops, requests in flight are answered,
    /// jobs stop, waiting claims are answered, the database is closed.
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
            self.state.claims.close().await;
            self.state.store.close().await;
        };
        if tokio::time::timeout(LEFTOVERS, rest).await.is_err() {
            tracing::warn!("the database does not answer; stopping all the same");
        }
        self.ops.handle.stop(false).await;
        tracing::info!("stopped");
    }

    /// Waits until no request has been in flight for a while: what is left then is idle
    /// keep-alive connections, which need no answer.
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

/// SQLite is this process's own, and is migrated at every start. PostgreSQL is shared: only an
/// operator, or `database.migrate_on_start`, changes its schema.
async fn bring_schema_up_to_date(store: &Store, config: &Config) -> Result<(), StartError> {
    let migrations = store.migrations().await?;
    if let Some(unknown) = migrations.iter().find(|migration| !migration.known) {
        return Err(StartError::Schema(format!(
            "the database has migration {}, which this version of onceguard does not know; \
             start a newer version",
            unknown.name
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
    for name in store.migrate_up().await? {
        tracing::info!(migration = name, "migrated");
    }
    Ok(())
}

fn api_server(
    state: &Data<State>,
    config: &Config,
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
) -> Result<Server, StartError> {
    let data = state.clone();
    let server = HttpServer::new(move || {
        App::new().app_data(data.clone()).wrap(Observe::api(&data)).configure(http::routes::api)
    })
    .shutdown_timeout(config.server.shutdown_timeout.as_secs())
    .client_request_timeout(REQUEST_HEAD_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    .disable_signals();
    let server = match config.server.workers {
        0 => server,
        workers => server.workers(workers),
    };
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls),
        None => server.listen(listener),
    };
    Ok(server.map_err(|error| setting("server.listen", &error))?.run())
}

fn ops_server(state: &Data<State>, listener: TcpListener) -> Result<Server, StartError> {
    let data = state.clone();
    let server = HttpServer::new(move || {
        App::new().app_data(data.clone()).wrap(Observe::ops(&data)).configure(http::ops::routes)
    })
    .workers(1)
    .client_request_timeout(REQUEST_HEAD_TIMEOUT)
    .disable_signals()
    .listen(listener);
    Ok(server.map_err(|error| setting("ops.listen", &error))?.run())
}

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error| StartError::Setting {
        key,
        message: format!("cannot listen on {address}: {error}"),
    })
}

fn local_address(key: &'static str, listener: &TcpListener) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| setting(key, &error))
}

fn setting(key: &'static str, error: &impl std::fmt::Display) -> StartError {
    StartError::Setting { key, message: error.to_string() }
}

fn tls_config(tls: &Tls) -> Result<rustls::ServerConfig, StartError> {
    let cert_error = |error: &dyn std::fmt::Display| {
        setting("server.tls.cert", &format!("{}: {error}", tls.cert.display()))
    };
    let chain = CertificateDer::pem_file_iter(&tls.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| cert_error(&error))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| setting("server.tls.key", &format!("{}: {error}", tls.key.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| cert_error(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| cert_error(&error))
}
