//! The `Idempotency-Key`, with which a caller that lost an answer learns the true outcome. What it
//! stands for belongs to that caller only, and to the same call.

use actix_web::HttpResponse;
use actix_web::http::header::{HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::caller::Caller;
use crate::domain::{IdempotencyDigest, is_word};

pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

pub(super) struct IdempotencyKey(String);

impl IdempotencyKey {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if is_word(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err("must be 1 to 255 visible ASCII characters, without spaces")
        }
    }

    /// For the claim at this index of a call.
    pub(super) fn digest(&self, caller: &Caller, index: usize) -> IdempotencyDigest {
        self.digest_of(caller, [&(index as u64).to_be_bytes()[..]])
    }

    /// The first half of the SHA-256 of caller, key and what the call says, each preceded by its
    /// length.
    pub(super) fn digest_of<'c>(
        &self,
        caller: &Caller,
        call: impl IntoIterator<Item = &'c [u8]>,
    ) -> IdempotencyDigest {
        digest(&caller.identity(), &self.0, call)
    }
}

fn digest<'c>(
    caller: &[u8],
    key: &str,
    call: impl IntoIterator<Item = &'c [u8]>,
) -> IdempotencyDigest {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(caller);
    add(key.as_bytes());
    call.into_iter().for_each(&mut add);
    let mut digest = IdempotencyDigest::default();
    for (to, from) in digest.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    digest
}

/// Says that an earlier call with the same key made a claim of this one.
pub(super) fn mark_replayed(response: &mut HttpResponse) {
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_ascii() {
        assert!(IdempotencyKey::parse("c0f1-b2").is_ok());
        for text in ["", "a b", "é", "x".repeat(256).as_str()] {
            assert!(IdempotencyKey::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_digest_is_of_caller_key_and_call() {
        let call = |parts: &[&'static [u8]]| digest(b"caller", "key", parts.iter().copied());
        let one = call(&[b"a", b"b"]);
        assert_eq!(one, call(&[b"a", b"b"]));
        for other in [
            call(&[b"ab", b""]),
            call(&[b"a"]),
            digest(b"callerk", "ey", [&b"a"[..], b"b"]),
            digest(b"other", "key", [&b"a"[..], b"b"]),
        ] {
            assert_ne!(one, other);
        }
    }
}
