//! The commands and flags, and which code runs for each.

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use super::failure::Failure;
use super::quiet::quiet;
use super::{
    audit, backup, config, doctor, health, instances, key, migrate, out, purge, records, recover,
    restore, sealing, seed, serve, sign, stats, token, transfer, verify, webhooks,
};
use crate::config::{Need, Sources};
use crate::telemetry;

/// The command line of onceguard.
#[derive(Debug, Parser)]
#[command(
    name = "onceguard",
    version,
    about = "The trust-state service for agents: sessions between DIDs, nonces accepted at most \
             once, DID keys and revocations.",
    after_help = "Without a command, it serves.\n\n\
                  Exit codes:\n  \
                  0  done\n  \
                  1  failed\n  \
                  2  the command line or the configuration is wrong\n  \
                  3  the database is not available; trying again may help\n  \
                  4  refused, and nothing was changed\n\n\
                  Examples:\n  \
                  onceguard\n  \
                  onceguard --data-dir /var/lib/onceguard --listen 0.0.0.0:8080\n  \
                  DATABASE_URL=postgres://onceguard@db/onceguard onceguard migrate up\n  \
                  onceguard token create --name agents --scope sessions --scope nonces\n  \
                  onceguard key new --out agent.key\n  \
                  onceguard sign GET 'https://shop.example/orders?id=7' --key agent.key --curl\n  \
                  onceguard verify request.http"
)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The flags that override the file and the environment.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configuration")]
struct Settings {
    /// Read this TOML file; config/default.toml documents every key
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep files here [default: ./data]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// sqlite://PATH or postgres://USER@HOST/DATABASE [default: sqlite://DATA_DIR/onceguard.db]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Serve the API here; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API until SIGTERM or SIGINT (the default)
    #[command(
        after_help = "SIGHUP reads the certificate (server.tls) again. It is also read again \
        within a minute after its files change.\n\n\
        Example:\n  onceguard serve --config config/production.toml"
    )]
    Serve,
    /// Apply, revert or list the database's migrations
    #[command(subcommand)]
    Migrate(migrate::Migrate),
    /// Make, list or revoke API tokens
    #[command(subcommand)]
    Token(token::Token),
    /// Read the log of events (the audit trail, and what callers published), or check it
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Write everything that the database holds into one file; check or show such a file
    Backup(backup::Backup),
    /// Put such a file in the place of what the database holds
    Restore(restore::Restore),
    /// Move a database, whole, into another one: SQLite to PostgreSQL, or back; asks first
    Transfer(transfer::Transfer),
    /// End overdue sessions and remove what is past its retention, now
    Purge(purge::Purge),
    /// Move the sealed records of one DID to another database
    #[command(subcommand)]
    Records(records::Records),
    /// Make a database safe to use that was put back to an earlier state; asks first
    Recover(recover::Recover),
    /// Fill an empty database with sample DIDs, sessions and nonces
    Seed(seed::Seed),
    /// Make, show or rotate the keys that seal session keys
    #[command(subcommand)]
    Sealing(sealing::Sealing),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Check the configuration, the certificate, the database and the machine, and say what to do
    Doctor(doctor::Doctor),
    /// Ask the running instance whether it is ready (for container health checks)
    #[command(
        after_help = "It finds the instance by DATA_DIR/ops.addr, and exits with 0 when the \
        instance is ready, else with 1.\n\n\
        Example:\n  onceguard health --data-dir /var/lib/onceguard"
    )]
    Health,
    /// List the instances of the last week, and how they fare
    Instances(instances::Instances),
    /// Say where events are sent, and send them again
    Webhooks(webhooks::Webhooks),
    /// Show counts, sizes and the busiest clients
    Stats(stats::Stats),
    /// Make or show the keys that agents sign with
    #[command(subcommand)]
    Key(key::Key),
    /// Sign a request with an agent's key
    Sign(sign::Sign),
    /// Explain whether a signed request is valid, and if not, why
    Verify(verify::Verify),
}

/// Runs the command. If it fails, writes the reason to standard error.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let code = match run_on_runtime(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            out::note(format!("onceguard: {failure}"));
            failure.exit_code()
        }
    };
    telemetry::flush();
    code
}

/// The runtime has one thread for this many processors. It drives connections and batches of
/// claims. HTTP has workers of its own, and the database needs processors, too. With a thread for
/// each processor, a batch would wait longer for its turn than it takes to run.
const PROCESSORS_PER_THREAD: usize = 4;

fn run_on_runtime(cli: Cli) -> Result<(), Failure> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors / PROCESSORS_PER_THREAD).max(1))
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))?;
    runtime.block_on(dispatch(cli))
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let sources = cli.settings.sources();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => Box::pin(serve::run(sources.load(Need::Everything)?)).await,
        Command::Migrate(command) => command.run(quiet(&sources, Need::Database)?).await,
        Command::Token(command) => command.run(quiet(&sources, Need::Database)?).await,
        Command::Audit(command) => command.run(&sources).await,
        Command::Backup(command) => command.run(&sources).await,
        Command::Restore(command) => command.run(quiet(&sources, Need::Database)?).await,
        Command::Transfer(command) => Box::pin(command.run(&sources)).await,
        Command::Purge(command) => command.run(quiet(&sources, Need::Database)?).await,
        Command::Records(command) => command.run(quiet(&sources, Need::Database)?).await,
        Command::Recover(command) => command.run(quiet(&sources, Need::Database)?).await,
        Command::Seed(command) => command.run(quiet(&sources, Need::Everything)?).await,
        Command::Sealing(command) => command.run(&sources).await,
        Command::Config(command) => command.run(&sources),
        Command::Doctor(command) => command.run(&sources).await,
        Command::Health => health::run(&quiet(&sources, Need::Database)?),
        Command::Instances(command) => command.run(quiet(&sources, Need::Database)?).await,
        Command::Webhooks(command) => command.run(quiet(&sources, Need::Everything)?).await,
        Command::Stats(command) => command.run(quiet(&sources, Need::Database)?).await,
        Command::Key(command) => command.run(),
        Command::Sign(command) => command.run(&sources),
        Command::Verify(command) => command.run(&sources),
    }
}

impl Settings {
    fn sources(&self) -> Sources {
        Sources::default()
            .file(self.config.clone())
            .environment(std::env::vars_os())
            .flag("--listen", "server.listen", self.listen.clone())
            .flag("--data-dir", "data_dir", self.data_dir.clone())
            .flag("--database-url", "database.url", self.database_url.clone())
    }
}
