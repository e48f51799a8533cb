//! `onceguard backup`: writes everything into one file, checks such a file, and shows what it holds.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::{Failure, database, format, out, quiet};
use crate::archive::{self, Draft, InvalidArchive, Manifest};
use crate::clock::Clock;
use crate::config::{Config, Need, Sources};
use crate::domain::Actor;
use crate::jobs::{LeaseKeeper, backup};
use crate::storage::{BACKUP_LEASE, Store};
use crate::telemetry;

/// `--output -`
const STANDARD_OUTPUT: &str = "-";
/// How often the progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "It runs beside serving instances. The archive holds every row as of one moment, \
        and either kind of database can take it. Session keys stay sealed in it, and tokens \
        hashed; the sealing key is not in it. The file is for its owner only, and never \
        overwrites another.\n\n\
        Examples:\n  onceguard backup\n  onceguard backup --output /backups/before-the-move.tar.zst\n  \
        onceguard backup --output - | ssh elsewhere 'cat > onceguard.tar.zst'"
)]
pub(super) struct Backup {
    #[command(subcommand)]
    command: Option<Look>,
    /// Write this file, or standard output (-) [default: onceguard_backup_YYYYMMDD_HHMMSS.tar.zst]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
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
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check an archive, and show what it holds and where that came from
    #[command(after_help = "Example:\n  \
        onceguard backup show onceguard_backup_20261130_120000.tar.zst --json")]
    Show {
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Backup {
    pub(super) async fn run(self, sources: &Sources) -> Result<(), Failure> {
        match self.command {
            Some(Look::Verify { file, json }) => verify(&file, json),
            Some(Look::Show { file, json }) => show(&file, json),
            None => {
                let config = quiet(sources, Need::Database)?;
                make(&config, self.output, self.json).await
            }
        }
    }
}

async fn make(config: &Config, output: Option<PathBuf>, json: bool) -> Result<(), Failure> {
    let path = output.unwrap_or_else(|| backup::file_name(Clock::system().now()).into());
    let to_stdout = path.as_os_str() == STANDARD_OUTPUT;
    if to_stdout && json {
        return Err(Failure::Usage(
            "--json has no place when the archive itself is printed".into(),
        ));
    }
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::Refused("the archive is not for a terminal: name a file".into()));
    }
    let store = database::open_migrated(config).await?;
    let made = if to_stdout {
        write(&store, io::stdout()).await.map(|(_, manifest)| manifest)
    } else {
        write_file(&store, &path).await
    };
    if let Ok(manifest) = &made
        && let Err(error) = record(&store, &path, manifest).await
    {
        out::note(format!("warning: the database could not note that it was backed up: {error}"));
    }
    store.close().await;
    let manifest = made?;
    if to_stdout {
        return Ok(());
    }
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

async fn write_file(store: &Store, path: &Path) -> Result<Manifest, Failure> {
    let draft = Draft::create(path).map_err(|error| cannot_write(path, &error))?;
    let (draft, manifest) = write(store, draft).await?;
    draft.publish().map_err(|error| cannot_write(path, &error))?;
    Ok(manifest)
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

async fn write<W: Write + Send + 'static>(store: &Store, out: W) -> Result<(W, Manifest), Failure> {
    let mut shown = Shown::new();
    let mut backup = backup::Backup::begin(store, out).await?;
    loop {
        match backup.step().await? {
            backup::Step::Wrote(next, progress) => {
                shown.update(progress.table, progress.rows);
                backup = next;
            }
            backup::Step::Done(out, manifest) => return Ok((out, manifest)),
        }
    }
}

/// Tells the database when it was backed up, and its audit log by whom. A service that makes a
/// backup at this moment will tell the former itself.
async fn record(store: &Store, path: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let file = path.display().to_string();
    store.audit(backup::event(Actor::Operator, &file, manifest)).await?;
    let holder = format!("command-{}", Uuid::now_v7());
    if let Some(keeper) = LeaseKeeper::take(store, BACKUP_LEASE, holder).await? {
        keeper.release(true).await?;
    }
    Ok(())
}

fn verify(file: &Path, json: bool) -> Result<(), Failure> {
    let manifest = read(file)?;
    if json {
        return out::json(&json!({ "whole": true, "rows": manifest.rows() }));
    }
    out::line(format!("{}: whole, {} rows", file.display(), manifest.rows()))
}

fn show(file: &Path, json: bool) -> Result<(), Failure> {
    let manifest = read(file)?;
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
    let rows: Vec<_> =
        manifest.tables.iter().map(|table| [table.name.clone(), table.rows.to_string()]).collect();
    out::table(["TABLE", "ROWS"], &rows)
}

/// Reads and checks the whole file.
pub(super) fn read(file: &Path) -> Result<Manifest, Failure> {
    archive::read(file, |_, _| Ok::<_, InvalidArchive>(())).map_err(|error| invalid(file, &error))
}

pub(super) fn invalid(file: &Path, error: &InvalidArchive) -> Failure {
    let text = format!("{} {error}", file.display());
    match error {
        InvalidArchive::Newer(_) => Failure::Refused(text),
        InvalidArchive::Io(_)
        | InvalidArchive::Unknown
        | InvalidArchive::Truncated { .. }
        | InvalidArchive::Damaged { .. } => Failure::Failed(text),
    }
}

/// The line with the progress, on a terminal only.
pub(super) struct Shown {
    terminal: bool,
    last: Instant,
}

impl Shown {
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), last: Instant::now() }
    }

    pub(super) fn update(&mut self, table: &str, rows: u64) {
        if self.terminal && self.last.elapsed() >= SHOWN_EVERY {
            self.last = Instant::now();
            telemetry::tell(&format!("\r\x1b[K{rows} rows, now {table}"));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if self.terminal {
            telemetry::tell("\r\x1b[K");
        }
    }
}
