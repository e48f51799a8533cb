//! `Content-Digest` (RFC 9530): it binds the content to the signature that covers the field.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};

use super::parse::{Malformed, byte_sequences};

/// The field's name, as components name it.
pub(super) const FIELD: &str = "content-digest";

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

/// Checks every digest of a kind that we trust; there must be at least one.
pub(super) fn check(field: &[u8], content: &[u8]) -> Result<(), DigestMismatch> {
    let mut checked = false;
    for (algorithm, digest) in byte_sequences("Content-Digest", field)? {
        let (name, equal) = match algorithm.as_str() {
            "sha-256" => ("sha-256", Sha256::digest(content).as_slice() == digest),
            "sha-512" => ("sha-512", Sha512::digest(content).as_slice() == digest),
            _ => continue,
        };
        if !equal {
            return Err(DigestMismatch::Differs(name));
        }
        checked = true;
    }
    if checked { Ok(()) } else { Err(DigestMismatch::NoneUsable) }
}

/// The field's value for this content, with SHA-256.
#[must_use]
pub fn content_digest(content: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &[u8] = b"{\"hello\": \"world\"}\n";
    const SHA_256: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    const SHA_512: &str = "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8\
                           MjkM7iw7yZ/WkppmM44T3qg==:";

    /// From RFC 9530, appendix B: whole, empty, partial and encoded content.
    #[test]
    fn the_rfcs_examples() {
        let partial = "sha-256=:jjcgBDWNAtbYUXI37CVG3gRuGOAjaaDRGpIUFsdyepQ=:";
        let empty = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        for (field, content) in
            [(SHA_256, CONTENT), (SHA_512, CONTENT), (partial, &CONTENT[10..]), (empty, b"")]
        {
            assert_eq!(check(field.as_bytes(), content), Ok(()), "{field}");
        }
        assert_eq!(content_digest(CONTENT), SHA_256);
        assert_eq!(content_digest(b""), empty);
        // The example of a request whose content does not belong to the digest.
        let differs = check(SHA_256.as_bytes(), b"{\"hello\": \"woXYZ\"}\n");
        assert_eq!(differs, Err(DigestMismatch::Differs("sha-256")));
    }

    #[test]
    fn every_digest_that_we_trust_must_be_right() {
        let both = format!("{SHA_256}, {SHA_512}");
        assert_eq!(check(both.as_bytes(), CONTENT), Ok(()));
        let with_unknown = format!("md5=:AA==:, {SHA_512}");
        assert_eq!(check(with_unknown.as_bytes(), CONTENT), Ok(()));
        let one_wrong = format!("{SHA_256}, sha-512=:AA==:");
        let refused = check(one_wrong.as_bytes(), CONTENT);
        assert_eq!(refused, Err(DigestMismatch::Differs("sha-512")));
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
        let twice = format!("{SHA_256}, {SHA_256}");
        for field in [twice.as_str(), "sha-256=abc", "sha-256", "sha-256=(:AA==:)", "sha-256=:A"] {
            let refused = check(field.as_bytes(), CONTENT);
            assert!(matches!(refused, Err(DigestMismatch::Malformed(_))), "{field}: {refused:?}");
        }
    }
}
