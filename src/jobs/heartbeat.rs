//! The heartbeat: tells the database each second that this instance lives. What the database
//! acknowledged is remembered in the mark file, so the next start notices a database that went back in
//! time.
//!
//! The file must never be ahead of the database: it is written after the acknowledgement. A kill
//! may leave a mark that is a second old, which notices less. So after a recovery or a fail-over the
//! guard of PostgreSQL's connections writes one before anything is decided.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::{Config, DatabaseUrl, SqliteLocation};
use crate::data_dir::{self, DataDirError};
use crate::storage::{Mark, Marks, Store};

pub(super) const NAME: &str = "heartbeat";
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// There is a mark file, and what it says cannot be known.
#[derive(Debug, thiserror::Error)]
#[error(
    "the mark file {path} cannot be read ({why}), so nothing tells whether the database has what it \
     had. Let this user read it, or put it back; if it is lost, run `onceguard recover`, or, if the \
     database lost nothing, `onceguard recover --nothing-lost`",
    path = path.display()
)]
pub struct UnreadableMark {
    path: PathBuf,
    why: String,
}

/// Whether a mark is kept: a database in memory ends with its process.
fn is_kept(config: &Config) -> bool {
    !matches!(config.database.url, DatabaseUrl::Sqlite(SqliteLocation::Memory))
}

/// What an earlier process remembers; `None` if there was none.
pub fn remembered(config: &Config) -> Result<Option<Mark>, UnreadableMark> {
    let path = &config.recovery.mark_file;
    if !is_kept(config) {
        return Ok(None);
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(UnreadableMark { path: path.clone(), why: error.to_string() });
        }
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| UnreadableMark { path: path.clone(), why: error.to_string() })
}

/// Remembers what the database acknowledged. `false` if that failed.
fn remember(config: &Config, mark: &Mark) -> bool {
    if !is_kept(config) {
        return true;
    }
    let line = serde_json::to_string(mark).map_err(|error| error.to_string());
    let written = line.and_then(|line| {
        let file = &config.recovery.mark_file;
        data_dir::replace_private(file, &line).map_err(|error| error.to_string())
    });
    if let Err(error) = &written {
        tracing::warn!(error, "the mark file cannot be written");
    }
    written.is_ok()
}

/// Forgets it: the database is known to be right.
pub fn forget(config: &Config) -> Result<(), DataDirError> {
    data_dir::remove_note(&config.recovery.mark_file)
}

/// Keeps marks in the mark file.
#[must_use]
pub fn marks(config: &Config) -> Marks {
    let (config, last) = (config.clone(), Mutex::new(None));
    Marks::new(move |mark| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        // What could not be written is tried again.
        if last.as_ref() != Some(mark) && remember(&config, mark) {
            *last = Some(mark.clone());
        }
    })
}

pub(super) async fn run(store: &Store) {
    // `/readyz` tells, and so does the log of everything else that needs the database.
    if let Err(error) = store.heartbeat().await {
        tracing::debug!(job = NAME, %error, "no heartbeat");
    }
}

/// The last heartbeat of an instance that stops. Takes a bounded time with the rest of the stop.
pub async fn depart(store: &Store) {
    if let Err(error) = store.depart().await {
        tracing::warn!(job = NAME, %error, "the stop could not be recorded");
    }
}

/// The last heartbeat of an instance whose start failed. The start says why.
pub async fn fail(store: &Store) {
    if let Err(error) = store.fail().await {
        tracing::warn!(job = NAME, %error, "the failed start could not be recorded");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::config::{Need, Sources};
    use crate::storage::Server;

    fn config(folder: &Path) -> Config {
        let folder = folder.to_str().unwrap().to_owned();
        let sources = Sources::default().flag("--data-dir", "data_dir", Some(folder));
        sources.load(Need::Database).unwrap().config
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        assert_eq!(remembered(&config).unwrap(), None);
        let at = chrono::DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
        let system_identifier = i64::MAX;
        let server = Server { system_identifier, timeline: 2, database_oid: 5, nonces_oid: 16_500 };
        let mark = Mark {
            generation: Uuid::now_v7(),
            instance: Uuid::now_v7(),
            counter: 7,
            at,
            issued_until: Some(at),
            server: Some(server),
        };
        assert!(remember(&config, &mark));
        assert_eq!(remembered(&config).unwrap(), Some(mark.clone()));
        let mode = config.recovery.mark_file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for text in ["", "nonsense", "{}"] {
            std::fs::write(&config.recovery.mark_file, text).unwrap();
            let error = remembered(&config).unwrap_err().to_string();
            assert!(error.contains("onceguard recover"), "{text:?}: {error}");
        }
        forget(&config).unwrap();
        forget(&config).unwrap();
        assert!(!config.recovery.mark_file.exists());
    }

    #[test]
    fn a_mark_that_could_not_be_written_is_not_taken_for_written() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let at = chrono::DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap();
        let mark = Mark {
            generation: Uuid::now_v7(),
            instance: Uuid::now_v7(),
            counter: 7,
            at,
            issued_until: None,
            server: None,
        };
        std::fs::create_dir(&config.recovery.mark_file).unwrap();
        assert!(!remember(&config, &mark));
        remembered(&config).unwrap_err();
        std::fs::remove_dir(&config.recovery.mark_file).unwrap();
        assert!(remember(&config, &mark));
    }
}
