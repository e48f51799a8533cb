//! A record, as callers see it, and what its calls have in common.

use actix_web::HttpResponse;
use actix_web::http::header::{self, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::problem::Problem;
use super::super::time::Time;
use super::super::values::base64;
use crate::domain::{
    Code, Did, Metadata, Record, RecordKey, RecordQuota, RecordTag, RecordWritten, StoredContent,
};

/// A record.
#[derive(Serialize, ToSchema)]
#[schema(as = Record)]
pub(in crate::http) struct View<'a> {
    #[schema(example = "sync")]
    kind: &'a str,
    #[schema(example = "notes")]
    id: &'a str,
    #[schema(example = 3)]
    version: i64,
    /// The number of this change among its owner's.
    #[schema(example = 17)]
    sequence: i64,
    /// For If-Match; not of a tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "\"3.00f1e2d3c4b5a697\"")]
    etag: Option<String>,
    /// Only `true`: a tombstone, in the feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    deleted: Option<bool>,
    /// Only `true`, in the feed: what is stored is not what was written, and is not handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    damaged: Option<bool>,
    /// Of the ciphertext, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 19)]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Byte, nullable = false, example = "AAECAwQFBgcICQoL")]
    iv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Byte, nullable = false, example = "c2VhbGVkIGJ5IGl0cyBvd25lcg==")]
    ciphertext: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        nullable = false,
        example = "16746d563d8208d21bf213cbdef853c385f8691f8ce44a636639cffd3450a0ba"
    )]
    checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    metadata: Option<&'a Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<Time>,
    created_at: Time,
    updated_at: Time,
}

impl<'a> View<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        let live = record.live.as_ref();
        let content = live.and_then(|live| match &live.content {
            StoredContent::Whole(content) => Some(content),
            StoredContent::Unread | StoredContent::Damaged => None,
        });
        let is_damaged = live.is_some_and(|live| live.content == StoredContent::Damaged);
        Self {
            kind: record.key.kind.as_str(),
            id: record.key.id.as_str(),
            version: record.tag.version,
            sequence: record.sequence,
            etag: live.map(|_| record.tag.to_string()),
            deleted: live.is_none().then_some(true),
            damaged: is_damaged.then_some(true),
            size: live.map(|live| live.size),
            iv: content.map(|content| base64(content.iv())),
            ciphertext: content.map(|content| base64(content.ciphertext())),
            checksum: live.map(|live| live.checksum.to_string()),
            client_time: live.and_then(|live| live.client_time).map(Time),
            metadata: live.map(|live| &live.metadata),
            expires_at: live.and_then(|live| live.expires_at).map(Time),
            created_at: Time(record.created_at),
            updated_at: Time(record.updated_at),
        }
    }
}

/// What a change has written.
#[derive(Serialize, ToSchema)]
#[schema(as = RecordWritten)]
pub(in crate::http) struct WrittenView<'a> {
    #[schema(example = "sync")]
    kind: &'a str,
    #[schema(example = "notes")]
    id: &'a str,
    #[schema(example = 3)]
    version: i64,
    /// The number of this change among its owner's.
    #[schema(example = 17)]
    sequence: i64,
    /// For If-Match; not of a tombstone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "\"3.00f1e2d3c4b5a697\"")]
    etag: Option<String>,
    /// Only `true`: the record was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    deleted: Option<bool>,
    /// Of the ciphertext, in bytes; 0 of a tombstone.
    #[schema(example = 19)]
    size: u64,
    created_at: Time,
    updated_at: Time,
}

impl<'a> WrittenView<'a> {
    pub(super) fn of(key: &'a RecordKey, written: &RecordWritten) -> Self {
        let is_live = written.size > 0;
        Self {
            kind: key.kind.as_str(),
            id: key.id.as_str(),
            version: written.tag.version,
            sequence: written.sequence,
            etag: is_live.then(|| written.tag.to_string()),
            deleted: (!is_live).then_some(true),
            size: written.size,
            created_at: Time(written.created_at),
            updated_at: Time(written.updated_at),
        }
    }
}

pub(super) fn set_etag(response: &mut HttpResponse, tag: &RecordTag) -> Result<(), Problem> {
    response.headers_mut().insert(header::ETAG, header_of(tag)?);
    Ok(())
}

fn header_of(tag: &RecordTag) -> Result<HeaderValue, Problem> {
    HeaderValue::from_str(&tag.to_string())
        .map_err(|error| Problem::internal(format!("an ETag cannot be written: {error}")))
}

pub(super) fn not_found(key: &RecordKey) -> Problem {
    Problem::new(Code::RecordNotFound, format!("the owner has no record {key}"))
}

/// 412, with the tag of the record that is there.
pub(super) fn precondition_failed(key: &RecordKey, current: Option<&RecordTag>) -> Problem {
    let Some(tag) = current else {
        let detail = format!("there is no record {key}; nothing was changed");
        return Problem::new(Code::PreconditionFailed, detail);
    };
    let detail = format!("the record {key} has the ETag {tag}; nothing was changed");
    let problem = Problem::new(Code::PreconditionFailed, detail);
    match header_of(tag) {
        Ok(value) => problem.with_header(header::ETAG, value),
        Err(failed) => failed,
    }
}

pub(super) fn quota_reached(quota: RecordQuota) -> Problem {
    let detail = match quota {
        RecordQuota::Records => {
            "the owner has as many records as it may have (records.max_records)"
        }
        RecordQuota::Bytes => "the owner has as many bytes as it may have (records.max_bytes)",
        RecordQuota::AgentsRecords => {
            "agents together have as many records as they may have (records.agents_max_records)"
        }
        RecordQuota::AgentsBytes => {
            "agents together have as many bytes as they may have (records.agents_max_bytes)"
        }
    };
    Problem::new(Code::RecordQuotaReached, detail)
}

pub(super) fn revoked(owner: &Did) -> Problem {
    Problem::new(
        Code::DidRevoked,
        format!("{owner} is revoked; its records can be read and erased, not written"),
    )
}
