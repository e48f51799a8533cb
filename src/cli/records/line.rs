//! The file of an export: lines of JSON. The first names the DID, the last counts the lines between
//! and has the SHA-256 of all lines before it, so that a file that was cut or changed is noticed. A
//! later line about a record replaces an earlier one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::{
    Checksum, Metadata, NewRecord, Record, RecordId, RecordKey, RecordKind, SealedContent,
    StoredContent, Timestamp,
};

/// What the first line says the file is.
pub(super) const FORMAT: &str = "onceguard-records-1";

#[derive(Serialize, Deserialize)]
pub(super) struct First {
    pub(super) format: String,
    pub(super) did: String,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Last {
    pub(super) lines: u64,
    pub(super) sha256: String,
}

/// A record, or its tombstone, which has only its key.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    kind: String,
    id: String,
    #[serde(flatten)]
    content: Option<Content>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    iv: String,
    ciphertext: String,
    checksum: String,
    client_time: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    metadata: String,
}

impl Line {
    /// # Errors
    /// When the record is damaged.
    pub(super) fn of(record: &Record) -> Result<Self, String> {
        let content = match &record.live {
            None => None,
            Some(live) => {
                let StoredContent::Whole(content) = &live.content else {
                    return Err(format!("the record {} is damaged in the database", record.key));
                };
                Some(Content {
                    iv: STANDARD.encode(content.iv()),
                    ciphertext: STANDARD.encode(content.ciphertext()),
                    checksum: content.checksum().to_string(),
                    client_time: live.client_time,
                    expires_at: live.expires_at,
                    metadata: live.metadata.as_str().to_owned(),
                })
            }
        };
        let RecordKey { kind, id } = &record.key;
        Ok(Self { kind: kind.as_str().to_owned(), id: id.as_str().to_owned(), content })
    }

    /// The record, if it is no tombstone.
    pub(super) fn read(self) -> Option<(RecordKey, Option<NewRecord>)> {
        let kind = RecordKind::parse(&self.kind).ok()?;
        let key = RecordKey { kind, id: RecordId::parse(&self.id).ok()? };
        let Some(content) = self.content else { return Some((key, None)) };
        let iv = STANDARD.decode(content.iv).ok()?.try_into().ok()?;
        let ciphertext = STANDARD.decode(content.ciphertext).ok()?;
        let checksum = Checksum::parse(&content.checksum)?;
        let metadata: &RawValue = serde_json::from_str(&content.metadata).ok()?;
        let new = NewRecord {
            content: SealedContent::new(iv, ciphertext, checksum).ok()?,
            client_time: content.client_time,
            metadata: Metadata::parse(metadata).ok()?,
            expires_at: content.expires_at,
        };
        Some((key, Some(new)))
    }
}
