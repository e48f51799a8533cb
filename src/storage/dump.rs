//! Dumps: every row of a database as it was at one moment, in chunks, for an archive.

use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::tables::Table;
use super::{MigrationStatus, Result, Store, StoreError, on};
use crate::domain::Timestamp;

/// The most rows of a chunk.
const CHUNK_ROWS: u64 = 10_000;
/// A chunk ends early when it has this many bytes.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// Chunks that may wait for their reader. With them, a dump takes a few times [`CHUNK_BYTES`] of
/// memory, however large the database is.
const WAITING: usize = 1;

/// Rows that are read at once. Between two pages, others have the processor.
pub(super) const PAGE: u64 = 500;
/// A dump beside other work pauses this many times as long as it reads: it takes a quarter of a
/// processor at most.
const PAUSE: u32 = 3;

/// How a dump shares the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Nothing else runs.
    Alone,
    /// A service runs, which must not be held up.
    Beside,
}

impl Pace {
    /// The pause after work that took so long.
    pub(super) fn pause(self, took: Duration) -> Duration {
        match self {
            Self::Alone => Duration::ZERO,
            Self::Beside => took * PAUSE,
        }
    }
}

/// The lease of the instance that makes a backup. It also says when the last one was made.
pub const BACKUP_LEASE: &str = "backup";

/// Rows of one table, each a line of JSON (see [`super::tables`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpChunk {
    pub table: &'static str,
    pub rows: u64,
    pub lines: Vec<u8>,
}

/// A dump under way. It ends when this is dropped.
#[derive(Debug)]
pub struct Dump {
    /// The name of the database's newest migration.
    pub schema: String,
    /// The generation of the database's past.
    pub generation: Uuid,
    /// When the rows were the database's content, by its clock.
    pub taken_at: Timestamp,
    parts: mpsc::Receiver<Result<Part>>,
}

#[derive(Debug)]
enum Part {
    Chunk(DumpChunk),
    /// There is no more. A dump that ends without it was cut short.
    End,
}

impl Dump {
    /// The next rows; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<DumpChunk>> {
        match self.parts.recv().await {
            Some(Ok(Part::Chunk(chunk))) => Ok(Some(chunk)),
            Some(Ok(Part::End)) => Ok(None),
            Some(Err(error)) => Err(error),
            None => Err(StoreError::Unavailable("the dump was cut short".to_owned())),
        }
    }
}

impl Store {
    /// Reads every table, beside all other work, as of one moment: what was committed before this
    /// was called is in it. Refuses a database with migrations that this binary does not have.
    pub async fn dump(&self, pace: Pace) -> Result<Dump> {
        on!(self, store => store.dump(pace).await)
    }

    /// When the last backup was made, as far as the database knows.
    pub async fn last_backup(&self) -> Result<Option<Timestamp>> {
        Ok(self.lease(BACKUP_LEASE).await?.and_then(|lease| lease.finished_at))
    }
}

/// A dump, and how its store feeds it.
pub(super) fn begin(schema: String, generation: Uuid, taken_at: Timestamp) -> (Feed, Dump) {
    let (sender, parts) = mpsc::channel(WAITING);
    (Feed(sender), Dump { schema, generation, taken_at, parts })
}

/// The newest migration, if every one is known and applied.
pub(super) fn schema(migrations: &[MigrationStatus]) -> Result<String> {
    if let Some(newer) = super::migrations::unknown(migrations) {
        return Err(StoreError::Unsuitable(format!(
            "it has migration {newer}, which this onceguard does not know: use the newer one"
        )));
    }
    match migrations.last() {
        Some(newest) if migrations.iter().all(|migration| migration.applied) => {
            Ok(newest.name.clone())
        }
        _ => Err(StoreError::Migration(
            "the database lacks migrations; `onceguard migrate up` applies them".to_owned(),
        )),
    }
}

/// Takes the rows from a store. The reader of the dump may have gone: then there is nothing to do.
pub(super) struct Feed(mpsc::Sender<Result<Part>>);

/// The reader of a dump has gone.
pub(super) struct Gone;

impl Feed {
    pub(super) async fn chunk(&self, chunk: DumpChunk) -> std::result::Result<(), Gone> {
        self.0.send(Ok(Part::Chunk(chunk))).await.map_err(|_| Gone)
    }

    pub(super) fn chunk_blocking(&self, chunk: DumpChunk) -> std::result::Result<(), Gone> {
        self.0.blocking_send(Ok(Part::Chunk(chunk))).map_err(|_| Gone)
    }

    pub(super) async fn end(self, result: Result<()>) {
        let _ = self.0.send(result.map(|()| Part::End)).await;
    }

    pub(super) fn end_blocking(self, result: Result<()>) {
        let _ = self.0.blocking_send(result.map(|()| Part::End));
    }
}

/// Gathers rows of one table to chunks.
pub(super) struct Gathering {
    table: &'static str,
    rows: u64,
    lines: Vec<u8>,
}

impl Gathering {
    pub(super) fn of(table: &Table) -> Self {
        Self { table: table.name, rows: 0, lines: Vec::new() }
    }

    /// Adds a row. Returns a chunk once there are enough.
    pub(super) fn add(&mut self, line: &str) -> Option<DumpChunk> {
        self.rows += 1;
        self.lines.extend_from_slice(line.as_bytes());
        self.lines.push(b'\n');
        let full = self.rows >= CHUNK_ROWS || self.lines.len() >= CHUNK_BYTES;
        if full { self.rest() } else { None }
    }

    /// The rows that make no full chunk.
    pub(super) fn rest(&mut self) -> Option<DumpChunk> {
        if self.rows == 0 {
            return None;
        }
        let (rows, lines) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.lines));
        Some(DumpChunk { table: self.table, rows, lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dump_beside_a_service_pauses() {
        let took = Duration::from_millis(2);
        assert_eq!(Pace::Alone.pause(took), Duration::ZERO);
        assert_eq!(Pace::Beside.pause(took), took * 3);
    }
}
