//! `onceguard serve`: runs the service until it is told to stop.

use std::net::SocketAddr;
use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::health::reachable;
use super::{Failure, out};
use crate::app::{Application, StartError};
use crate::clock::Clock;
use crate::config::Loaded;
use crate::data_dir::DataDirError;
use crate::services::AdminToken;
use crate::telemetry;

pub(super) async fn run(loaded: Loaded) -> Result<(), Failure> {
    let config = loaded.config;
    telemetry::init(config.log.format, &config.log.filter).map_err(Failure::Usage)?;
    let mut stop = StopSignal::listen()?;
    let has_tls = config.server.tls.is_some();
    let application = tokio::select! {
        started = Application::start(config, Clock::system()) => started?,
        () = stop.wait() => return Ok(()),
    };
    tracing::info!(api = %application.api_address, ops = %application.ops_address, "serving");
    // A service whose standard output is closed serves all the same.
    let _ = announce(&application, has_tls);
    stop.wait().await;
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
            StartError::Schema(_) | StartError::DataDir(DataDirError::InUse { .. }) => {
                Self::Refused(error.to_string())
            }
            StartError::DataDir(DataDirError::Io { .. })
            | StartError::Setting { .. }
            | StartError::Metrics(_) => Self::Failed(error.to_string()),
        }
    }
}

/// SIGTERM, as service managers send it, or SIGINT, as Ctrl-C does.
struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::Failed(format!("cannot take signals: {error}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Says where it listens, and how to make a first call.
fn announce(application: &Application, has_tls: bool) -> Result<(), Failure> {
    let scheme = if has_tls { "https" } else { "http" };
    let (api, ops) = (application.api_address, application.ops_address);
    out::line(format!("onceguard {} is ready", env!("CARGO_PKG_VERSION")))?;
    out::line(format!("API         {scheme}://{api}/v1 (pages: /docs, /openapi.json)"))?;
    out::line(format!("operations  http://{ops}/metrics, /livez, /readyz"))?;
    match &application.admin_token {
        AdminToken::Created(path) => {
            out::line(format!("admin token created in {}", path.display()))?;
            try_it(&curl(scheme, api, &cat(path)))
        }
        AdminToken::InFile(path) => {
            out::line(format!("admin token {}", path.display()))?;
            try_it(&curl(scheme, api, &cat(path)))
        }
        AdminToken::Configured => {
            out::line("admin token auth.admin_token of the configuration")?;
            try_it(&curl(scheme, api, "$ONCEGUARD_AUTH__ADMIN_TOKEN"))
        }
        AdminToken::Elsewhere => out::line(
            "tokens      made earlier; `onceguard token create` makes one, `token list` shows them",
        ),
    }
}

fn try_it(line: &str) -> Result<(), Failure> {
    out::line("try it:")?;
    out::line(line)
}

/// A line to paste into a shell on this machine.
fn curl(scheme: &str, address: SocketAddr, token: &str) -> String {
    let address = reachable(address);
    // A certificate names a host, and this line an address.
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
