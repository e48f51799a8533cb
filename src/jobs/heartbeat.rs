//! The heartbeat: tells the database each second that this instance lives, and remembers in the mark
//! file what the database acknowledged. So the next start notices a database that went back in time.
//!
//! The file must never be ahead of the database: it is written after the acknowledgement. It need not
//! be synced: an older mark only notices less.

use std::io;
use std::time::Duration;

use crate::config::{Config, DatabaseUrl, SqliteLocation};
use crate::data_dir::{self, DataDirError};
use crate::storage::{Mark, Store};

pub(super) const NAME: &str = "heartbeat";
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Whether a mark is kept: a database in memory ends with its process.
fn is_kept(config: &Config) -> bool {
    !matches!(config.database.url, DatabaseUrl::Sqlite(SqliteLocation::Memory))
}

/// What an earlier process remembers. A file that cannot be read as a mark says nothing.
pub fn remembered(config: &Config) -> Result<Option<Mark>, DataDirError> {
    let path = &config.recovery.mark_file;
    if !is_kept(config) {
        return Ok(None);
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DataDirError::Io { path: path.clone(), error }),
    };
    match serde_json::from_str(&text) {
        Ok(mark) => Ok(Some(mark)),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "the mark file cannot be read, and is not compared");
            Ok(None)
        }
    }
}

/// Remembers what the database acknowledged.
pub fn remember(config: &Config, mark: &Mark) {
    if !is_kept(config) {
        return;
    }
    let line = serde_json::to_string(mark).map_err(|error| error.to_string());
    let written = line.and_then(|line| {
        data_dir::write_note(&config.recovery.mark_file, &line).map_err(|error| error.to_string())
    });
    if let Err(error) = written {
        tracing::warn!(error, "the mark file cannot be written");
    }
}

/// Forgets it: the database is known to be right.
pub fn forget(config: &Config) -> Result<(), DataDirError> {
    data_dir::remove_note(&config.recovery.mark_file)
}

pub(super) async fn run(store: &Store, config: &Config, last: &mut Option<Mark>) {
    match store.heartbeat().await {
        Ok(mark) => {
            if last.as_ref() != Some(&mark) {
                remember(config, &mark);
            }
            *last = Some(mark);
        }
        // `/readyz` tells, and the log of whatever else needs the database.
        Err(error) => tracing::debug!(job = NAME, %error, "no heartbeat"),
    }
}

/// The last heartbeat of an instance that stops. Takes a bounded time with the rest of the stop.
pub async fn depart(store: &Store, config: &Config) {
    match store.depart().await {
        Ok(mark) => remember(config, &mark),
        Err(error) => tracing::warn!(job = NAME, %error, "the stop could not be recorded"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::config::{Need, Sources};

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
        let mark = Mark { generation: Uuid::now_v7(), instance: Uuid::now_v7(), counter: 7, at };
        remember(&config, &mark);
        assert_eq!(remembered(&config).unwrap(), Some(mark));
        for text in ["", "nonsense", "{}"] {
            std::fs::write(&config.recovery.mark_file, text).unwrap();
            assert_eq!(remembered(&config).unwrap(), None, "{text:?}");
        }
        forget(&config).unwrap();
        forget(&config).unwrap();
        assert!(!config.recovery.mark_file.exists());
    }
}
