//! `onceguard serve`: runs the service until SIGTERM or SIGINT.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::health::reachable;
use super::{Failure, out};
use crate::app::{Application, StartError};
use crate::clock::Clock;
use crate::config::Loaded;
use crate::data_dir::DataDirError;
use crate::metrics::Metrics;
use crate::services::AdminToken;
use crate::storage::sqlite::DatabaseLockError;
use crate::telemetry;

/// How long the announcement may take to be written to standard output.
const ANNOUNCING: Duration = Duration::from_secs(1);

pub(super) async fn run(loaded: Loaded) -> Result<(), Failure> {
    let Loaded { config, settings } = loaded;
    let metrics = Arc::new(Metrics::new()?);
    telemetry::init(&config.log, &config.log.filter, &metrics).map_err(Failure::Usage)?;
    let mut stop = StopSignal::listen()?;
    // From here on, SIGHUP no longer ends the process, not even during the start.
    let mut hangup = listen(SignalKind::hangup())?;
    let has_tls = config.server.tls.is_some();
    let application = tokio::select! {
        started = Application::start(config, Clock::system(), metrics) => started?,
        () = stop.wait() => return Ok(()),
    };
    if let Err(error) = application.record_start(&settings).await {
        application.stop().await;
        return Err(error.into());
    }
    tracing::info!(api = %application.api_address, ops = %application.ops_address, "serving");
    announce(announcement(&application, has_tls)).await;
    loop {
        tokio::select! {
            () = stop.wait() => break,
            _ = hangup.recv() => application.reload(),
        }
    }
    tokio::select! {
        () = application.stop() => Ok(()),
        () = stop.wait() => Err(Failure::Failed("stopped at once, by a second signal".to_owned())),
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(error) => error.into(),
            StartError::Sealing(error) => error.into(),
            StartError::Service(error) => error.into(),
            StartError::DatabaseLock(error) => error.into(),
            StartError::Schema(_)
            | StartError::Moved(_)
            | StartError::Lost(_)
            | StartError::WentBack(_)
            | StartError::Mark(_)
            | StartError::DataDir(DataDirError::InUse { .. }) => Self::Refused(error.to_string()),
            StartError::DataDir(DataDirError::Io { .. }) | StartError::Setting { .. } => {
                Self::Failed(error.to_string())
            }
        }
    }
}

impl From<DataDirError> for Failure {
    fn from(error: DataDirError) -> Self {
        match error {
            DataDirError::InUse { .. } => Self::Refused(error.to_string()),
            DataDirError::Io { .. } => Self::Failed(error.to_string()),
        }
    }
}

impl From<DatabaseLockError> for Failure {
    fn from(error: DatabaseLockError) -> Self {
        match error {
            DatabaseLockError::InUse { .. } | DatabaseLockError::HardLinks { .. } => {
                Self::Refused(error.to_string())
            }
            DatabaseLockError::Io { .. } => Self::Failed(error.to_string()),
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::Failed(format!("cannot take signals: {error}")))
}

/// SIGTERM, as service managers send it, or SIGINT, as Ctrl-C does.
pub(super) struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Writes to standard output on a thread of its own. If nothing reads the output, that thread is
/// abandoned, and the service still serves and stops.
async fn announce(text: String) {
    let (written, wait) = oneshot::channel();
    let write = move || {
        let _ = out::line(text);
        let _ = written.send(());
    };
    if thread::Builder::new().name("announce".to_owned()).spawn(write).is_ok() {
        let _ = tokio::time::timeout(ANNOUNCING, wait).await;
    }
}

/// Says where the service listens, and how to make a first call.
fn announcement(application: &Application, has_tls: bool) -> String {
    let scheme = if has_tls { "https" } else { "http" };
    let (api, ops) = (application.api_address, application.ops_address);
    let version = env!("CARGO_PKG_VERSION");
    let tokens = match &application.admin_token {
        AdminToken::Created(path) => {
            format!(
                "admin token created in {}\n{}",
                path.display(),
                try_it(scheme, api, &cat(path))
            )
        }
        AdminToken::InFile(path) => {
            format!("admin token {}\n{}", path.display(), try_it(scheme, api, &cat(path)))
        }
        AdminToken::Configured => format!(
            "admin token auth.admin_token of the configuration\n{}",
            try_it(scheme, api, "$ONCEGUARD_AUTH__ADMIN_TOKEN")
        ),
        AdminToken::Elsewhere => {
            "tokens      made earlier; `onceguard token create` makes one, `token list` shows them"
                .to_owned()
        }
        AdminToken::NoneValid => "tokens      none is valid: they were revoked or have expired; \
             `onceguard token create` makes one"
            .to_owned(),
    };
    format!(
        "onceguard {version} is ready\n\
         API         {scheme}://{api}/v1 (pages: /docs, /problems)\n\
         operations  http://{ops}/metrics, /livez, /readyz\n\
         {tokens}"
    )
}

fn try_it(scheme: &str, address: SocketAddr, token: &str) -> String {
    format!("try it:\n{}", curl(scheme, address, token))
}

/// A line to paste into a shell on this machine.
fn curl(scheme: &str, address: SocketAddr, token: &str) -> String {
    let address = reachable(address);
    // The certificate names a host, but this line an address.
    let insecure = if scheme == "https" { " --insecure" } else { "" };
    format!("  curl{insecure} -H \"Authorization: Bearer {token}\" {scheme}://{address}/v1/stats")
}

fn cat(path: &Path) -> String {
    format!("$(cat {})", quoted(&path.display().to_string()))
}

/// The text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@%:,".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_paste_survives_a_shell() {
        assert_eq!(cat(Path::new("./data/admin.token")), "$(cat ./data/admin.token)");
        assert_eq!(cat(Path::new("/my data/a'b")), r"$(cat '/my data/a'\''b')");
        assert_eq!(
            curl("http", SocketAddr::from(([0, 0, 0, 0], 80)), "T"),
            "  curl -H \"Authorization: Bearer T\" http://127.0.0.1:80/v1/stats"
        );
    }
}
