//! How values look in requests and answers: readers for what a domain type does not parse by
//! itself, and the forms of pages and bytes.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::{Zeroize as _, Zeroizing};

use super::fields::{Invalid, mistyped};
use super::node::Node;
use super::problem::Problem;
use crate::domain::{Cursor, KeyType, MAX_WORD_LEN, Page, is_word};

/// The most bytes of a session key.
const MAX_SESSION_KEY: usize = 4096;

const APPLICATION_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a session may be opened with.
pub(super) const MIN_IDLE_TIMEOUT: u32 = 10;
pub(super) const MAX_IDLE_TIMEOUT: u32 = 86_400;
/// What both databases can count to.
pub(super) const MAX_CLAIMS: u64 = i64::MAX as u64;

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct PageView<T> {
    pub(super) items: Vec<T>,
    /// Ask for the next page with this as `cursor`; null at the end.
    #[schema(required = true)]
    pub(super) next_cursor: Option<String>,
}

impl<T> PageView<T> {
    pub(super) fn of<'a, D>(page: &'a Page<D>, view: impl FnMut(&'a D) -> T) -> Self {
        Self {
            items: page.items.iter().map(view).collect(),
            next_cursor: page.next.as_ref().map(Cursor::encode),
        }
    }
}

/// Room for most answers, in bytes.
const USUAL_ANSWER: usize = 512;

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Result<HttpResponse, Problem> {
    let mut bytes = Vec::with_capacity(USUAL_ANSWER);
    serde_json::to_writer(&mut bytes, body)
        .map_err(|error| Problem::internal(format!("an answer cannot be written: {error}")))?;
    Ok(HttpResponse::build(status).content_type(APPLICATION_JSON).body(bytes))
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Reads bytes in standard, padded base64.
pub(super) fn bytes(node: Node<'_>) -> Result<Vec<u8>, Invalid> {
    match node {
        Node::Text(text) => base64_bytes(&text).map_err(Into::into),
        other => Err(mistyped("a string", &other)),
    }
}

/// Bytes in standard, padded base64.
pub(super) fn base64_bytes(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text).map_err(|_| "must be standard base64 with padding (RFC 4648, section 4)")
}

/// Reads a session key: 1 to 4096 bytes. What this copies of it is wiped.
pub(super) fn session_key(node: Node<'_>) -> Result<Zeroizing<Vec<u8>>, Invalid> {
    let text = match node {
        Node::Text(text) => text,
        other => return Err(mistyped("a string", &other)),
    };
    let key = base64_bytes(&text).map(Zeroizing::new);
    if let Cow::Owned(mut copy) = text {
        copy.zeroize();
    }
    let key = key?;
    if (1..=MAX_SESSION_KEY).contains(&key.len()) {
        Ok(key)
    } else {
        Err(format!("must be 1 to {MAX_SESSION_KEY} bytes, not {}", key.len()).into())
    }
}

pub(super) fn key_type(text: &str) -> Result<KeyType, String> {
    KeyType::parse(text)
        .ok_or_else(|| format!("must be one of {}", KeyType::ALL.map(KeyType::as_str).join(", ")))
}

pub(super) fn owner_address(text: &str) -> Result<String, String> {
    if is_word(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {MAX_WORD_LEN} visible ASCII characters, without spaces"))
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, &'static str> {
    text.parse().map_err(|_| "must be true or false")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: &str) -> Node<'_> {
        Node::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_session_key_is_padded_base64_of_1_to_4096_bytes() {
        let key = |text: &str| session_key(Node::Text(Cow::Borrowed(text)));
        assert_eq!(*key("a2V5").unwrap(), b"key");
        assert_eq!(session_key(node(r#""a2\u00565""#)).unwrap().as_slice(), b"key");
        assert!(key(&STANDARD.encode([7; 4096])).is_ok());
        assert!(key(&STANDARD.encode([7; 4097])).is_err());
        for text in ["", "a2U", "a2V5=", "a2-_", "a2V5 ", "a2V="] {
            assert!(key(text).is_err(), "{text:?}");
        }
    }
}
