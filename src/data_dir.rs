//! The data folder: made for its owner only, locked by the one `serve` that uses it, and home to
//! secrets that no other user may read. What is kept here survives a power cut as soon as it is used.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
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
    let io = |error| DataDirError::Io { path: folder.to_owned(), error };
    let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(io)?;
    missing.into_iter().try_for_each(sync_name).map_err(io)
}

/// Returns when a power cut no longer takes this file or folder out of the folder that it is in.
/// The content of a file is synced by whoever wrote it.
pub fn sync_name(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let synced = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
    match synced {
        // As PostgreSQL does: there are file systems that cannot, and some that need not.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Takes the folder for this process.
pub fn lock(folder: &Path) -> Result<DataDirLock, DataDirError> {
    let path = folder.join("onceguard.lock");
    match lock_file(&path) {
        Ok(Some(file)) => Ok(DataDirLock(file)),
        Ok(None) => Err(DataDirError::InUse { path: folder.to_owned() }),
        Err(error) => Err(DataDirError::Io { path, error }),
    }
}

/// Makes a lock file where there is none, and locks it until the file is dropped; `None` when
/// another process has it.
pub fn lock_file(path: &Path) -> io::Result<Option<File>> {
    let file = private().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Reads a secret's file; `None` when there is none. What it returns survives a power cut, though
/// the process that wrote it may have been killed before it had synced it.
pub fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, DataDirError> {
    let read = || -> io::Result<_> {
        let mut file = File::open(path)?;
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text)?;
        file.sync_all()?;
        sync_name(path)?;
        Ok(text)
    };
    match read() {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DataDirError::Io { path: path.to_owned(), error }),
    }
}

/// Writes a new secret's file, mode 0600, as a whole: a crash leaves the complete file or none.
/// When this returns, a power cut leaves it, too. A file that exists is never overwritten.
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
    let result = result.and_then(|()| sync_name(path));
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

/// Replaces a file that only its owner may read. When this returns, a power cut leaves the new one;
/// before that, the old one or the new one whole.
pub fn replace_private(path: &Path, text: &str) -> Result<(), DataDirError> {
    let draft = path.with_extension("draft");
    let written = || {
        let mut file = private().create(true).truncate(true).write(true).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        // A file system may carry out the rename before the content.
        file.sync_data()?;
        std::fs::rename(&draft, path)?;
        sync_name(path)
    };
    written().map_err(|error| DataDirError::Io { path: path.to_owned(), error })
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

/// Opens a file to read and write, and makes it for its owner only when there is none.
pub fn private_file(path: &Path) -> io::Result<File> {
    private().create(true).truncate(false).read(true).write(true).open(path)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
