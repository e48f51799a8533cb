//! `manifest.json`: what an archive holds, and where that came from.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::Timestamp;

/// Where the rows of an archive came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The kind of the database: `postgresql` or `sqlite`.
    pub source: String,
    /// The database's newest migration.
    pub schema: String,
    /// The generation of the database's past.
    pub generation: Uuid,
    /// When the rows were the database's content, by its clock.
    pub taken_at: Timestamp,
}

/// The manifest. Readers ignore fields that they do not know: a field that changes what the others
/// mean needs a new format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The version of onceguard that wrote the archive.
    pub version: String,
    #[serde(flatten)]
    pub origin: Origin,
    pub tables: Vec<TableContent>,
}

/// The rows of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableContent {
    pub name: String,
    pub rows: u64,
    pub chunks: Vec<Chunk>,
}

/// One entry of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    pub file: String,
    pub rows: u64,
    pub sha256: String,
}

impl Manifest {
    /// The rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// Adds a chunk, which is of the last table or of a new one. Returns its name.
pub(super) fn add(tables: &mut Vec<TableContent>, table: &str, rows: u64, sha256: String) {
    let file = next_file(tables, table);
    let chunk = Chunk { file, rows, sha256 };
    match tables.last_mut().filter(|last| last.name == table) {
        Some(last) => {
            last.rows += rows;
            last.chunks.push(chunk);
        }
        None => tables.push(TableContent { name: table.to_owned(), rows, chunks: vec![chunk] }),
    }
}

/// What the next chunk is called if it is of this table.
pub(super) fn next_file(tables: &[TableContent], table: &str) -> String {
    let before = tables.last().filter(|last| last.name == table).map_or(0, |t| t.chunks.len());
    format!("{table}/{:06}.ndjson", before + 1)
}
