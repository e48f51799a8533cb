//! A namespace: a scope for ids that are used once and are no DID's nonces, such as a JWT's `jti`,
//! an OAuth `state` or the id of a webhook.

use std::fmt;
use std::sync::Arc;

use super::{SignerKey, is_word};

/// What tells a namespace from a DID where both are kept. No DID begins like this.
const MARK: &str = "namespace:";

/// 1 to 255 visible ASCII characters (`!` to `~`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// With the mark.
    marked: Arc<str>,
}

/// The text is not a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 255 visible ASCII characters ('!' to '~'), without spaces")]
pub struct InvalidNamespace;

impl Namespace {
    /// # Errors
    /// [`InvalidNamespace`] when the text is empty, too long, or has a character outside `!`…`~`.
    pub fn parse(text: &str) -> Result<Self, InvalidNamespace> {
        let marked = || Self { marked: format!("{MARK}{text}").into() };
        is_word(text).then(marked).ok_or(InvalidNamespace)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.marked.strip_prefix(MARK).unwrap_or_default()
    }

    /// The name as it is kept beside DIDs: the namespace `did:web:x` is not the scope of that DID.
    #[must_use]
    pub fn marked(&self) -> &str {
        &self.marked
    }

    /// The key of its scope.
    #[must_use]
    pub fn key(&self) -> SignerKey {
        SignerKey::of(&self.marked)
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({self})")
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::domain::Did;

    #[test]
    fn a_name_is_visible_ascii() {
        for text in ["a", "https://issuer.example/#x", "!~", &"x".repeat(255)] {
            assert_eq!(Namespace::parse(text).map(|name| name.to_string()), Ok(text.to_owned()));
        }
        for text in ["", " ", "a b", "é", "a\n", &"x".repeat(256)] {
            assert_eq!(Namespace::parse(text), Err(InvalidNamespace), "{text:?}");
        }
    }

    #[test]
    fn a_namespace_that_is_called_like_a_did_is_another_scope() {
        let did = Did::parse("did:web:a.example").unwrap();
        let namespace = Namespace::parse(did.as_str()).unwrap();
        assert_ne!(namespace.key(), did.signer_key());
        assert_eq!(namespace.key().0, Sha256::digest(b"namespace:did:web:a.example")[..16]);
        assert!(Did::parse(namespace.marked()).is_err());
    }
}
