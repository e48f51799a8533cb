//! `onceguard restore`: puts an archive in the place of what the database holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::progress::Shown;
use super::{Failure, backup, database, format, out, recover};
use crate::archive::{self, InvalidArchive, Manifest};
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl, SqliteLocation};
use crate::domain::{Actor, Did, Timestamp};
use crate::jobs::heartbeat;
use crate::storage::tables::OLDEST_ARCHIVE;
use crate::storage::{
    Recovered, Recovery, Remembered, Restore as HowToRestore, RestoreFeed, Store, migrations,
    restore_rows, sqlite,
};

#[derive(Debug, Args)]
#[command(
    after_help = "No instance may serve meanwhile. What the database holds is dropped, and what \
        the archive holds takes its place, all at once: if the command is killed, the old data is \
        there, or the new. In the new data every session is ended, because the archive cannot \
        tell what became of it later.\n\n\
        Example:\n  onceguard restore onceguard_backup_20261130_120000.tar.zst --tokens keep"
)]
pub(super) struct Restore {
    /// An archive that `onceguard backup` wrote, from either kind of database
    file: PathBuf,
    /// The file with the secret key of age for an encrypted archive
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Keep the archive's API tokens valid, or revoke them all: tokens that were revoked after the
    /// archive was made are valid in it
    #[arg(long, value_name = "WHAT")]
    tokens: Tokens,
    /// Also revoke again what this file names: the journal (DATA_DIR/revocations) of another
    /// instance, or events of the log, one as JSON a line
    #[arg(long, value_name = "FILE")]
    revocations: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tokens {
    Keep,
    Revoke,
}

impl Restore {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        let manifest = backup::read(&self.file, self.identity.as_deref())?;
        check_schema(&self.file, &manifest)?;
        let _lock = database::lock(&config)?;
        let remembered = recover::remembered(&config, self.revocations.as_deref())?;
        let target = Target::open(&config).await?;
        let confirmed = target
            .refuse_use()
            .await
            .and_then(|()| out::confirm(&question(&self.file, &manifest, &target), self.yes));
        let restored = match confirmed {
            Ok(()) => self.restore(&config, &target, manifest.origin.taken_at, remembered).await,
            Err(failure) => Err(failure),
        };
        target.close().await;
        let restored = restored?;
        // The database is recovered: what was lost does not count.
        heartbeat::forget(&config)?;
        let store = database::open_migrated(&config).await?;
        let keys = store.stored_keys(recover::MAX_KEYS).await;
        store.close().await;
        self.print(&manifest, &restored, &keys?)
    }

    async fn restore(
        &self,
        config: &Config,
        target: &Target,
        taken_at: Timestamp,
        remembered: Vec<Remembered>,
    ) -> Result<Recovered, Failure> {
        let recovery = Recovery {
            skew: config.signatures.skew().to_std().unwrap_or_default().max(target.skew),
            now: Clock::system().now(),
            actor: Actor::Operator,
            remembered,
        };
        let revoke_tokens = self.tokens == Tokens::Revoke;
        let how = HowToRestore { recovery, revoke_tokens, taken_at };
        let (feed, mut rows) = restore_rows();
        let (file, identity) = (self.file.clone(), self.identity.clone());
        let reading = spawn_blocking(move || give(&file, identity.as_deref(), feed));
        let restored = match (&config.database.url, &target.store) {
            (DatabaseUrl::Sqlite(SqliteLocation::File(path)), _) => {
                // SQLite's rename needs the old file for itself.
                target.close().await;
                let path = path.clone();
                spawn_blocking(move || sqlite::restore(&path, &mut rows, &how))
                    .await
                    .map_err(|error| Failure::Failed(error.to_string()))?
            }
            (_, Some(Store::Postgres(store))) => store.restore(rows, how).await,
            _ => return Err(Failure::Refused("there is no database to restore into".to_owned())),
        };
        // What is wrong with the archive says more than that its rows ended.
        match reading.await {
            Ok(Err(Stopped::Invalid(error))) => Err(backup::invalid(&self.file, &error)),
            Ok(Ok(()) | Err(Stopped::Refused)) => Ok(restored?),
            Err(error) => Err(Failure::Failed(error.to_string())),
        }
    }

    fn print(
        &self,
        manifest: &Manifest,
        recovered: &Recovered,
        keys: &[Did],
    ) -> Result<(), Failure> {
        if self.json {
            return out::json(&json!({
                "file": self.file.display().to_string(),
                "taken_at": format::time(manifest.origin.taken_at),
                "rows": manifest.rows(),
                "generation": recovered.generation,
                "not_before": format::time(recovered.not_before),
                "sessions_ended": recovered.sessions_ended,
                "done_again": recover::words(&recovered.done_again),
                "tokens_revoked": self.tokens == Tokens::Revoke,
                "stored_keys": keys.iter().map(Did::as_str).collect::<Vec<_>>(),
            }));
        }
        out::line(format!(
            "{} rows are restored, as of {}; {} sessions ended",
            manifest.rows(),
            format::time(manifest.origin.taken_at),
            recovered.sessions_ended
        ))?;
        recover::print_what_is_left(&recovered.done_again, keys)
    }
}

/// Why the archive was not read to its end.
enum Stopped {
    Invalid(InvalidArchive),
    /// The database did not take the rows.
    Refused,
}

impl From<InvalidArchive> for Stopped {
    fn from(error: InvalidArchive) -> Self {
        Self::Invalid(error)
    }
}

/// Reads the archive, once more, and gives its rows to the database.
fn give(file: &Path, identity: Option<&Path>, feed: RestoreFeed) -> Result<(), Stopped> {
    let (mut shown, mut given) = (Shown::new(), 0);
    archive::read(file, identity, |table, lines| {
        given += lines.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        shown.update(table, given);
        if feed.chunk(table, lines) { Ok(()) } else { Err(Stopped::Refused) }
    })?;
    feed.whole();
    Ok(())
}

/// What an older schema lacks gets its default; nothing is known of a newer one.
fn check_schema(file: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let theirs = manifest.origin.schema.as_str();
    let what = if theirs > migrations::newest() {
        "which this onceguard does not know: use a newer one"
    } else if theirs < OLDEST_ARCHIVE {
        "which is older than this onceguard can restore: restore it with the version that wrote it, \
         and then run `onceguard migrate up` of this one"
    } else {
        return Ok(());
    };
    Err(Failure::Refused(format!(
        "{} was written by onceguard {} with the schema {theirs}, {what}",
        file.display(),
        manifest.version
    )))
}

/// The database that the archive is for.
struct Target {
    /// `None` for an SQLite file that does not exist.
    store: Option<Store>,
    /// What would be dropped, in words.
    holds: String,
    /// How far a signer's clock could be ahead there.
    skew: Duration,
}

impl Target {
    async fn open(config: &Config) -> Result<Self, Failure> {
        match &config.database.url {
            DatabaseUrl::Sqlite(SqliteLocation::File(path)) if !path.exists() => {
                Ok(Self { store: None, holds: "nothing".to_owned(), skew: Duration::ZERO })
            }
            // A damaged file is replaced, too.
            DatabaseUrl::Sqlite(SqliteLocation::File(_)) => {
                Self::open_existing(config).await.or_else(|failure| {
                    let holds = format!("what cannot be read ({failure})");
                    Ok(Self { store: None, holds, skew: Duration::ZERO })
                })
            }
            _ => Self::open_existing(config).await,
        }
    }

    async fn open_existing(config: &Config) -> Result<Self, Failure> {
        let store = database::open_complete(config).await?;
        let told = Self::look(&store).await;
        if told.is_err() {
            store.close().await;
        }
        let (holds, skew) = told?;
        Ok(Self { store: Some(store), holds, skew })
    }

    async fn look(store: &Store) -> Result<(String, Duration), Failure> {
        let (counts, history) = (store.counts().await?, store.history().await?);
        let holds = format!(
            "{} sessions, {} nonces and {} DIDs",
            counts.active_sessions + counts.ended_sessions,
            counts.live_nonces,
            counts.dids
        );
        Ok((holds, history.skew))
    }

    /// Refuses while an instance serves, and a database that was moved.
    async fn refuse_use(&self) -> Result<(), Failure> {
        let Some(store) = &self.store else { return Ok(()) };
        if let Some(departure) = store.departure().await? {
            return Err(Failure::Refused(format!("nothing was restored: {departure}")));
        }
        database::nobody_serves(store, "nothing was restored").await
    }

    async fn close(&self) {
        if let Some(store) = &self.store {
            store.close().await;
        }
    }
}

fn question(file: &Path, manifest: &Manifest, target: &Target) -> String {
    let tables: Vec<_> =
        manifest.tables.iter().map(|table| format!("{} {}", table.rows, table.name)).collect();
    format!(
        "The database holds {}. All of it is dropped.\n\
         {} takes its place: a copy of {} ({}), with {}.\n\
         What was written since is forgotten, and every session ends.",
        target.holds,
        file.display(),
        format::time(manifest.origin.taken_at),
        manifest.origin.source,
        tables.join(", ")
    )
}
