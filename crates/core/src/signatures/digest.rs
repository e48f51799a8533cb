//! `Content-Digest` (RFC 9530): it binds the content to the signature that covers the field.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

use super::parse::{Malformed, byte_sequences};

/// The field's name, as components name it.
pub(super) const FIELD: &str = "content-digest";

const SHA_256: &str = "sha-256";
const SHA_512: &str = "sha-512";

/// Why a digest does not stand for the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestMismatch {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("Content-Digest has neither sha-256 nor sha-512; other algorithms prove nothing")]
    NoneUsable,
    #[error("the {0} in Content-Digest is not that of the content")]
    Differs(&'static str),
}

/// What a `Content-Digest` says by the algorithms that we trust: something by one of them, and
/// never two things by the same. Written, it is the field's value in one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest {
    sha_256: Option<[u8; 32]>,
    sha_512: Option<[u8; 64]>,
}

impl ContentDigest {
    /// Other algorithms are left out: they prove nothing.
    pub(super) fn parse(field: &[u8]) -> Result<Self, DigestMismatch> {
        let mut read = Self { sha_256: None, sha_512: None };
        for (algorithm, digest) in byte_sequences("Content-Digest", field)? {
            // What has another length is the digest of no content.
            match algorithm.as_str() {
                SHA_256 => read.sha_256 = Some(sized(SHA_256, &digest)?),
                SHA_512 => read.sha_512 = Some(sized(SHA_512, &digest)?),
                _ => {}
            }
        }
        if read.sha_256.is_none() && read.sha_512.is_none() {
            return Err(DigestMismatch::NoneUsable);
        }
        Ok(read)
    }

    /// Each digest must be that of this content.
    pub(super) fn check(&self, content: &[u8]) -> Result<(), DigestMismatch> {
        if self.sha_256.is_some_and(|digest| Sha256::digest(content).as_slice() != digest) {
            return Err(DigestMismatch::Differs(SHA_256));
        }
        if self.sha_512.is_some_and(|digest| Sha512::digest(content).as_slice() != digest) {
            return Err(DigestMismatch::Differs(SHA_512));
        }
        Ok(())
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sha_256 = self.sha_256.as_ref().map(|digest| (SHA_256, digest.as_slice()));
        let sha_512 = self.sha_512.as_ref().map(|digest| (SHA_512, digest.as_slice()));
        for (at, (name, digest)) in sha_256.into_iter().chain(sha_512).enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{name}=:{}:", STANDARD.encode(digest))?;
        }
        Ok(())
    }
}

fn sized<const N: usize>(name: &'static str, digest: &[u8]) -> Result<[u8; N], DigestMismatch> {
    digest.try_into().map_err(|_| DigestMismatch::Differs(name))
}

/// The field's value for this content, with SHA-256.
#[must_use]
pub fn content_digest(content: &[u8]) -> String {
    ContentDigest { sha_256: Some(Sha256::digest(content).into()), sha_512: None }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: &[u8], content: &[u8]) -> Result<(), DigestMismatch> {
        ContentDigest::parse(field)?.check(content)
    }

    const CONTENT: &[u8] = b"{\"hello\": \"world\"}\n";
    const RFC_SHA_256: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    const RFC_SHA_512: &str = "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8\
                           MjkM7iw7yZ/WkppmM44T3qg==:";

    /// From RFC 9530, appendix B: whole, empty, partial and encoded content.
    #[test]
    fn the_rfcs_examples() {
        let partial = "sha-256=:jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=:";
        let empty = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        for (field, content) in [
            (RFC_SHA_256, CONTENT),
            (RFC_SHA_512, CONTENT),
            (partial, &CONTENT[10..]),
            (empty, b""),
        ] {
            assert_eq!(check(field.as_bytes(), content), Ok(()), "{field}");
        }
        assert_eq!(content_digest(CONTENT), RFC_SHA_256);
        assert_eq!(content_digest(b""), empty);
        // The example of a request whose content does not belong to the digest.
        let differs = check(RFC_SHA_256.as_bytes(), b"{\"hello\": \"woXYZ\"}\n");
        assert_eq!(differs, Err(DigestMismatch::Differs("sha-256")));
    }

    #[test]
    fn every_digest_that_we_trust_must_be_right() {
        let both = format!("{RFC_SHA_256}, {RFC_SHA_512}");
        assert_eq!(check(both.as_bytes(), CONTENT), Ok(()));
        let with_unknown = format!("md5=:AA==:, {RFC_SHA_512}");
        assert_eq!(check(with_unknown.as_bytes(), CONTENT), Ok(()));
        let one_wrong = format!("{RFC_SHA_256}, sha-512=:AA==:");
        let refused = check(one_wrong.as_bytes(), CONTENT);
        assert_eq!(refused, Err(DigestMismatch::Differs("sha-512")));
    }

    #[test]
    fn it_is_written_in_one_form() {
        for (field, written) in [
            (
                format!("{RFC_SHA_512}  ,\t{RFC_SHA_256};x=1"),
                format!("{RFC_SHA_256}, {RFC_SHA_512}"),
            ),
            (format!("md5=:AA==:, {RFC_SHA_512}"), RFC_SHA_512.to_owned()),
        ] {
            let read = ContentDigest::parse(field.as_bytes()).unwrap();
            assert_eq!(read.to_string(), written);
        }
        for field in ["sha-256=:AA==:", "sha-256=::", "sha-512=:AA==:"] {
            let refused = ContentDigest::parse(field.as_bytes());
            assert!(matches!(refused, Err(DigestMismatch::Differs(_))), "{field}: {refused:?}");
        }
    }

    #[test]
    fn deprecated_algorithms_prove_nothing() {
        // The right MD5 and SHA-1.
        let md5 = "md5=:UFIauregE76D7gDe0/n0JA==:";
        let sha = "sha=:yyTATouGJ50S3R4iWotz3qq6P9Y=:, unixsum=:AQ==:";
        for field in [md5, sha, ""] {
            assert_eq!(check(field.as_bytes(), CONTENT), Err(DigestMismatch::NoneUsable));
        }
    }

    #[test]
    fn a_field_of_two_meanings_is_malformed() {
        let twice = format!("{RFC_SHA_256}, {RFC_SHA_256}");
        for field in [twice.as_str(), "sha-256=abc", "sha-256", "sha-256=(:AA==:)", "sha-256=:A"] {
            let refused = check(field.as_bytes(), CONTENT);
            assert!(matches!(refused, Err(DigestMismatch::Malformed(_))), "{field}: {refused:?}");
        }
    }
}
