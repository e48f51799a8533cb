//! Reads an archive from its beginning to its end, and believes nothing of it. It is read once, as a
//! stream, since it may come out of a pipe.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::rc::Rc;

use serde::Deserialize;
use tar::{Archive, Entry};
use zstd::Decoder;

use super::age::{self, Decrypting};
use super::manifest::{self, Manifest, TableContent};
use super::seal::{self, Hashing, sum};
use super::{FORMAT, FORMAT_ENTRY, LARGEST_ENTRY, MANIFEST_ENTRY};

/// How a zstd frame begins.
const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// How much is read at once.
const BUFFER: usize = 128 * 1024;

/// Why a file is not an archive that can be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidArchive {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is no archive of onceguard, or its beginning is damaged")]
    Unknown,
    #[error(
        "is of format {0}, and this onceguard reads format {FORMAT} only: use the version of \
         onceguard that wrote it, or a newer one"
    )]
    Newer(u32),
    #[error("is encrypted: name the file with your secret key, as --identity FILE")]
    Encrypted,
    #[error("cannot be decrypted: age says: {0}")]
    Undecryptable(String),
    #[error("is truncated: it ends within {place}, after {bytes} bytes")]
    Truncated { place: String, bytes: u64 },
    #[error("is damaged in {place}, within its first {bytes} bytes: {why}")]
    Damaged { place: String, bytes: u64, why: String },
}

/// Reads the whole file, and gives `each` the table and the lines of every chunk, in order. Only
/// when this returns the manifest, all that was given is known to be what was written.
///
/// An encrypted file is decrypted with the secret key in the file `identity`, which only the program
/// `age` reads.
pub fn read<E: From<InvalidArchive>>(
    path: &Path,
    identity: Option<&Path>,
    each: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
) -> Result<Manifest, E> {
    let file = File::open(path).map_err(InvalidArchive::Io)?;
    let mut file = BufReader::with_capacity(BUFFER, file);
    if !age::is_encrypted(file.fill_buf().map_err(InvalidArchive::Io)?) {
        return read_plain(file, each);
    }
    let identity = identity.ok_or(InvalidArchive::Encrypted)?;
    let (decrypting, plain) = Decrypting::start(path, identity).map_err(InvalidArchive::Io)?;
    let read = read_plain(BufReader::with_capacity(BUFFER, plain), each);
    // What it complains of is why what was read is no archive.
    match decrypting.finish().map_err(InvalidArchive::Io)? {
        Some(words) => Err(InvalidArchive::Undecryptable(words).into()),
        None => read,
    }
}

fn read_plain<E: From<InvalidArchive>>(
    mut file: impl BufRead,
    each: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
) -> Result<Manifest, E> {
    if !file.fill_buf().map_err(InvalidArchive::Io)?.starts_with(&ZSTD) {
        return Err(InvalidArchive::Unknown.into());
    }
    let bytes = Rc::new(Cell::new(0));
    let counted = Counted { inner: file, bytes: Rc::clone(&bytes) };
    let mut reading = Reading { place: FORMAT_ENTRY.to_owned(), bytes, tables: Vec::new() };
    let (manifest, mut rest, expected) = reading.body(counted, each)?;
    "its end".clone_into(&mut reading.place);
    let mut found = Vec::new();
    let most = seal::LENGTH as u64 + 1;
    rest.by_ref().take(most).read_to_end(&mut found).map_err(InvalidArchive::Io)?;
    if found == expected {
        return Ok(manifest);
    }
    Err(if found.starts_with(&expected) {
        reading.damaged("something was added after it")
    } else if found.len() < seal::LENGTH {
        reading.truncated()
    } else {
        reading
            .damaged("its SHA-256 does not fit the bytes before it, one of which may have changed")
    }
    .into())
}

/// How far the reading has come.
struct Reading {
    place: String,
    /// Of the file.
    bytes: Rc<Cell<u64>>,
    /// What was read, as the manifest should have it.
    tables: Vec<TableContent>,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

impl Reading {
    /// Returns also what follows the compressed data, and the seal that this must be.
    fn body<F: BufRead, E: From<InvalidArchive>>(
        &mut self,
        file: F,
        mut each: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
    ) -> Result<(Manifest, F, [u8; seal::LENGTH]), E> {
        let zstd = Decoder::with_buffer(Hashing::new(file)).map_err(InvalidArchive::Io)?;
        let mut tar = Archive::new(zstd.single_frame());
        let mut manifest = None;
        let mut entries = tar.entries().map_err(InvalidArchive::Io)?;
        match entries.next() {
            Some(Ok(first)) => self.format(first)?,
            Some(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                // Either the file is cut short, or what it holds is too short for an archive.
                let ended = tar.into_inner().read(&mut [0]).is_ok();
                return Err(if ended { InvalidArchive::Unknown } else { self.truncated() }.into());
            }
            _ => return Err(InvalidArchive::Unknown.into()),
        }
        for entry in entries {
            if manifest.is_some() {
                return Err(self.damaged("something follows the manifest").into());
            }
            self.place = self.place_after();
            let mut entry = entry.map_err(|error| self.broken(&error))?;
            let name = entry.path().ok().and_then(|path| path.to_str().map(str::to_owned));
            let Some(name) = name else { return Err(self.damaged("an entry has no name").into()) };
            let content = self.content(&mut entry)?;
            if name == MANIFEST_ENTRY {
                MANIFEST_ENTRY.clone_into(&mut self.place);
                manifest = Some(self.manifest(&content)?);
                continue;
            }
            let table = name.split('/').next().unwrap_or_default();
            if manifest::next_file(&self.tables, table) != name {
                return Err(self.damaged("a chunk is missing, or is where none belongs").into());
            }
            self.place.clone_from(&name);
            let rows: u64 = content.iter().map(|byte| u64::from(*byte == b'\n')).sum();
            manifest::add(&mut self.tables, table, rows, sum(&content));
            each(table, content)?;
        }
        "its end".clone_into(&mut self.place);
        let manifest = manifest.ok_or_else(|| self.truncated())?;
        let mut zstd = tar.into_inner();
        // The frame ends after the tar file does, with a checksum of its own.
        io::copy(&mut zstd, &mut io::sink()).map_err(|error| self.broken(&error))?;
        let (rest, expected) = zstd.finish().finish();
        Ok((manifest, rest, expected))
    }

    fn format(&self, mut entry: Entry<'_, impl Read>) -> Result<(), InvalidArchive> {
        if entry.path_bytes() != FORMAT_ENTRY.as_bytes() {
            return Err(InvalidArchive::Unknown);
        }
        let content = self.content(&mut entry)?;
        let Format { format } =
            serde_json::from_slice(&content).map_err(|_| InvalidArchive::Unknown)?;
        if format == FORMAT { Ok(()) } else { Err(InvalidArchive::Newer(format)) }
    }

    fn content(&self, entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, InvalidArchive> {
        let size = entry.size();
        if size > LARGEST_ENTRY {
            return Err(self.damaged("an entry is larger than any that is written"));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|error| self.broken(&error))?;
        if content.len() as u64 == size { Ok(content) } else { Err(self.truncated()) }
    }

    /// The manifest, if it says of each chunk what was read.
    fn manifest(&self, content: &[u8]) -> Result<Manifest, InvalidArchive> {
        let manifest: Manifest =
            serde_json::from_slice(content).map_err(|error| self.damaged(&error.to_string()))?;
        let wrong = |place: &str| InvalidArchive::Damaged {
            place: place.to_owned(),
            bytes: self.bytes.get(),
            why: "it is not what the manifest says".to_owned(),
        };
        let said = manifest.tables.iter().flat_map(|table| &table.chunks);
        let read = self.tables.iter().flat_map(|table| &table.chunks);
        if let Some((said, _)) = said.zip(read).find(|(said, read)| said != read) {
            return Err(wrong(&said.file));
        }
        // It also names the tables that have no rows.
        let filled = manifest.tables.iter().filter(|table| table.rows > 0);
        if filled.eq(&self.tables) { Ok(manifest) } else { Err(wrong(MANIFEST_ENTRY)) }
    }

    /// Where a reader is that has read all that came so far.
    fn place_after(&self) -> String {
        match self.tables.last().and_then(|table| table.chunks.last()) {
            Some(chunk) => format!("what follows {}", chunk.file),
            None => format!("what follows {FORMAT_ENTRY}"),
        }
    }

    fn broken(&self, error: &io::Error) -> InvalidArchive {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(),
            _ => self.damaged(&error.to_string()),
        }
    }

    fn truncated(&self) -> InvalidArchive {
        InvalidArchive::Truncated { place: self.place.clone(), bytes: self.bytes.get() }
    }

    fn damaged(&self, why: &str) -> InvalidArchive {
        InvalidArchive::Damaged {
            place: self.place.clone(),
            bytes: self.bytes.get(),
            why: why.to_owned(),
        }
    }
}

/// Counts the bytes that were taken.
struct Counted<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R> Counted<R> {
    fn count(&self, taken: usize) {
        self.bytes.set(self.bytes.get() + taken as u64);
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count(read);
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.count(count);
        self.inner.consume(count);
    }
}
