//! Only one process serves a database, even when two name its file differently or have different
//! data folders.
//!
//! The lock is a file beside the database's real path, so symbolic links and relative paths lead to
//! the same lock. It is never the database's own file: closing that would release the locks that
//! SQLite holds on it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::SqliteLocation;
use crate::data_dir::lock_file;

/// Holds the database for this process. Dropping it, or the end of the process, releases the
/// database.
#[derive(Debug)]
pub struct DatabaseLock(#[allow(dead_code, reason = "the open file is the lock")] Option<File>);

/// Why a database cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseLockError {
    #[error(
        "{path}: another `onceguard serve` uses this database; stop it, or give this one a \
         database of its own",
        path = path.display()
    )]
    InUse { path: PathBuf },
    /// SQLite's WAL lies beside only one of the names.
    #[error(
        "{path} has {names} names (hard links), and used by two of them an SQLite database is \
         damaged; remove the other names, or copy the file",
        path = path.display()
    )]
    HardLinks { path: PathBuf, names: u64 },
    #[error("{path}: {error}", path = path.display())]
    Io { path: PathBuf, error: io::Error },
}

impl DatabaseLock {
    /// Takes the database, which need not exist yet. A database in memory needs no lock.
    pub fn take(location: &SqliteLocation) -> Result<Self, DatabaseLockError> {
        let SqliteLocation::File(path) = location else { return Ok(Self(None)) };
        let io = |error| DatabaseLockError::Io { path: path.clone(), error };
        let real = real_path(path).map_err(io)?;
        match std::fs::metadata(&real) {
            Ok(file) if file.is_file() && file.nlink() > 1 => {
                return Err(DatabaseLockError::HardLinks { path: real, names: file.nlink() });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let mut lock = real.clone().into_os_string();
        lock.push(".lock");
        match lock_file(Path::new(&lock)).map_err(io)? {
            Some(file) => Ok(Self(Some(file))),
            None => Err(DatabaseLockError::InUse { path: real }),
        }
    }
}

/// For a file that does not exist yet, the path where SQLite makes it.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            let absolute = std::path::absolute(path)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(folder), Some(name)) => {
                    let real = folder.canonicalize().map_err(|error| {
                        io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
                    });
                    Ok(real?.join(name))
                }
                _ => Err(error),
            }
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(path: PathBuf) -> Result<DatabaseLock, DatabaseLockError> {
        DatabaseLock::take(&SqliteLocation::File(path))
    }

    #[test]
    fn a_database_is_one_by_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        std::fs::create_dir(folder.path().join("b")).unwrap();
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(take(link.clone()), Err(DatabaseLockError::Io { .. })), "to nothing");

        let names = [path.clone(), folder.path().join("b/../a.db"), link];
        // Before the file exists, and after.
        let held = take(path.clone()).unwrap();
        assert!(matches!(take(names[1].clone()), Err(DatabaseLockError::InUse { .. })));
        drop(held);
        std::fs::write(&path, "").unwrap();
        for name in &names {
            let held = take(name.clone()).unwrap();
            for other in &names {
                let refused = take(other.clone());
                assert!(matches!(refused, Err(DatabaseLockError::InUse { .. })), "{refused:?}");
            }
            drop(held);
        }
        std::fs::hard_link(&path, folder.path().join("b/hard.db")).unwrap();
        for name in names.into_iter().chain([folder.path().join("b/hard.db")]) {
            let refused = take(name);
            assert!(matches!(refused, Err(DatabaseLockError::HardLinks { names: 2, .. })));
        }
    }

    #[test]
    fn memory_is_nobody_elses() {
        let [_one, _two] = [(); 2].map(|()| DatabaseLock::take(&SqliteLocation::Memory).unwrap());
    }
}
