//! Sealed records: what clients encrypted, and keep here. Nothing here can read them: there are only
//! their form, their checksum, and the rules by which one version replaces another.

mod content;
mod cursor;
mod precondition;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use super::{Did, Metadata, Timestamp, is_word};

pub use content::{Checksum, InvalidContent, SealedContent};
pub use cursor::RecordCursor;
pub use precondition::{Precondition, RecordTag};

/// What kind of record it is: `key`, `credential`, `backup`, `sync`, or another word of its owner's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind(Box<str>);

/// A record's name among those of its kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(Box<str>);

/// The text is no kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 32 characters of a-z, 0-9, _ and -")]
pub struct InvalidRecordKind;

/// The text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 visible ASCII characters, without spaces")]
pub struct InvalidRecordId;

impl RecordKind {
    /// # Errors
    /// [`InvalidRecordKind`].
    pub fn parse(text: &str) -> Result<Self, InvalidRecordKind> {
        let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        let ok = (1..=32).contains(&text.len()) && text.bytes().all(known);
        if ok { Ok(Self(text.into())) } else { Err(InvalidRecordKind) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RecordId {
    /// # Errors
    /// [`InvalidRecordId`].
    pub fn parse(text: &str) -> Result<Self, InvalidRecordId> {
        if is_word(text) { Ok(Self(text.into())) } else { Err(InvalidRecordId) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which record of its owner's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    pub kind: RecordKind,
    pub id: RecordId,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.0, self.id.0)
    }
}

/// A record as its owner writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRecord {
    pub content: SealedContent,
    /// When the client made it, by its own clock. The service only keeps it.
    pub client_time: Option<Timestamp>,
    /// Not encrypted: the operator can read it. At most [`MAX_RECORD_METADATA`] bytes.
    pub metadata: Metadata,
    /// From when on it counts as deleted.
    pub expires_at: Option<Timestamp>,
}

/// The most bytes of a record's metadata.
pub const MAX_RECORD_METADATA: usize = 4096;

/// One change of one record.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordChange {
    pub key: RecordKey,
    pub precondition: Precondition,
    /// Eight random bytes of this write.
    pub random: [u8; 8],
    /// `None` deletes the record.
    pub put: Option<NewRecord>,
}

/// A record as it is stored, or its tombstone.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub key: RecordKey,
    pub tag: RecordTag,
    /// The number of this change among its owner's.
    pub sequence: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// `None` for a tombstone.
    pub live: Option<LiveRecord>,
}

/// What a tombstone does not have.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRecord {
    /// Of the ciphertext, in bytes.
    pub size: u64,
    pub checksum: Checksum,
    pub client_time: Option<Timestamp>,
    pub metadata: Metadata,
    pub expires_at: Option<Timestamp>,
    pub content: StoredContent,
}

/// What was read of a record's content.
#[derive(Debug, Clone, PartialEq)]
pub enum StoredContent {
    /// It was not asked for.
    Unread,
    Whole(SealedContent),
    /// What is stored is missing, or is not what was written. It is never handed out.
    Damaged,
}

/// What one change wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordWritten {
    /// Whether there was no such record before.
    pub created: bool,
    pub tag: RecordTag,
    pub sequence: i64,
    /// Zero for a tombstone.
    pub size: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What came of changes that were asked for together: all were made, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordsChanged {
    /// In the order of the changes.
    Done(Vec<RecordWritten>),
    /// The places of those whose precondition failed, with the tag of the record that is there.
    PreconditionFailed(Vec<(usize, Option<RecordTag>)>),
    QuotaReached(RecordQuota),
    /// The owner is revoked. Its records can be read and erased.
    Revoked,
}

/// Which quota is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordQuota {
    Records,
    Bytes,
    /// Of all owners that agents made, together.
    AgentsRecords,
    AgentsBytes,
}

/// What owners may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLimits {
    /// Tombstones included.
    pub max_records: u64,
    pub max_bytes: u64,
    /// All owners together that agents made.
    pub agents_max_records: u64,
    pub agents_max_bytes: u64,
}

/// What an owner has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordUsage {
    pub bytes: u64,
    /// Tombstones included, as the quota counts them.
    pub records: u64,
    /// Records that are no tombstones, by kind.
    pub kinds: BTreeMap<String, u64>,
}

/// What a list of records is narrowed to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    pub kind: Option<RecordKind>,
    /// Members of the metadata that must be these strings. Tombstones have none.
    pub metadata: BTreeMap<String, String>,
}

/// Changes of an owner's records.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordFeed {
    Page {
        /// In the order of their sequence.
        records: Vec<Record>,
        /// Where to go on.
        next: RecordCursor,
        /// Whether there is more already.
        more: bool,
    },
    /// What was deleted since the cursor was made may no longer be known: read everything anew.
    CursorExpired,
}

/// An owner whose records were neither read nor written for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InactiveOwner {
    pub did: Did,
    pub last_accessed: Timestamp,
    pub records: u64,
    pub bytes: u64,
}
