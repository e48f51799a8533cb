//! Opens one connection and sets it up. Only what may pass by itself is tried again: an
//! unreachable or starting server is, a wrong password or certificate is not.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use rustls::Error as TlsError;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};
use uuid::Uuid;

use super::tls::Tls;
use crate::metrics::Metrics;
use crate::storage::PostgresOptions;

/// Tries after the first one, and the wait before the first of them; it doubles each time.
const RETRIES: usize = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// For one address, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For TCP, TLS, log-in and set-up together.
const SETUP_TIMEOUT: Duration = Duration::from_secs(15);
/// A peer that vanished is noticed after this and a few probes.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What every connection of a kind is opened with.
pub(super) struct Connector {
    config: Config,
    tls: Tls,
    /// Statements that set the session up.
    setup: String,
    metrics: Arc<Metrics>,
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct ConnectError {
    reason: String,
    /// It may go better in a moment.
    passing: bool,
}

impl ConnectError {
    /// The connection was closed while nobody used it.
    pub(super) fn closed() -> Self {
        Self { reason: "the connection was closed".into(), passing: true }
    }

    /// The runtime that connections are driven by is ending.
    pub(super) fn aborted(error: &tokio::task::JoinError) -> Self {
        Self { reason: format!("connecting was given up: {error}"), passing: false }
    }
}

impl Connector {
    pub(super) fn new(
        options: &PostgresOptions,
        tls: Tls,
        instance: Uuid,
        statement_timeout: Duration,
        planner: &str,
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
        let milliseconds = statement_timeout.as_millis();
        let setup = format!(
            "SET TIME ZONE 'UTC';
             SET synchronous_commit = on;
             SET onceguard.instance = '{instance}';
             SET statement_timeout = {milliseconds};
             SET idle_in_transaction_session_timeout = {milliseconds};
             {planner}"
        );
        Self { config, tls, setup, metrics }
    }

    /// A connection without a limit on how long a statement may take, for migrations.
    pub(super) fn patient(&self) -> Self {
        Self {
            config: self.config.clone(),
            tls: self.tls.clone(),
            setup: "SET TIME ZONE 'UTC'; SET statement_timeout = 0;".into(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Opens a connection, driven by the runtime that this is called on.
    pub(super) async fn connect(&self) -> std::result::Result<AsyncPgConnection, ConnectError> {
        let waits = ExponentialBuilder::default()
            .with_min_delay(FIRST_WAIT)
            .with_max_times(RETRIES)
            .with_jitter();
        (|| self.attempt())
            .retry(waits)
            .when(|error| error.passing)
            .notify(|error, wait| {
                tracing::warn!(%error, ?wait, "cannot connect to the database; trying again");
            })
            .await
    }

    /// One try, within [`SETUP_TIMEOUT`].
    pub(super) async fn attempt(&self) -> std::result::Result<AsyncPgConnection, ConnectError> {
        let attempt = timeout(SETUP_TIMEOUT, async {
            let mut connection = self.establish().await?;
            connection.batch_execute(&self.setup).await.map_err(|error| ConnectError {
                reason: format!("the connection could not be set up: {error}"),
                passing: false,
            })?;
            Ok(connection)
        });
        let result = attempt.await.unwrap_or_else(|_| {
            Err(ConnectError {
                reason: format!("no log-in within {} s", SETUP_TIMEOUT.as_secs()),
                passing: true,
            })
        });
        if result.is_err() {
            self.metrics.connect_failures.inc();
        }
        result
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
        connected.map_err(|error| ConnectError { reason: error.to_string(), passing: true })
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
        return ConnectError { reason: format!("the server refused{cause}"), passing };
    }
    if tls_error(&error).is_some() {
        return ConnectError { reason: format!("TLS failed{cause}"), passing: false };
    }
    let passing =
        error.is_closed() || error.source().is_some_and(<dyn std::error::Error>::is::<io::Error>);
    ConnectError { reason: error.to_string() + &cause, passing }
}
