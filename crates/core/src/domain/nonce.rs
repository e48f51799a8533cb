//! A nonce: the caller's random text that may be accepted at most once in its scope.

use std::fmt;
use std::sync::Arc;

/// 1 to 255 visible ASCII characters (`!` to `~`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nonce(Arc<str>);

/// The text is not a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 visible ASCII characters ('!' to '~'), without spaces")]
pub struct InvalidNonce;

impl Nonce {
    /// The longest nonce, in characters.
    pub const MAX_LEN: usize = 255;

    /// # Errors
    /// [`InvalidNonce`] when the text is empty, too long, or has a character outside `!`…`~`.
    #[inline]
    pub fn parse(text: &str) -> Result<Self, InvalidNonce> {
        let well_formed = (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        if well_formed { Ok(Self(text.into())) } else { Err(InvalidNonce) }
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
    fn refuses_empty_long_and_invisible() {
        for text in ["", " ", "a b", "a\n", "é", "\u{0}", "a\u{7f}"] {
            assert_eq!(Nonce::parse(text), Err(InvalidNonce), "{text:?}");
        }
        assert_eq!(Nonce::parse(&"x".repeat(256)), Err(InvalidNonce));
    }
}
