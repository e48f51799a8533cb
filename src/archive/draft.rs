//! A new file that has its name only once it is whole and on the disk.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use uuid::Uuid;

use crate::data_dir::{lock_file, sync_name};

/// How the names of drafts end. A draft is left over when its process was killed.
pub const DRAFT_SUFFIX: &str = ".draft";
/// How many names are tried.
const MOST_NAMES: u32 = 1000;

/// A file that is being written, beside the place where it will be. Its owner alone can read it.
/// It is locked as long as it is written, and removed when it is dropped.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    unfinished: PathBuf,
    file: File,
    /// Whether it takes another name when its name is taken.
    yielding: bool,
}

impl Draft {
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when there is something at `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        refuse_existing(path)?;
        Self::begin(path, false)
    }

    /// A file that gets the first of these names that is free: `a.tar`, `a_2.tar`, `a_3.tar`, …
    pub fn yielding(path: &Path) -> io::Result<Self> {
        Self::begin(path, true)
    }

    fn begin(path: &Path, yielding: bool) -> io::Result<Self> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}{DRAFT_SUFFIX}", Uuid::now_v7().simple()));
        let draft = PathBuf::from(draft);
        let file = lock_file(&draft)?.ok_or(io::ErrorKind::ResourceBusy)?;
        Ok(Self { path: path.to_owned(), unfinished: draft, file, yielding })
    }

    /// For a program that writes it.
    pub fn stdio(&self) -> io::Result<Stdio> {
        self.file.try_clone().map(Stdio::from)
    }

    /// Gives the file its name, and returns that. From then on, a power cut leaves it there.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when something came to be at its place meanwhile.
    pub fn publish(self) -> io::Result<PathBuf> {
        self.file.sync_all()?;
        let path = self.link()?;
        drop(self); // The draft's name goes before the folder is synced.
        sync_name(&path)?;
        Ok(path)
    }

    fn link(&self) -> io::Result<PathBuf> {
        let mut path = self.path.clone();
        for number in 2.. {
            // Unlike a rename, this fails when there is a file.
            match std::fs::hard_link(&self.unfinished, &path) {
                Err(error)
                    if self.yielding
                        && error.kind() == io::ErrorKind::AlreadyExists
                        && number <= MOST_NAMES =>
                {
                    path = numbered(&self.path, number);
                }
                linked => return linked.map(|()| path),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
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

/// `a.tar` as `a_2.tar`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (stem, extensions) = name.split_once('.').unwrap_or((&name, ""));
    path.with_file_name(format!("{stem}_{number}.{extensions}"))
}

fn refuse_existing(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
