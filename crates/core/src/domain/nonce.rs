//! A nonce: the caller's random text that may be accepted at most once in its scope.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{MAX_WORD_LEN, is_word};

/// 1 to 255 visible ASCII characters (`!` to `~`), or any bytes, which are known by their digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nonce(Arc<str>);

/// The text is not a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 visible ASCII characters ('!' to '~'), without spaces")]
pub struct InvalidNonce;

/// The bytes are not a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 4096 bytes")]
pub struct InvalidNonceBytes;

impl Nonce {
    /// The longest nonce in text, in characters.
    pub const MAX_LEN: usize = MAX_WORD_LEN;
    /// The longest nonce that is no text, in bytes.
    pub const MAX_BYTES: usize = 4096;

    /// # Errors
    /// [`InvalidNonce`] when the text is empty, too long, or has a character outside `!`…`~`.
    #[inline]
    pub fn parse(text: &str) -> Result<Self, InvalidNonce> {
        if is_word(text) { Ok(Self(text.into())) } else { Err(InvalidNonce) }
    }

    /// The nonce that is made of these bytes, of any kind. Those of a nonce in text
    /// are that nonce. Others are known by their SHA-256, after a space, which no text has.
    ///
    /// # Errors
    /// [`InvalidNonceBytes`] when there are none, or too many.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, InvalidNonceBytes> {
        if !(1..=Self::MAX_BYTES).contains(&bytes.len()) {
            return Err(InvalidNonceBytes);
        }
        let text = str::from_utf8(bytes).ok().and_then(|text| Self::parse(text).ok());
        let digest =
            || Self(format!(" {}", base16ct::lower::encode_string(&Sha256::digest(bytes))).into());
        Ok(text.unwrap_or_else(digest))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_visible_ascii_up_to_255_characters() {
        assert_eq!(Nonce::parse("a!~").map(|n| n.to_string()), Ok("a!~".to_owned()));
        assert!(Nonce::parse(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn bytes_of_a_text_are_that_text_and_others_their_digest() {
        let of = |bytes: &[u8]| Nonce::of_bytes(bytes).map(|nonce| nonce.as_str().to_owned());
        assert_eq!(of(b"a!~"), Ok("a!~".to_owned()));
        let digest = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(of(b"\0"), Ok(format!(" {digest}")));
        // What a digest is kept as is another nonce than the text of it.
        assert_ne!(of(b"\0"), of(digest.as_bytes()));
        assert_ne!(of(b"\0"), of(format!(" {digest}").as_bytes()));
        assert_ne!(of(&[b'x'; 256]), of(&[b'x'; 257]));
        assert!(of(&[0; 4096]).is_ok());
        for length in [0, 4097] {
            assert_eq!(of(&vec![0; length]), Err(InvalidNonceBytes));
        }
    }

    #[test]
    fn refuses_empty_long_and_invisible() {
        for text in ["", " ", "a b", "a\n", "é", "\u{0}", "a\u{7f}"] {
            assert_eq!(Nonce::parse(text), Err(InvalidNonce), "{text:?}");
        }
        assert_eq!(Nonce::parse(&"x".repeat(256)), Err(InvalidNonce));
    }
}
