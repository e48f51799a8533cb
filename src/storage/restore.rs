//! Restores: the rows of an archive take the place of what a database holds, and the database is
//! recovered, in one commit. Killed at any moment, it leaves the old data or the new.

use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::tables::{Column, Table};
use super::{Recovery, Result, StoreError};
use crate::domain::Timestamp;

/// How to restore.
#[derive(Debug, Clone)]
pub struct Restore {
    pub recovery: Recovery,
    /// Whether the archive's tokens are revoked: some may have been revoked after it was made.
    pub revoke_tokens: bool,
    /// When the archive was made: that is the last backup which the restored database knows of.
    pub taken_at: Timestamp,
}

/// Rows of one table, on their way into a database.
pub(super) struct RestoreChunk {
    pub(super) table: &'static Table,
    /// Those that the rows have: an archive of an older schema lacks some.
    pub(super) columns: Vec<&'static Column>,
    pub(super) count: u64,
    /// The rows as one JSON array.
    pub(super) rows: String,
}

enum Part {
    Chunk(RestoreChunk),
    Refused(StoreError),
    /// All rows came, and they are what was written.
    Whole,
}

/// Where the rows go in. Nothing is committed unless [`Self::whole`] is called.
pub struct RestoreFeed(mpsc::Sender<Part>);

/// Where the rows come out.
pub struct RestoreRows(mpsc::Receiver<Part>);

/// The two ends of the way that rows take. Few chunks are on it at a time.
#[must_use]
pub fn restore_rows() -> (RestoreFeed, RestoreRows) {
    let (sender, receiver) = mpsc::channel(1);
    (RestoreFeed(sender), RestoreRows(receiver))
}

impl RestoreFeed {
    /// Gives rows of a table, each a line of JSON. Blocks until there is room. Returns whether the
    /// restore goes on.
    #[must_use]
    pub fn chunk(&self, table: &str, lines: Vec<u8>) -> bool {
        let known = Table::named(table);
        let columns = known.map(|table| columns(table, &lines)).unwrap_or_default();
        let count = lines.iter().map(|byte| u64::from(*byte == b'\n')).sum();
        let part = match (known, array(lines)) {
            (Some(table), Some(rows)) => Part::Chunk(RestoreChunk { table, columns, count, rows }),
            (None, _) => Part::Refused(unfit(&format!("it has a table {table:?}"))),
            (_, None) => Part::Refused(unfit(&format!("its rows of {table} are no text"))),
        };
        let goes_on = matches!(part, Part::Chunk(_));
        self.0.blocking_send(part).is_ok() && goes_on
    }

    /// Says that everything was given. Blocks until that is heard.
    pub fn whole(self) {
        let _ = self.0.blocking_send(Part::Whole);
    }
}

impl RestoreRows {
    /// The next rows; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<RestoreChunk>> {
        taken(self.0.recv().await)
    }

    pub(super) fn next_blocking(&mut self) -> Result<Option<RestoreChunk>> {
        taken(self.0.blocking_recv())
    }
}

fn taken(part: Option<Part>) -> Result<Option<RestoreChunk>> {
    match part {
        Some(Part::Chunk(chunk)) => Ok(Some(chunk)),
        Some(Part::Whole) => Ok(None),
        Some(Part::Refused(error)) => Err(error),
        None => Err(unfit("it was not read to its end")),
    }
}

fn unfit(why: &str) -> StoreError {
    StoreError::Unexpected(format!("the archive does not fit this onceguard: {why}"))
}

/// The columns that the first row has, and so all rows of a chunk.
fn columns(table: &'static Table, lines: &[u8]) -> Vec<&'static Column> {
    let first = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let row: Map<String, Value> = serde_json::from_slice(first).unwrap_or_default();
    table.columns.iter().filter(|column| row.contains_key(column.name)).collect()
}

/// Lines of JSON as an array. No JSON has a line break within a string.
fn array(mut lines: Vec<u8>) -> Option<String> {
    if lines.pop() != Some(b'\n') {
        return None;
    }
    for byte in &mut lines {
        if *byte == b'\n' {
            *byte = b',';
        }
    }
    lines.insert(0, b'[');
    lines.push(b']');
    String::from_utf8(lines).ok()
}
