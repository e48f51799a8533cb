//! The data folder: made for its owner alone, locked by the one `serve` that uses it, and home
//! to secrets that nobody else may read.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Where the API is served, for whoever starts the service on port 0.
pub const API_ADDRESS_FILE: &str = "listen.addr";
/// Where metrics and health are served.
pub const OPS_ADDRESS_FILE: &str = "ops.addr";

/// What is wrong with the data folder.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{path}: another `onceguard serve` uses this data folder; stop it, or give this one a \
         folder of its own with --data-dir",
        path = path.display()
    )]
    InUse { path: PathBuf },
}

/// Holds the data folder's lock until it is dropped (or the process dies).
#[derive(Debug)]
pub struct DataDirLock(#[allow(dead_code, reason = "the open file is the lock")] File);

/// Creates the folder, mode 0700, when it does not exist.
pub fn create(folder: &Path) -> Result<(), DataDirError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| DataDirError::Io { path: folder.to_owned(), error })
}

/// Takes the folder for this process.
pub fn lock(folder: &Path) -> Result<DataDirLock, DataDirError> {
    let path = folder.join("onceguard.lock");
    let io = |error| DataDirError::Io { path: path.clone(), error };
    let file = private().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(DataDirLock(file)),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Reads a secret's file; `None` when there is none.
pub fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, DataDirError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataDirError::Io { path: path.to_owned(), error }),
    }
}

/// Writes a new secret's file, mode 0600, durably and as a whole: a crash leaves the complete
/// file or none. A file that exists is never overwritten.
pub fn write_secret(path: &Path, text: &str) -> Result<(), DataDirError> {
    let draft = path.with_extension("draft");
    let written = || {
        let mut file = private().create(true).truncate(true).write(true).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::hard_link(&draft, path) // unlike a rename, fails when `path` exists
    };
    let result = written();
    let _ = std::fs::remove_file(&draft);
    result.map_err(|error| DataDirError::Io { path: path.to_owned(), error })
}

/// Writes a file that others may read and that every start replaces, such as a bound address.
/// Whoever reads it meanwhile sees the whole of it, or none.
pub fn write_note(path: &Path, text: &str) -> Result<(), DataDirError> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, format!("{text}\n"))
        .and_then(|()| std::fs::rename(&draft, path))
        .map_err(|error| DataDirError::Io { path: path.to_owned(), error })
}

/// Removes what an earlier start wrote there, so that nobody takes it for this one's.
pub fn remove_note(path: &Path) -> Result<(), DataDirError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(DataDirError::Io { path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
