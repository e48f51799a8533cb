//! Reads records and preconditions as callers send them.

use serde_json::value::RawValue;

use super::super::etag::IfMatch;
use super::super::fields::{Fields, Invalid, mistyped, text};
use super::super::input::{Input, metadata};
use super::super::node::Node;
use super::super::time::time;
use super::super::values::{base64_bytes, bytes};
use crate::domain::{
    Checksum, Did, InvalidContent, MAX_RECORD_METADATA, Metadata, NewRecord, Precondition,
    RecordId, RecordKey, RecordKind, SealedContent, Timestamp,
};

/// The owner and the key in the path.
pub(super) fn path(input: &mut Input<'_>) -> Option<(Did, RecordKey)> {
    let did = input.path_did("did");
    let kind = input.path("kind", RecordKind::parse);
    let id = input.path("id", RecordId::parse);
    Some((did?, RecordKey { kind: kind?, id: id? }))
}

/// `If-Match` or `If-None-Match`. `None` when neither is there, or when what is there is refused.
pub(super) fn precondition(input: &mut Input<'_>) -> Option<Precondition> {
    let if_match = input.header_list("If-Match", if_match);
    let if_none_match = input.header_list("If-None-Match", if_none_match);
    if if_match.is_some() && if_none_match.is_some() {
        input.refuse("If-None-Match", "cannot be combined with If-Match");
    }
    if_match.or(if_none_match)
}

pub(super) fn if_match(text: &str) -> Result<Precondition, &'static str> {
    Ok(match IfMatch::parse(text)? {
        IfMatch::Any => Precondition::Present,
        IfMatch::Tags(tags) => Precondition::Tags(tags),
    })
}

pub(super) fn if_none_match(text: &str) -> Result<Precondition, &'static str> {
    if text.trim() == "*" { Ok(Precondition::Absent) } else { Err("must be *") }
}

/// The parts of a record, before their checksum is computed.
pub(super) struct Parts {
    iv: [u8; 12],
    ciphertext: Vec<u8>,
    checksum: Checksum,
    client_time: Option<Timestamp>,
    metadata: Metadata,
    expires_at: Option<Timestamp>,
}

impl Parts {
    /// # Errors
    /// When the checksum is another one.
    pub(super) fn seal(self) -> Result<NewRecord, InvalidContent> {
        let content = SealedContent::new(self.iv, self.ciphertext, self.checksum)?;
        let Self { client_time, metadata, expires_at, .. } = self;
        Ok(NewRecord { content, client_time, metadata, expires_at })
    }
}

/// A record within a body; `raw` is the text of its metadata.
pub(super) fn record(
    node: Node<'_>,
    raw: Option<&RawValue>,
    now: Timestamp,
) -> Result<Parts, Invalid> {
    let mut fields = Fields::of(node)?;
    let iv = fields.required("iv", iv);
    let ciphertext = fields.required("ciphertext", ciphertext);
    let checksum = fields.required("checksum", text(checksum));
    let client_time = fields.optional("client_time", text(time));
    let metadata = fields.optional("metadata", |node| record_metadata(&node, raw));
    let expires_at = fields.optional("expires_at", text(|text| later(text, now)));
    fields.finish(|| {
        let metadata = metadata.unwrap_or_default();
        let (iv, ciphertext, checksum) = (iv?, ciphertext?, checksum?);
        Some(Parts { iv, ciphertext, checksum, client_time, metadata, expires_at })
    })
}

fn iv(node: Node<'_>) -> Result<[u8; 12], Invalid> {
    const FORM: &str = "must be 12 bytes as 16 characters of base64 (A-Z a-z 0-9 + /)";
    match node {
        Node::Text(text) => {
            let bytes = base64_bytes(&text).ok().filter(|_| text.len() == 16);
            bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| FORM.into())
        }
        other => Err(mistyped("a string", &other)),
    }
}

fn ciphertext(node: Node<'_>) -> Result<Vec<u8>, Invalid> {
    let bytes = bytes(node)?;
    if (1..=SealedContent::MAX_LEN).contains(&bytes.len()) {
        Ok(bytes)
    } else {
        Err(format!("{}, not {}", InvalidContent::Length, bytes.len()).into())
    }
}

fn checksum(text: &str) -> Result<Checksum, &'static str> {
    Checksum::parse(text).ok_or("must be a SHA-256 as 64 lower-case hexadecimal digits")
}

fn record_metadata(node: &Node<'_>, raw: Option<&RawValue>) -> Result<Metadata, Invalid> {
    let metadata = metadata(node, raw)?;
    if metadata.as_str().len() > MAX_RECORD_METADATA {
        return Err(format!("must be at most {MAX_RECORD_METADATA} bytes as compact JSON").into());
    }
    Ok(metadata)
}

/// The database decides what has expired. What has expired already by this machine's clock is a
/// mistake.
fn later(text: &str, now: Timestamp) -> Result<Timestamp, &'static str> {
    let at = time(text)?;
    if at > now { Ok(at) } else { Err("must be in the future") }
}
