//! onceguard itself: the release binary with its defaults, except for addresses, credentials and
//! the log, which has only warnings unless a row says otherwise.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Result;
use crate::bench::{Bench, Sample, Subject};
use crate::postgres::{Database, Postgres};
use crate::process::{self, Process};
use crate::wire::{self, HttpClient, ID, OpenAndEnd, TOKEN};

/// For throw-away databases only.
const SEALING_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// The number of claims in a batch.
pub const BATCH: usize = 256;
/// Some did:key (W3C did:key, test vectors of Ed25519).
pub const DID: &str = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";

/// The number of sessions that claims and reads are spread over.
const SESSIONS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Sqlite,
    Postgres,
}

/// The data folder and the database of services, both empty at first.
pub struct Home<'b> {
    bench: &'b Bench,
    /// Of SQLite, the database is in it.
    pub folder: TempDir,
    pub database: Option<Database<'b>>,
    /// Settings beside those of every service here.
    environment: Vec<(&'static str, &'static str)>,
}

/// A running service.
pub struct Service<'h> {
    process: Process,
    pub api: SocketAddr,
    pub ops: SocketAddr,
    postgres: Option<&'h Postgres>,
}

impl<'b> Home<'b> {
    pub fn new(bench: &'b Bench, on: On) -> Result<Self> {
        let database = match on {
            On::Sqlite => None,
            On::Postgres => Some(bench.postgres.database()?),
        };
        Ok(Self { bench, folder: bench.folder()?, database, environment: Vec::new() })
    }

    pub fn set(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// A command of onceguard, with the settings of the service.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onceguard"));
        command
            .env_clear()
            .env("ONCEGUARD_DATA_DIR", self.folder.path())
            .env("ONCEGUARD_SERVER__LISTEN", "127.0.0.1:0")
            .env("ONCEGUARD_OPS__LISTEN", "127.0.0.1:0")
            .env("ONCEGUARD_DATABASE__MIGRATE_ON_START", "true")
            .env("ONCEGUARD_SEALING__KEY", SEALING_KEY)
            .env("ONCEGUARD_AUTH__ADMIN_TOKEN", TOKEN)
            .env("RUST_LOG", "warn")
            .envs(self.environment.iter().copied());
        if let Some(database) = &self.database {
            command.env("DATABASE_URL", database.url.as_str());
        }
        command
    }

    /// Starts the service, and returns when it is ready.
    pub fn start(&self) -> Result<Service<'_>> {
        let folder = self.folder.path();
        for name in ["listen.addr", "ops.addr"] {
            let _ = fs::remove_file(folder.join(name));
        }
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(File::create(folder.join("log"))?);
        let process = Process::spawn(&mut command)?;
        let address = |name: &str| {
            // Without its last character, the line is not complete yet.
            let text = fs::read_to_string(folder.join(name)).ok()?;
            text.strip_suffix('\n')?.parse().ok()
        };
        let serving = process.until("onceguard", || address("ops.addr")).and_then(|ops| {
            let ready = wire::http("GET", "/readyz", "");
            process.until("onceguard", || wire::call(ops, &ready, 200).ok())?;
            Ok(ops)
        });
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        let ops = serving.map_err(|error| format!("{error}\n{}", log()))?;
        let api = address("listen.addr").ok_or("onceguard does not say where it listens")?;
        let postgres = self.database.as_ref().map(|_| &self.bench.postgres);
        Ok(Service { process, api, ops, postgres })
    }
}

impl Service<'_> {
    /// Opens sessions; their ids.
    pub fn sessions(&self) -> Result<Arc<[String]>> {
        let body = r#"{"client_did":"did:web:a.example","server_did":"did:web:b.example"}"#;
        let request = wire::http("POST", "/v1/sessions", body);
        let open = |_| {
            let body = wire::call(self.api, &request, 201)?;
            let session: serde_json::Value = serde_json::from_slice(&body)?;
            Ok(session["id"].as_str().ok_or("a session without id")?.to_owned())
        };
        (0..SESSIONS).map(open).collect()
    }

    pub fn subject(&self) -> Subject<'_> {
        Subject { address: self.api, pid: self.process.id(), postgres: self.postgres }
    }

    /// How many rows of a kind its purge has deleted. It asks the service, because a query would
    /// cost the measured database time.
    pub fn purged(&self, rows: &str) -> Result<usize> {
        let metrics = wire::call(self.ops, &wire::http("GET", "/metrics", ""), 200)?;
        let name = format!("onceguard_purged_rows_total{{kind=\"{rows}\"}} ");
        let value = |line: &str| line.strip_prefix(&name).map(str::parse);
        Ok(String::from_utf8(metrics)?.lines().find_map(value).transpose()?.unwrap_or(0))
    }

    /// Resident memory, in MiB.
    pub fn memory(&self) -> f64 {
        process::memory(self.process.id()).map_or(f64::NAN, |(resident, _)| resident)
    }

    /// Stops it as an operator does.
    pub fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// One claim in a request.
pub fn claims(bench: &Bench, on: On, connections: usize) -> Result<Sample> {
    single(bench, &Home::new(bench, on)?, connections)
}

/// The same, with the default log: a line for each request, written to a file.
pub fn logged_claims(bench: &Bench, on: On, connections: usize) -> Result<Sample> {
    single(bench, &Home::new(bench, on)?.set("RUST_LOG", "info"), connections)
}

fn single(bench: &Bench, home: &Home<'_>, connections: usize) -> Result<Sample> {
    let service = home.start()?;
    let sessions = service.sessions()?;
    let request = wire::single_claim();
    let client = || HttpClient::boxed(&request, &sessions, 201, 0);
    service.subject().measure(bench, connections, 1, &client)
}

/// [`BATCH`] claims in a request.
pub fn batches(bench: &Bench, on: On, connections: usize) -> Result<Sample> {
    let home = Home::new(bench, on)?;
    let service = home.start()?;
    let sessions = service.sessions()?;
    let request = wire::batch_of_claims(BATCH);
    let client = || HttpClient::boxed(&request, &sessions, 200, BATCH);
    service.subject().measure(bench, connections, BATCH, &client)
}

/// Reads of one DID, which is in the cache.
pub fn cached_did(bench: &Bench, on: On, connections: usize) -> Result<Sample> {
    let home = Home::new(bench, on)?;
    let service = home.start()?;
    let request = wire::http("GET", &format!("/v1/dids/{DID}"), "");
    let client = || HttpClient::boxed(&request, &Arc::default(), 200, 0);
    service.subject().measure(bench, connections, 1, &client)
}

pub fn session_reads(bench: &Bench, on: On, connections: usize) -> Result<Sample> {
    let home = Home::new(bench, on)?;
    let service = home.start()?;
    let sessions = service.sessions()?;
    let request = wire::http("GET", &format!("/v1/sessions/{ID}"), "");
    let client = || HttpClient::boxed(&request, &sessions, 200, 0);
    service.subject().measure(bench, connections, 1, &client)
}

/// Each connection opens a session, then ends it, and so on.
pub fn session_turns(bench: &Bench, on: On, connections: usize) -> Result<Sample> {
    let home = Home::new(bench, on)?;
    home.start()?.subject().measure(bench, connections, 1, &OpenAndEnd::boxed)
}

/// From the start of the process until it is ready, on an SQLite database that exists, in
/// milliseconds.
pub fn start(bench: &Bench) -> Result<Vec<f64>> {
    let home = Home::new(bench, On::Sqlite)?;
    home.start()?.stop()?;
    let started = Instant::now();
    let _service = home.start()?;
    Ok(vec![started.elapsed().as_secs_f64() * 1e3])
}

/// Resident memory two seconds after the start, in MiB: on SQLite, and on PostgreSQL.
pub fn idle_memory(bench: &Bench) -> Result<Vec<f64>> {
    let homes = [Home::new(bench, On::Sqlite)?, Home::new(bench, On::Postgres)?];
    let services: Result<Vec<_>> = homes.iter().map(Home::start).collect();
    std::thread::sleep(Duration::from_secs(2));
    Ok(services?.iter().map(Service::memory).collect())
}
