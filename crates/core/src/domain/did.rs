//! Decentralized identifiers (W3C DID Core 1.0, section 3.1) and what is stored about one.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A DID without path, query or fragment, exactly as its owner writes it.
///
/// DIDs are compared byte for byte: the DID syntax defines no case folding.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Did(Arc<str>);

/// The text is not a DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a DID of at most 1024 characters, such as did:key:z6Mk… or did:web:example.com, without path, query or fragment"
)]
pub struct InvalidDid;

/// The 16-byte key of a signer's scope: the first half of the SHA-256 of its DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignerKey(pub [u8; 16]);

impl Did {
    /// The longest DID, in bytes: long enough for every method in use, short enough for an index.
    pub const MAX_LEN: usize = 1024;

    /// # Errors
    /// [`InvalidDid`] when the text does not follow the grammar of DID Core 3.1, or is too long.
    #[inline]
    pub fn parse(text: &str) -> Result<Self, InvalidDid> {
        if text.len() > Self::MAX_LEN {
            return Err(InvalidDid);
        }
        let (method, id) =
            text.strip_prefix("did:").and_then(|rest| rest.split_once(':')).ok_or(InvalidDid)?;
        let method_ok = !method.is_empty()
            && method.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if method_ok && is_method_specific_id(id) { Ok(Self(text.into())) } else { Err(InvalidDid) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The method's name: `key` for `did:key:…`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// What follows the method's name.
    #[must_use]
    pub fn method_specific_id(&self) -> &str {
        self.0.splitn(3, ':').nth(2).unwrap_or_default()
    }

    /// The key of this DID's scope when it signs.
    #[inline]
    #[must_use]
    pub fn signer_key(&self) -> SignerKey {
        SignerKey::of(&self.0)
    }
}

impl SignerKey {
    /// The first half of the SHA-256 of what the scope is called.
    #[inline]
    pub(super) fn of(name: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        let mut key = [0; 16];
        for (to, from) in key.iter_mut().zip(digest) {
            *to = from;
        }
        Self(key)
    }
}

/// `*( *idchar ":" ) 1*idchar`, with `idchar` = ALPHA / DIGIT / "." / "-" / "_" / pct-encoded.
#[inline]
fn is_method_specific_id(id: &str) -> bool {
    if id.is_empty() || id.ends_with(':') {
        return false;
    }
    let mut bytes = id.bytes();
    while let Some(byte) = bytes.next() {
        let ok = match byte {
            b'.' | b'-' | b'_' | b':' => true,
            b'%' => {
                bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
                    && bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
            }
            other => other.is_ascii_alphanumeric(),
        };
        if !ok {
            return false;
        }
    }
    true
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Did({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_grammar() {
        for text in
            ["did:web:example.com", "did:web:example.com%3A8443:a:b", "did:a1:x::y", "did:key:z6Mk"]
        {
            assert_eq!(Did::parse(text).map(|d| d.to_string()), Ok(text.to_owned()));
        }
        let did = Did::parse("did:web:example.com:a").unwrap_or_else(|e| unreachable!("{e}"));
        assert_eq!((did.method(), did.method_specific_id()), ("web", "example.com:a"));
    }

    #[test]
    fn refuses_what_is_not_a_did() {
        for text in [
            "",
            "did",
            "did:",
            "did:web",
            "did:web:",
            "did:Web:a",
            "did::a",
            "DID:web:a",
            "did:web:a#k",
            "did:web:a?q",
            "did:web:a/b",
            "did:web:a b",
            "did:web:a%4",
            "did:web:a%zz",
            "did:web:a:",
            "did:web:ü",
        ] {
            assert_eq!(Did::parse(text), Err(InvalidDid), "{text:?}");
        }
        assert_eq!(Did::parse(&format!("did:web:{}", "a".repeat(1024))), Err(InvalidDid));
    }

    #[test]
    fn a_signer_key_is_the_first_half_of_the_sha_256() {
        let did = Did::parse("did:web:a").unwrap_or_else(|e| unreachable!("{e}"));
        let digest: [u8; 32] = Sha256::digest(b"did:web:a").into();
        assert_eq!(did.signer_key().0, digest[..16]);
    }
}
