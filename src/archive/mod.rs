//! The archive: one file with all data of a database, which either kind of database can take.
//!
//! An archive is a tar file in one zstd frame, so `tar --zstd -tf FILE` lists it. It holds, in this
//! order: `onceguard-archive.json`, chunks such as `sessions/000001.ndjson` with one row as JSON a
//! line, and `manifest.json`. A skippable frame follows, which zstd passes over: the SHA-256 of all bytes
//! before it. So a changed byte is found wherever it is, even one that zstd would ignore.
//!
//! Encrypted, it is such a file within a file of `age`.
//!
//! Nothing here knows a database or what the rows mean.

mod age;
mod draft;
mod manifest;
mod output;
mod read;
mod seal;
#[cfg(test)]
mod tests;
mod write;

pub use age::is_installed as age_is_installed;
pub use draft::{DRAFT_SUFFIX, Draft};
pub use manifest::{Manifest, Origin, TableContent};
pub use output::Output;
pub use read::{InvalidArchive, read};
pub use write::Writer;

/// The newest format, and the only one so far.
const FORMAT: u32 = 1;
/// The first entry. It names the format, before anything whose form depends on the format.
const FORMAT_ENTRY: &str = "onceguard-archive.json";
/// The last entry: what the archive holds, with the sum of every chunk.
const MANIFEST_ENTRY: &str = "manifest.json";
/// The most bytes of an entry. A writer stays far below; a damaged file must not fill the memory.
const LARGEST_ENTRY: u64 = 64 * 1024 * 1024;
