//! A DID URL as a `keyid` states it: a DID, and perhaps the fragment that names one of its keys
//! (W3C DID Core 1.0, section 3.2). Paths and queries are refused: no key is named by one.

use std::fmt;

use super::{Did, InvalidDid};

/// A DID, alone or with `#fragment`.
///
/// Whatever the fragment, the signer is the DID: scopes and quotas belong to [`Self::did`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DidUrl {
    did: Did,
    fragment: Option<Box<str>>,
}

/// The text is not a DID, nor a DID with a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDidUrl {
    #[error(transparent)]
    Did(#[from] InvalidDid),
    #[error("the fragment after `#` must be 1 to 1024 characters of a URL's fragment (RFC 3986)")]
    Fragment,
}

impl DidUrl {
    /// The longest fragment, in bytes: long enough for a did:key, whose fragment is the key.
    pub const MAX_FRAGMENT_LEN: usize = Did::MAX_LEN;

    /// # Errors
    /// [`InvalidDidUrl`] when the text is not a DID, or what follows `#` is not a fragment.
    pub fn parse(text: &str) -> Result<Self, InvalidDidUrl> {
        let (did, fragment) = match text.split_once('#') {
            Some((did, fragment)) => (did, Some(fragment)),
            None => (text, None),
        };
        let did = Did::parse(did)?;
        if fragment.is_some_and(|fragment| !is_fragment(fragment)) {
            return Err(InvalidDidUrl::Fragment);
        }
        Ok(Self { did, fragment: fragment.map(Into::into) })
    }

    #[must_use]
    pub const fn did(&self) -> &Did {
        &self.did
    }

    /// What follows `#`.
    #[must_use]
    pub fn fragment(&self) -> Option<&str> {
        self.fragment.as_deref()
    }
}

/// `*( pchar / "/" / "?" )` of RFC 3986, section 3.5, but not empty: no key has an empty name.
fn is_fragment(text: &str) -> bool {
    if text.is_empty() || text.len() > DidUrl::MAX_FRAGMENT_LEN {
        return false;
    }
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let ok = match byte {
            b'%' => {
                bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
                    && bytes.next().is_some_and(|b| b.is_ascii_hexdigit())
            }
            other => other.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&other),
        };
        if !ok {
            return false;
        }
    }
    true
}

impl fmt::Display for DidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.did.fmt(f)?;
        self.fragment.as_ref().map_or(Ok(()), |fragment| write!(f, "#{fragment}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_did_with_and_without_a_fragment() {
        for (text, did, fragment) in [
            ("did:web:a.example", "did:web:a.example", None),
            ("did:web:a.example#key-1", "did:web:a.example", Some("key-1")),
            ("did:sage:ethereum:0xabc#a%20b/?", "did:sage:ethereum:0xabc", Some("a%20b/?")),
        ] {
            let url = DidUrl::parse(text).expect("a DID URL");
            assert_eq!((url.did().as_str(), url.fragment()), (did, fragment));
            assert_eq!(url.to_string(), text);
        }
    }

    #[test]
    fn refuses_what_names_no_key() {
        for text in ["", "#k", "did:web:a/b#k", "did:web:a?q=1#k", "https://a.example#k"] {
            assert_eq!(DidUrl::parse(text), Err(InvalidDidUrl::Did(InvalidDid)), "{text:?}");
        }
        for fragment in ["", "a#b", "a b", "%4", "%zz", "ü", "\"", &"k".repeat(1025)] {
            let text = format!("did:web:a#{fragment}");
            assert_eq!(DidUrl::parse(&text), Err(InvalidDidUrl::Fragment), "{text:?}");
        }
    }
}
