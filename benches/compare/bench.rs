//! One run of one load: its results and its costs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::Result;
use crate::load::{Load, Pace, Running};
use crate::postgres::Postgres;
use crate::process;
use crate::wire::Client;

const WARM_UP: Duration = Duration::from_secs(1);

/// Which rows to measure.
#[derive(Args)]
pub struct Only {
    /// Only what has one of these parts in its id, such as claims/redis, /64, live/sqlite or
    /// purge/postgresql
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<String>,
}

impl Only {
    pub fn wants(&self, id: &str) -> bool {
        let mut parts = self.only.iter().filter(|part| !part.is_empty()).peekable();
        parts.peek().is_none() || parts.any(|part| id.contains(part.as_str()))
    }
}

/// The surroundings of the measurements.
pub struct Bench {
    pub postgres: Postgres,
    /// How long each load is measured.
    pub measured: Duration,
    /// The folder for the results, below the target folder.
    pub output: PathBuf,
    /// The folder for all data except PostgreSQL's, on the same disk as PostgreSQL's.
    folder: tempfile::TempDir,
}

impl Bench {
    pub fn new(seconds: u64) -> Result<Self> {
        let postgres = Postgres::from_environment()?;
        let folder = tempfile::tempdir_in(postgres.folder())?;
        process::end_all_on_signals(folder.path())?;
        let target = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let output = target.parent().ok_or("no target folder")?.join("bench");
        std::fs::create_dir_all(&output)?;
        Ok(Self { postgres, measured: Duration::from_secs(seconds), output, folder })
    }

    /// An empty folder, removed when dropped.
    pub fn folder(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(&self.folder)?)
    }
}

/// The results of one run. Times are per operation: a batch of 256 claims counts as 256 operations.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub per_second: f64,
    /// Of requests, in milliseconds.
    pub p50: f64,
    pub p99: f64,
    /// Processor time in microseconds. `None` where it cannot be read.
    pub server_cpu: Option<f64>,
    pub database_cpu: Option<f64>,
    pub client_cpu: Option<f64>,
    /// The server's highest resident memory, in MiB.
    pub memory: Option<f64>,
}

/// A server under a closed loop.
pub struct Subject<'a> {
    pub address: std::net::SocketAddr,
    /// Its process.
    pub pid: u32,
    /// The PostgreSQL that the server uses, if it does.
    pub postgres: Option<&'a Postgres>,
}

impl Subject<'_> {
    /// Loads the server. `weight` is the number of operations in one request.
    pub fn measure(
        &self,
        bench: &Bench,
        connections: usize,
        weight: usize,
        client: &dyn Fn() -> Box<dyn Client>,
    ) -> Result<Sample> {
        let load = Load { address: self.address, connections, pace: Pace::Closed, client };
        let mut running = Running::start(&load)?;
        std::thread::sleep(WARM_UP);
        let before = self.cpu_times();
        running.measure();
        std::thread::sleep(bench.measured);
        let after = self.cpu_times();
        let tally = running.finish()?;
        let operations = (tally.latencies.len() * weight as u64) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / operations;
        let used = |number: usize| Some(each(after[number]?.saturating_sub(before[number]?)));
        // The generator counts its threads' time from their start.
        let share = tally.elapsed.as_secs_f64() / (tally.elapsed + WARM_UP).as_secs_f64();
        let quantile = |part| tally.latencies.value_at_quantile(part) as f64 / 1e6;
        Ok(Sample {
            per_second: tally.per_second() * weight as f64,
            p50: quantile(0.5),
            p99: quantile(0.99),
            server_cpu: used(0),
            database_cpu: used(1),
            client_cpu: Some(each(tally.cpu) * share),
            memory: process::memory(self.pid).map(|(_, highest)| highest),
        })
    }

    /// Of the server, and of its database.
    fn cpu_times(&self) -> [Option<Duration>; 2] {
        [process::cpu_time(self.pid), self.postgres.and_then(Postgres::cpu_time)]
    }
}
