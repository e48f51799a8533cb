//! Reads a record's row. Content that is missing, or that does not fit its checksum any more, is
//! damaged: it is never handed out.

use crate::domain::{
    Checksum, LiveRecord, Metadata, Record, RecordId, RecordKey, RecordKind, RecordTag,
    SealedContent, StoredContent, Timestamp,
};
use crate::storage::records::Contents;

/// A row, in types that both databases' drivers have.
#[derive(Debug)]
pub(crate) struct RawRecord {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) sequence: i64,
    pub(crate) version: i64,
    pub(crate) tag: Vec<u8>,
    pub(crate) size: i64,
    pub(crate) iv: Option<Vec<u8>>,
    pub(crate) checksum: Option<Vec<u8>>,
    pub(crate) client_time: Option<Timestamp>,
    pub(crate) metadata: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) deleted: bool,
    pub(crate) ciphertext: Option<Vec<u8>>,
}

/// The key that a row's columns are.
pub(crate) fn key(kind: &str, id: &str) -> Option<RecordKey> {
    Some(RecordKey { kind: RecordKind::parse(kind).ok()?, id: RecordId::parse(id).ok()? })
}

/// The tag that a row's columns are.
pub(crate) fn tag(version: i64, random: &[u8]) -> Option<RecordTag> {
    Some(RecordTag { version, random: random.try_into().ok()? })
}

impl RawRecord {
    /// `None` when the row is none of this binary's.
    pub(crate) fn read(self, contents: Contents) -> Option<Record> {
        let live = if self.deleted {
            None
        } else {
            let checksum = Checksum(self.checksum?.try_into().ok()?);
            let content = match contents {
                Contents::Leave => StoredContent::Unread,
                Contents::Read => content(self.iv, self.ciphertext, checksum),
            };
            Some(LiveRecord {
                size: u64::try_from(self.size).ok()?,
                checksum,
                client_time: self.client_time,
                metadata: Metadata::kept(self.metadata),
                expires_at: self.expires_at,
                content,
            })
        };
        Some(Record {
            key: key(&self.kind, &self.id)?,
            tag: tag(self.version, &self.tag)?,
            sequence: self.sequence,
            created_at: self.created_at,
            updated_at: self.updated_at,
            live,
        })
    }
}

fn content(iv: Option<Vec<u8>>, bytes: Option<Vec<u8>>, checksum: Checksum) -> StoredContent {
    let iv = iv.and_then(|iv| <[u8; 12]>::try_from(iv).ok());
    let content = iv
        .zip(bytes)
        .and_then(|(iv, ciphertext)| SealedContent::new(iv, ciphertext, checksum).ok());
    content.map_or(StoredContent::Damaged, StoredContent::Whole)
}
