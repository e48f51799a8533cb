//! A new file that has its name only once it is whole and on the disk.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::data_dir::{lock_file, sync_name};

/// How the names of drafts end. A draft is left over when its process was killed.
pub const DRAFT_SUFFIX: &str = ".draft";

/// A file that is being written, beside the place where it will be. Its owner alone can read it.
/// It is locked as long as it is written, and removed when it is dropped.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
}

impl Draft {
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when there is something at `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        refuse_existing(path)?;
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}{DRAFT_SUFFIX}", Uuid::now_v7().simple()));
        let draft = PathBuf::from(draft);
        let file = lock_file(&draft)?.ok_or(io::ErrorKind::ResourceBusy)?;
        Ok(Self { path: path.to_owned(), unfinished: draft, file })
    }

    /// Gives the file its name. When this returns, a power cut leaves it there.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when something came to be at its place meanwhile.
    pub fn publish(self) -> io::Result<()> {
        self.file.sync_all()?;
        // Unlike a rename, this fails when there is a file.
        std::fs::hard_link(&self.unfinished, &self.path)?;
        let path = self.path.clone();
        drop(self); // The draft's name goes before the folder is synced.
        sync_name(&path)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.unfinished);
    }
}

fn refuse_existing(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
