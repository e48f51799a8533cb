//! Opens one connection and sets it up. Only what may pass by itself is tried again: a server that
//! is unreachable, starting or a standby is, a wrong password or certificate is not. Once the store
//! serves, the [`Guard`] looks at each connection before it is used.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use rustls::Error as TlsError;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use super::assumptions::Assumptions;
use super::confirm::{awaited, confirm};
use super::failure::{ConnectError, SETUP_TIMEOUT};
use super::tls::Tls;
use crate::config::PostgresOptions;
use crate::metrics::Metrics;
use crate::storage::postgres::guard::{Admission, Guard, check_server, check_target};

/// The wait before the second try, which grows from try to try, and the longest: a server that is
/// back is used at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// How long the server may take to give up what is cancelled, and to say what that waited for.
const GIVING_UP: Duration = Duration::from_secs(1);
/// For one address, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that vanished is noticed after this and a few probes.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What every connection of a kind is opened with.
pub(crate) struct Connector {
    config: Config,
    tls: Tls,
    assumptions: Assumptions,
    /// Empty until the store serves.
    guard: Arc<OnceLock<Guard>>,
    /// Whether its connections may use a database that is being filled.
    fills: bool,
    /// For how long a server that may be back in a moment is tried again.
    patience: Duration,
    /// Of the last try, if it failed.
    last_error: Mutex<Option<ConnectError>>,
    metrics: Arc<Metrics>,
}

/// A connection, and how it may be used.
pub(crate) struct Opened {
    pub(super) connection: AsyncPgConnection,
    pub(super) admission: Admission,
}

impl Connector {
    pub(crate) fn new(
        options: &PostgresOptions,
        tls: Tls,
        assumptions: Assumptions,
        guard: Arc<OnceLock<Guard>>,
        patience: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut config = options.connection.clone();
        config.application_name("onceguard");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.keepalives_idle(KEEPALIVE);
        let over_socket = config.get_hostaddrs().is_empty()
            && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        // As in libpq, sslmode has no meaning there.
        let tls = if over_socket { Tls::Never } else { tls };
        // TLS needs a name of the server; an address is one.
        if config.get_hosts().is_empty() {
            for address in options.connection.get_hostaddrs() {
                config.host(address.to_string());
            }
        }
        // Of several servers, the one that takes writes; whatever their default says.
        let servers = config.get_hosts().len().max(config.get_hostaddrs().len());
        if servers > 1 && config.get_target_session_attrs() == TargetSessionAttrs::Any {
            let given = config.get_options().unwrap_or_default();
            let writable = format!("{given} -c default_transaction_read_only=off");
            config.options(writable).target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let (fills, last_error) = (false, Mutex::default());
        Self { config, tls, assumptions, guard, fills, patience, last_error, metrics }
    }

    /// Patient connections, which fill the database with the rows of another one.
    pub(crate) fn filling(&self) -> Self {
        Self { fills: true, ..self.patient() }
    }

    /// A connection without a limit on how long a statement may take, and without the guard, for
    /// migrations and recoveries.
    pub(crate) fn patient(&self) -> Self {
        Self {
            config: self.config.clone(),
            tls: self.tls.clone(),
            assumptions: self.assumptions.patient(),
            guard: Arc::default(),
            fills: false,
            patience: self.patience,
            last_error: Mutex::default(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Opens a connection that decides nothing, driven by the runtime that this is called on.
    pub(crate) async fn connect(&self) -> std::result::Result<AsyncPgConnection, ConnectError> {
        let opened = self.open(false).await?;
        self.whole(opened)
    }

    /// Opens a connection for a change that may take as long as it needs. Shows first that a commit
    /// comes back within [`SETUP_TIMEOUT`]: one that waits for a standby which is away would wait
    /// without an end or a word.
    pub(crate) async fn connect_to_change(
        &self,
    ) -> std::result::Result<AsyncPgConnection, ConnectError> {
        let mut connection = self.connect().await?;
        if let Ok(confirmed) = timeout(SETUP_TIMEOUT, confirm(&mut connection)).await {
            return match confirmed {
                Ok(()) => Ok(connection),
                Err(error) => Err(ConnectError::passing(format!("no commit is possible: {error}"))),
            };
        }
        // The server says for what, while the commit waits.
        let awaited = match self.attempt().await {
            Ok(mut other) => match timeout(GIVING_UP, awaited(&mut other)).await {
                Ok(Ok(names)) => names,
                Ok(Err(_)) | Err(_) => None,
            },
            Err(_) => None,
        };
        self.give_up(connection).await;
        let why = awaited.map_or_else(
            || "is its disk full, or slow?".to_owned(),
            |names| {
                format!(
                    "it waits for a synchronous standby (synchronous_standby_names = '{names}'): \
                     start the standby, or name one that answers"
                )
            },
        );
        let seconds = SETUP_TIMEOUT.as_secs();
        Err(ConnectError::passing(format!("no commit came back within {seconds} s: {why}")))
    }

    /// One try to do so.
    pub(crate) async fn attempt(&self) -> std::result::Result<AsyncPgConnection, ConnectError> {
        let opened = self.try_to_open(false).await?;
        self.whole(opened)
    }

    /// While a store serves, only its pools use a database that was cut.
    fn whole(&self, opened: Opened) -> std::result::Result<AsyncPgConnection, ConnectError> {
        if opened.admission.cut && self.guard.get().is_some() {
            return Err(ConnectError::went_back("the database went back in time"));
        }
        Ok(opened.connection)
    }

    pub(super) fn guard(&self) -> Option<&Guard> {
        self.guard.get()
    }

    /// Opens a connection, which `decides` or not, driven by the runtime that this is called on.
    pub(super) async fn open(&self, decides: bool) -> std::result::Result<Opened, ConnectError> {
        let began = Instant::now();
        let mut waits = ExponentialBuilder::default()
            .with_min_delay(FIRST_WAIT)
            .with_max_delay(LONGEST_WAIT)
            .without_max_times()
            .with_jitter()
            .build();
        let mut told = false;
        loop {
            let error = match self.try_to_open(decides).await {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            if !error.may_pass() || began.elapsed() >= self.patience {
                return Err(error);
            }
            if !told {
                tracing::warn!(%error, "cannot connect to the database; trying again");
                told = true;
            }
            sleep(waits.next().unwrap_or(LONGEST_WAIT)).await;
        }
    }

    /// One try, within [`SETUP_TIMEOUT`], but for a recovery.
    async fn try_to_open(&self, decides: bool) -> std::result::Result<Opened, ConnectError> {
        let attempt = timeout(SETUP_TIMEOUT, async {
            let mut connection = self.establish().await?;
            self.assumptions.establish(&mut connection).await?;
            Ok(connection)
        });
        let result = attempt.await.unwrap_or_else(|_| {
            let seconds = SETUP_TIMEOUT.as_secs();
            Err(ConnectError::passing(format!("no log-in within {seconds} s")))
        });
        let result = match result {
            Ok(connection) => self.admit(connection, decides).await,
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.metrics.connect_failures.inc();
        }
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) =
            result.as_ref().err().cloned();
        result
    }

    async fn admit(
        &self,
        mut connection: AsyncPgConnection,
        decides: bool,
    ) -> std::result::Result<Opened, ConnectError> {
        let admission = match self.guard.get() {
            Some(guard) => guard.admit(&mut connection, decides).await,
            None if self.fills => check_target(&mut connection).await,
            None => check_server(&mut connection).await,
        };
        match admission {
            Ok(admission) => Ok(Opened { connection, admission }),
            Err(error) => {
                // It may be waiting for a standby, with a row that the next check needs.
                self.give_up(connection).await;
                Err(error)
            }
        }
    }

    /// Why the last try failed; `None` when it did not.
    pub(super) fn last_error(&self) -> Option<ConnectError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes a connection whose answer nobody waits for any more, and has the server give up what
    /// it is doing. A server process that waits for a synchronous standby notices neither a
    /// timeout nor a closed connection: it would stay, and others come beside it. Returns when the
    /// process is free, or does not answer.
    pub(super) async fn give_up(&self, mut connection: AsyncPgConnection) {
        let token = connection.cancel_token();
        let given_up = async {
            let cancelled = match &self.tls {
                Tls::Never => token.cancel_query(NoTls).await,
                Tls::Always(tls) | Tls::IfPossible(tls) => token.cancel_query(tls.clone()).await,
            };
            if let Err(error) = cancelled {
                tracing::debug!(%error, "a statement could not be cancelled");
                return;
            }
            // Answered after what came before it.
            let _ = connection.batch_execute("ROLLBACK").await;
        };
        let _ = timeout(GIVING_UP, given_up).await;
    }

    async fn establish(&self) -> std::result::Result<AsyncPgConnection, ConnectError> {
        let mut config = self.config.clone();
        let connected = match &self.tls {
            Tls::Never => {
                let (client, connection) =
                    config.ssl_mode(SslMode::Disable).connect(NoTls).await.map_err(explain)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
            Tls::Always(tls) => {
                let (client, connection) = config
                    .ssl_mode(SslMode::Require)
                    .connect(tls.clone())
                    .await
                    .map_err(explain)?;
                AsyncPgConnection::try_from_client_and_connection(client, connection).await
            }
            Tls::IfPossible(tls) => {
                match config.ssl_mode(SslMode::Prefer).connect(tls.clone()).await {
                    Ok((client, connection)) => {
                        AsyncPgConnection::try_from_client_and_connection(client, connection).await
                    }
                    // As libpq: a server that spoils the encrypted try is tried without.
                    Err(error) if spoiled_by_tls(&error) => {
                        let (client, connection) = config
                            .ssl_mode(SslMode::Disable)
                            .connect(NoTls)
                            .await
                            .map_err(explain)?;
                        AsyncPgConnection::try_from_client_and_connection(client, connection).await
                    }
                    Err(error) => return Err(explain(error)),
                }
            }
        };
        connected.map_err(|error| ConnectError::passing(error.to_string()))
    }
}

fn spoiled_by_tls(error: &tokio_postgres::Error) -> bool {
    tls_error(error).is_some()
        || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

fn tls_error(error: &tokio_postgres::Error) -> Option<&TlsError> {
    error.source()?.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

#[allow(clippy::needless_pass_by_value, reason = "it maps errors")]
fn explain(error: tokio_postgres::Error) -> ConnectError {
    // Neither text holds the password: the server's has at most the user's and database's names.
    let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    if let Some(code) = error.code() {
        let passing = [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
        ]
        .contains(code);
        let reason = format!("the server refused{cause}");
        return if passing { ConnectError::passing(reason) } else { ConnectError::lasting(reason) };
    }
    if tls_error(&error).is_some() {
        return ConnectError::lasting(format!("TLS failed{cause}"));
    }
    let passing =
        error.is_closed() || error.source().is_some_and(<dyn std::error::Error>::is::<io::Error>);
    let reason = error.to_string() + &cause;
    if passing { ConnectError::passing(reason) } else { ConnectError::lasting(reason) }
}
