//! `onceguard backup`: writes everything into one file, checks such a file, and shows what it holds.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::archive_rows::Rows;
use super::progress::Shown;
use super::{Failure, database, format, out, quiet};
use crate::archive::{self, Draft, InvalidArchive, Manifest, Output};
use crate::clock::Clock;
use crate::config::{Config, Need, Sources, parse_recipient};
use crate::domain::Actor;
use crate::jobs::{LeaseKeeper, backup};
use crate::storage::{BACKUP_LEASE, Store};

/// `--output -`
const STANDARD_OUTPUT: &str = "-";

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "It runs beside serving instances. The archive holds every row as of one moment, \
        and either kind of database can take it. Session keys stay sealed in it, and tokens \
        hashed; the sealing key is not in it. The file is for its owner only, and never \
        overwrites another.\n\n\
        Examples:\n  onceguard backup\n  onceguard backup --output /backups/before-the-move.tar.zst\n  \
        onceguard backup --output - | ssh elsewhere 'cat > onceguard.tar.zst'\n  \
        onceguard backup --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
)]
pub(super) struct Backup {
    #[command(subcommand)]
    command: Option<Look>,
    /// Write this file, or standard output (-) [default: onceguard_backup_YYYYMMDD_HHMMSS.tar.zst]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Encrypt by the program age for this public key (age1…), instead of those of
    /// backup.recipients. Can be given several times
    #[arg(long = "recipient", value_name = "KEY", value_parser = parse_recipient)]
    recipients: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Look {
    /// Check every byte of an archive
    #[command(
        after_help = "It needs no database, and exits with 1 when the archive is damaged.\n\n\
        Example:\n  onceguard backup verify onceguard_backup_20261130_120000.tar.zst"
    )]
    Verify {
        file: PathBuf,
        /// The file with the secret key of age for an encrypted archive
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check an archive, and show what it holds and where that came from
    #[command(after_help = "Example:\n  \
        onceguard backup show onceguard_backup_20261130_120000.tar.zst --json")]
    Show {
        file: PathBuf,
        /// The file with the secret key of age for an encrypted archive
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Backup {
    pub(super) async fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self.command {
            Some(Look::Verify { file, identity, json }) => verify(&file, identity.as_deref(), json),
            Some(Look::Show { file, identity, json }) => show(&file, identity.as_deref(), json),
            None => {
                let config = quiet(sources, Need::Database)?;
                let recipients = if self.recipients.is_empty() {
                    config.backup.recipients.clone()
                } else {
                    self.recipients
                };
                make(&config, self.output, recipients, self.json).await
            }
        }
    }
}

async fn make(
    config: &Config,
    output: Option<PathBuf>,
    recipients: Vec<String>,
    json: bool,
) -> Result<(), Failure> {
    let to_stdout = output.as_ref().is_some_and(|path| path.as_os_str() == STANDARD_OUTPUT);
    if to_stdout && json {
        return Err(Failure::Usage(
            "--json has no place when the archive itself is printed".into(),
        ));
    }
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::Refused("the archive is not for a terminal: name a file".into()));
    }
    let store = database::open_migrated(config).await?;
    let made = write(&store, output, to_stdout, recipients).await;
    if let Ok((path, manifest)) = &made
        && let Err(error) = record(&store, path.as_deref(), manifest).await
    {
        out::note(format!("warning: the database could not note that it was backed up: {error}"));
    }
    store.close().await;
    let (path, manifest) = made?;
    let Some(path) = path else { return Ok(()) };
    let bytes = path.metadata().map_or(0, |file| file.len());
    if json {
        return out::json(&json!({
            "file": path.display().to_string(),
            "bytes": bytes,
            "rows": manifest.rows(),
            "taken_at": format::time(manifest.origin.taken_at),
        }));
    }
    out::line(format!("{}: {} rows, {}", path.display(), manifest.rows(), format::bytes(bytes)))
}

/// Writes the archive, and returns the file's name; `None` for standard output.
async fn write(
    store: &Store,
    file: Option<PathBuf>,
    to_stdout: bool,
    recipients: Vec<String>,
) -> Result<(Option<PathBuf>, Manifest), Failure> {
    let encrypted = !recipients.is_empty();
    let name = || backup::file_name(Clock::system().now(), encrypted).into();
    let path = file.clone().unwrap_or_else(name);
    let failed = |error| cannot_write(&path, &error);
    let output = if to_stdout {
        Output::standard(&recipients)
    } else {
        // A name that this has made gives way to another file's.
        let draft = if file.is_some() { Draft::create(&path) } else { Draft::yielding(&path) };
        draft.and_then(|draft| Output::file(draft, &recipients))
    };
    let mut shown = Shown::new();
    let mut backup = backup::Backup::begin(store, output.map_err(failed)?).await?;
    loop {
        match backup.step().await? {
            backup::Step::Wrote(next, progress) => {
                shown.update(progress.table, progress.rows);
                backup = next;
            }
            backup::Step::Done(output, manifest) => {
                let published = spawn_blocking(move || output.publish()).await;
                let published = published.unwrap_or_else(|error| Err(io::Error::other(error)));
                return Ok((published.map_err(failed)?, manifest));
            }
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Refused(format!(
            "{path} exists, and a backup never overwrites a file: name another one"
        )),
        _ => Failure::Failed(format!("cannot write {path}: {error}")),
    }
}

/// Tells the database when it was backed up, and its log of events by whom. A service that makes a
/// backup at this moment will tell the former itself.
async fn record(store: &Store, path: Option<&Path>, manifest: &Manifest) -> Result<(), Failure> {
    let file = path.unwrap_or(Path::new(STANDARD_OUTPUT)).display().to_string();
    store.publish(vec![backup::event(Actor::Operator, &file, manifest)]).await?;
    let holder = format!("command-{}", Uuid::now_v7());
    if let Some(keeper) = LeaseKeeper::take(store, BACKUP_LEASE, holder).await? {
        keeper.release(true).await?;
    }
    Ok(())
}

fn verify(file: &Path, identity: Option<&Path>, json: bool) -> Result<(), Failure> {
    let manifest = read(file, identity)?;
    if json {
        return out::json(&json!({ "whole": true, "rows": manifest.rows() }));
    }
    out::line(format!("{}: whole, {} rows", file.display(), manifest.rows()))
}

fn show(file: &Path, identity: Option<&Path>, json: bool) -> Result<(), Failure> {
    let manifest = read(file, identity)?;
    if json {
        let value = serde_json::to_value(&manifest);
        return out::json(&value.map_err(|error| Failure::Failed(error.to_string()))?);
    }
    let origin = &manifest.origin;
    let about = [
        ("taken at", format::time(origin.taken_at)),
        ("database", origin.source.clone()),
        ("schema", origin.schema.clone()),
        ("generation", origin.generation.to_string()),
        ("written by", format!("onceguard {}", manifest.version)),
        ("format", manifest.format.to_string()),
    ];
    out::table(["WHAT", "VALUE"], &about.map(|(what, value)| [what.to_owned(), value]))?;
    out::line("")?;
    let filled = manifest.tables.iter().filter(|table| table.rows > 0);
    let rows: Vec<_> = filled.map(|table| [table.name.clone(), table.rows.to_string()]).collect();
    out::table(["TABLE", "ROWS"], &rows)
}

/// Reads and checks the whole file, and its rows as far as this onceguard knows their tables.
pub(super) fn read(file: &Path, identity: Option<&Path>) -> Result<Manifest, Failure> {
    let mut rows = Rows::default();
    let manifest = archive::read(file, identity, |table, lines| {
        rows.check(table, &lines);
        Ok::<_, InvalidArchive>(())
    });
    let manifest = manifest.map_err(|error| invalid(file, &error))?;
    match rows.wrong(&manifest) {
        Some(why) => Err(Failure::Failed(format!("{} is damaged: {why}", file.display()))),
        None => Ok(manifest),
    }
}

pub(super) fn invalid(file: &Path, error: &InvalidArchive) -> Failure {
    let text = format!("{} {error}", file.display());
    match error {
        InvalidArchive::Newer(_) | InvalidArchive::Encrypted => Failure::Refused(text),
        InvalidArchive::Io(_)
        | InvalidArchive::Undecryptable(_)
        | InvalidArchive::Unknown
        | InvalidArchive::Truncated { .. }
        | InvalidArchive::Damaged { .. } => Failure::Failed(text),
    }
}
