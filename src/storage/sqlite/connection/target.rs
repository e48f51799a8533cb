//! Opening SQLite: where the file is, and how each connection is set up.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::errors::store_error;
use crate::config::SqliteLocation;
use crate::data_dir::sync_name;
use crate::storage::{Result, StoreError};

/// How long a connection waits for another process's lock. The only other processes are commands,
/// and their transactions are short.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// At this many pages in the WAL (1 GiB), a commit copies them into the database itself. That
/// happens only when the checkpointer has ended, or a reader keeps the WAL from restarting for very
/// long.
const AUTO_CHECKPOINT_PAGES: u32 = 262_144;
/// The WAL is cut back to this size when it restarts. That is more than it usually has by then,
/// because a growing file is written more slowly.
const WAL_BYTES_KEPT: u32 = 96 * 1024 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    Checkpointer,
}

#[derive(QueryableByName)]
struct JournalMode {
    #[diesel(sql_type = Text)]
    journal_mode: String,
}

/// A database to open connections to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The absolute path, so that SQLite never takes it for one of its URIs.
    File(String),
    Memory,
}

impl Target {
    /// Finds the file, or creates an empty one that only its owner can read.
    pub(crate) fn prepare(location: &SqliteLocation) -> Result<Self> {
        let SqliteLocation::File(path) = location else { return Ok(Self::Memory) };
        let absolute = std::path::absolute(path).map_err(|e| cannot_open(path, &e.to_string()))?;
        match absolute.parent() {
            Some(folder) if folder.is_dir() => {}
            Some(folder) => {
                let reason = format!("there is no folder {}; create it first", folder.display());
                return Err(cannot_open(path, &reason));
            }
            None => return Err(cannot_open(path, "it is not a file")),
        }
        if absolute.is_dir() {
            return Err(cannot_open(path, "it is a folder, not a file"));
        }
        create_private(&absolute).map_err(|e| cannot_open(path, &e.to_string()))?;
        match absolute.into_os_string().into_string() {
            Ok(text) => Ok(Self::File(text)),
            Err(_) => Err(cannot_open(path, "its path is not valid UTF-8")),
        }
    }

    pub(crate) const fn is_memory(&self) -> bool {
        matches!(self, Self::Memory)
    }

    /// The file itself, for work that SQLite does not do. It must never be closed: that would
    /// release SQLite's locks on it. (POSIX locks belong to the process, and end when the process
    /// closes any descriptor of the file.)
    pub(crate) fn file(&self) -> std::io::Result<ManuallyDrop<File>> {
        match self {
            Self::File(path) => File::open(path).map(ManuallyDrop::new),
            Self::Memory => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    /// Where SQLite keeps its WAL, if there is one.
    pub(crate) fn wal(&self) -> PathBuf {
        match self {
            Self::File(path) => format!("{path}-wal").into(),
            Self::Memory => PathBuf::new(),
        }
    }

    pub(crate) fn connect(&self, role: Role) -> Result<SqliteConnection> {
        let path = match self {
            Self::File(path) => path,
            Self::Memory => ":memory:",
        };
        let shown = PathBuf::from(path);
        let mut conn =
            SqliteConnection::establish(path).map_err(|e| cannot_open(&shown, &e.to_string()))?;
        set_up(&mut conn, role, self.is_memory()).map_err(|e| match e {
            StoreError::Unavailable(reason) => cannot_open(&shown, &reason),
            other => other,
        })?;
        Ok(conn)
    }
}

fn set_up(conn: &mut SqliteConnection, role: Role, memory: bool) -> Result<()> {
    let failed = |e: diesel::result::Error| store_error(&e);
    conn.batch_execute(&format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis()))
        .map_err(failed)?;
    let mode: JournalMode =
        diesel::sql_query("PRAGMA journal_mode = WAL").get_result(conn).map_err(failed)?;
    if !memory && mode.journal_mode != "wal" {
        return Err(StoreError::Unavailable(format!(
            "its file system does not support SQLite's WAL (the journal mode stays {:?}); \
             use a local disk",
            mode.journal_mode
        )));
    }
    // No memory-mapped reads: with them, an I/O error is a signal that ends the process.
    let (cache_kibibytes, checkpoint_pages) = match role {
        Role::Writer => (16 * 1024, AUTO_CHECKPOINT_PAGES),
        Role::Reader => (4 * 1024, 0),
        Role::Checkpointer => (256, 0),
    };
    let query_only = u8::from(role == Role::Reader);
    for pragma in [
        "synchronous = FULL".to_owned(),
        "fullfsync = ON".to_owned(),
        "checkpoint_fullfsync = ON".to_owned(),
        "foreign_keys = ON".to_owned(),
        "temp_store = MEMORY".to_owned(),
        format!("cache_size = -{cache_kibibytes}"),
        format!("wal_autocheckpoint = {checkpoint_pages}"),
        format!("journal_size_limit = {WAL_BYTES_KEPT}"),
        format!("query_only = {query_only}"),
    ] {
        conn.batch_execute(&format!("PRAGMA {pragma}")).map_err(failed)?;
    }
    Ok(())
}

/// SQLite's own `-wal` and `-shm` files take the mode of this one.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => sync_name(path),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

fn cannot_open(path: &Path, reason: &str) -> StoreError {
    StoreError::Unavailable(format!("cannot open {}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<SqliteConnection> {
        Target::prepare(&SqliteLocation::File(path.to_owned()))?.connect(Role::Writer)
    }

    fn reason(result: Result<SqliteConnection>) -> String {
        match result {
            Err(StoreError::Unavailable(reason)) => reason,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it opened"),
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        let mut conn = open(&path).unwrap();
        conn.batch_execute("CREATE TABLE t (n)").unwrap();
        for name in ["new.db", "new.db-wal", "new.db-shm"] {
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_a_database_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text.db");
        std::fs::write(&text, "not a database ".repeat(1_000)).unwrap();
        assert!(reason(open(&text)).contains("text.db: the file is not an SQLite database"));
        let nowhere = folder.path().join("nowhere/a.db");
        assert!(reason(open(&nowhere)).contains("there is no folder"));
        assert!(!nowhere.exists());
        assert!(reason(open(folder.path())).contains("it is a folder"));
    }

    #[test]
    fn a_path_that_looks_like_a_uri_is_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db?mode=memory");
        open(&path).unwrap().batch_execute("CREATE TABLE t (n)").unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() > 0);
    }
}
