//! The backup: writes everything that the database holds into an archive. The service does it every
//! `backup.interval_hours`, one instance at a time; `onceguard backup` does it now.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::scheduler::{JobError, LeaseKeeper};
use crate::archive::{DRAFT_SUFFIX, Draft, Manifest, Origin, Output, Writer};
use crate::clock::Clock;
use crate::config;
use crate::data_dir;
use crate::domain::{Actor, NewEvent, OwnType, Timestamp};
use crate::priority::run_low;
use crate::storage::tables::TABLES;
use crate::storage::{BACKUP_LEASE, Dump, Pace, Store};

pub(super) const NAME: &str = BACKUP_LEASE;
/// How often it is seen whether a backup is due.
pub(super) const LOOK: std::time::Duration = std::time::Duration::from_mins(10);

const PREFIX: &str = "onceguard_backup_";
const SUFFIX: &str = ".tar.zst";
/// Of `YYYYMMDD_HHMMSS`.
const TIME_LENGTH: usize = 15;
/// What an encrypted one has behind that.
const ENCRYPTED: &str = ".age";

/// What the archive of a backup that is made now is called. Another one of the same second gets a
/// number.
#[must_use]
pub fn file_name(now: Timestamp, encrypted: bool) -> String {
    let encrypted = if encrypted { ENCRYPTED } else { "" };
    format!("{PREFIX}{}{SUFFIX}{encrypted}", now.format("%Y%m%d_%H%M%S"))
}

/// A backup under way.
pub struct Backup<W: Write> {
    dump: Dump,
    archive: Writer<W>,
    rows: u64,
}

/// How far a backup has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub table: &'static str,
    /// Of all tables.
    pub rows: u64,
}

impl<W: Write + Send + 'static> Backup<W> {
    /// Begins an archive of what the database holds at this moment.
    pub async fn begin(store: &Store, out: W) -> Result<Self, JobError> {
        let dump = store.dump(Pace::Beside).await?;
        let origin = Origin {
            source: store.backend().to_owned(),
            schema: dump.schema.clone(),
            generation: dump.generation,
            taken_at: dump.taken_at,
        };
        let archive = blocking(move || Writer::new(out, origin)).await?;
        Ok(Self { dump, archive, rows: 0 })
    }

    /// Writes the next rows. Once there are none, finishes the archive.
    pub async fn step(mut self) -> Result<Step<W>, JobError> {
        let Some(chunk) = self.dump.next().await? else {
            for table in &TABLES {
                self.archive.empty(table.name);
            }
            let (out, manifest) = blocking(move || self.archive.finish()).await?;
            return Ok(Step::Done(out, manifest));
        };
        let progress = Progress { table: chunk.table, rows: self.rows + chunk.rows };
        let mut archive = self.archive;
        let archive = blocking(move || {
            archive.chunk(chunk.table, chunk.rows, &chunk.lines)?;
            Ok(archive)
        });
        let archive = archive.await?;
        Ok(Step::Wrote(Self { dump: self.dump, archive, rows: progress.rows }, progress))
    }
}

/// What a step of a backup leads to.
pub enum Step<W: Write> {
    Wrote(Backup<W>, Progress),
    Done(W, Manifest),
}

/// Makes a folder for backups, a backup in it, and removes those that are too many.
pub(super) async fn run(
    store: &Store,
    clock: &Clock,
    settings: &config::Backup,
    keeper: &mut LeaseKeeper,
) -> Result<(), JobError> {
    let recipients = settings.recipients.clone();
    let path = settings.folder.join(file_name(clock.now(), !recipients.is_empty()));
    let folder = settings.folder.clone();
    let output = blocking(move || {
        data_dir::create(&folder).map_err(io::Error::other)?;
        remove_left_over_drafts(&folder)?;
        Output::file(Draft::yielding(&path)?, &recipients)
    });
    let mut backup = Backup::begin(store, output.await?).await?;
    let (output, manifest) = loop {
        match backup.step().await? {
            Step::Wrote(next, _) => backup = next,
            Step::Done(output, manifest) => break (output, manifest),
        }
        keeper.renew().await?;
    };
    let path = blocking(move || output.publish()).await?.unwrap_or_default();
    let name = path.display().to_string();
    store.publish(vec![event(Actor::Job(NAME), &name, &manifest)]).await?;
    tracing::info!(job = NAME, file = name, rows = manifest.rows(), "backed up");
    let (folder, keep) = (settings.folder.clone(), settings.keep);
    blocking(move || remove_oldest(&folder, keep)).await
}

/// What the log says of a backup: who made a copy of everything, and where it went.
#[must_use]
pub fn event(actor: Actor, file: &str, manifest: &Manifest) -> NewEvent {
    NewEvent::own(OwnType::BackupMade, actor, file, &json!({ "rows": manifest.rows() }))
}

/// Removes what processes that were killed had begun to write.
fn remove_left_over_drafts(folder: &Path) -> io::Result<()> {
    for (name, path) in files(folder)? {
        let unfinished = name.starts_with(PREFIX) && name.ends_with(DRAFT_SUFFIX);
        // A process that still writes it holds its lock.
        if unfinished && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Removes all backups but the newest. Other files are left alone.
fn remove_oldest(folder: &Path, keep: u32) -> io::Result<()> {
    let mut backups: Vec<_> =
        files(folder)?.into_iter().filter(|(name, _)| is_backup(name)).collect();
    backups.sort_unstable();
    let many = backups.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
    backups.into_iter().take(many).try_for_each(|(_, path)| std::fs::remove_file(path))
}

/// Whether [`file_name`] makes such names.
fn is_backup(name: &str) -> bool {
    let name = name.strip_suffix(ENCRYPTED).unwrap_or(name);
    let Some(name) = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX)) else {
        return false;
    };
    let (time, number) = name.split_at_checked(TIME_LENGTH).unwrap_or((name, ""));
    let is_numbered = number.strip_prefix('_').is_some_and(|digits| digits.parse::<u32>().is_ok());
    (number.is_empty() || is_numbered)
        && chrono::NaiveDateTime::parse_from_str(time, "%Y%m%d_%H%M%S").is_ok()
}

fn files(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            files.push((name, entry.path()));
        }
    }
    Ok(files)
}

/// Does a part of a backup, which no claim may wait for. Programs that it starts have the lowest
/// priority, too.
pub async fn quietly<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    run_low(NAME, work)?.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, JobError> {
    quietly(work).await.map_err(JobError::Archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = files(folder).unwrap().into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    #[test]
    fn only_the_oldest_backups_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let others = ["onceguard_backup_20261130_before_the_move.tar.zst", "zzz.tar.zst"];
        assert!(!is_backup("onceguard_backup_20261130_000000_old.tar.zst"));
        let backups =
            ["20261129_235959.tar.zst", "20261130_000000.tar.zst.age", "20261130_000000_2.tar.zst"]
                .map(|name| format!("{PREFIX}{name}"));
        for name in others.iter().copied().chain(backups.iter().map(String::as_str)) {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        remove_oldest(folder.path(), 2).unwrap();
        let left = [&backups[1], &backups[2], others[0], others[1]];
        assert_eq!(names(folder.path()), left);
        remove_oldest(folder.path(), 2).unwrap();
        assert_eq!(names(folder.path()), left);
    }

    #[test]
    fn drafts_are_removed_once_their_process_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file_name(Clock::system().now(), false));
        let draft = Draft::create(&path).unwrap();
        let [name] = names(folder.path()).try_into().unwrap();
        remove_left_over_drafts(folder.path()).unwrap();
        assert_eq!(names(folder.path()), std::slice::from_ref(&name));
        drop(draft);
        std::fs::write(folder.path().join(&name), "half of an archi").unwrap();
        remove_left_over_drafts(folder.path()).unwrap();
        assert!(names(folder.path()).is_empty());
    }
}
