//! Writes an archive, chunk by chunk, into anything that takes bytes.

use std::io::{self, Write};

use tar::{Builder, EntryType, Header};
use zstd::Encoder;

use super::manifest::{self, Manifest, Origin, TableContent};
use super::seal::{Hashing, sum};
use super::{FORMAT, FORMAT_ENTRY, MANIFEST_ENTRY};

/// zstd's own default: a good half of what the best level saves, at a twentieth of its cost.
const LEVEL: i32 = 3;

/// An archive that is being written. Unless it is [finished](Self::finish), what was written is no
/// archive, and every reader says so.
pub struct Writer<W: Write> {
    tar: Builder<Encoder<'static, Hashing<W>>>,
    origin: Origin,
    tables: Vec<TableContent>,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, origin: Origin) -> io::Result<Self> {
        let mut zstd = Encoder::new(Hashing::new(out), LEVEL)?;
        zstd.include_checksum(true)?;
        let mut writer = Self { tar: Builder::new(zstd), origin, tables: Vec::new() };
        writer.entry(FORMAT_ENTRY, format!("{{\"format\":{FORMAT}}}\n").as_bytes())?;
        Ok(writer)
    }

    /// Adds rows of a table, each a line of JSON. All rows of a table come one after the other.
    pub fn chunk(&mut self, table: &str, rows: u64, lines: &[u8]) -> io::Result<()> {
        self.entry(&manifest::next_file(&self.tables, table), lines)?;
        manifest::add(&mut self.tables, table, rows, sum(lines));
        Ok(())
    }

    /// Says that a table has no rows. So a reader knows that none is missing.
    pub fn empty(&mut self, table: &str) {
        if !self.tables.iter().any(|known| known.name == table) {
            let chunks = Vec::new();
            self.tables.push(TableContent { name: table.to_owned(), rows: 0, chunks });
        }
    }

    /// Writes the manifest and the seal, and gives back what it wrote into.
    pub fn finish(mut self) -> io::Result<(W, Manifest)> {
        let manifest = Manifest {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            origin: self.origin.clone(),
            tables: std::mem::take(&mut self.tables),
        };
        let mut text = serde_json::to_vec_pretty(&manifest)?;
        text.push(b'\n');
        self.entry(MANIFEST_ENTRY, &text)?;
        let (mut out, seal) = self.tar.into_inner()?.finish()?.finish();
        out.write_all(&seal)?;
        out.flush()?;
        Ok((out, manifest))
    }

    /// Has the manifest say something else than what was written.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, tables: Vec<TableContent>) {
        self.tables = tables;
    }

    fn entry(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.origin.taken_at.timestamp()).unwrap_or(0));
        header.set_size(content.len() as u64);
        self.tar.append_data(&mut header, name, content)
    }
}
