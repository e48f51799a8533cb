//! Signs requests as a profile asks for it: for the command line, and for agents written in
//! Rust. Time and nonce are handed in; a secret key never reaches an error or `Debug`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};
use sha3::Keccak256;
use zeroize::Zeroizing;

use super::algorithms::Algorithm;
use super::base::{NoBase, signature_base};
use super::components::{Component, Covered};
use super::digest::{self, ContentDigest, DigestMismatch, content_digest};
use super::input::Parameters;
use super::profile::Profile;
use super::request::{Body, Request};
use crate::domain::{DidUrl, KeyType, Nonce, PublicKey, Timestamp};

/// The label of our signatures. It says nothing: the tag does.
const LABEL: &str = "sig1";

/// A secret key, with its public half.
#[derive(Clone)]
pub struct SigningKey {
    secret: Secret,
    public: PublicKey,
}

#[derive(Clone)]
enum Secret {
    Ed25519(ed25519_dalek::SigningKey),
    Secp256k1(k256::ecdsa::SigningKey),
    P256(p256::ecdsa::SigningKey),
}

/// The bytes are not a secret key of the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the 32 bytes are not a secret key of type {0}")]
pub struct InvalidSecretKey(KeyType);

impl SigningKey {
    /// A key from its 32 bytes: the seed of an Ed25519 key, else the scalar, big-endian. Random
    /// bytes make a key, but for a chance of less than 2⁻³¹ that a scalar is out of range.
    ///
    /// # Errors
    /// [`InvalidSecretKey`] when the scalar is zero or not below the curve's order.
    pub fn from_bytes(key_type: KeyType, bytes: &[u8; 32]) -> Result<Self, InvalidSecretKey> {
        let invalid = InvalidSecretKey(key_type);
        let (secret, public) = match key_type {
            KeyType::Ed25519 => {
                let key = ed25519_dalek::SigningKey::from_bytes(bytes);
                let public = key.verifying_key().to_bytes().to_vec();
                (Secret::Ed25519(key), public)
            }
            KeyType::Secp256k1 => {
                let key = k256::ecdsa::SigningKey::from_slice(bytes).map_err(|_| invalid)?;
                let public = key.verifying_key().to_sec1_point(true).as_bytes().to_vec();
                (Secret::Secp256k1(key), public)
            }
            KeyType::P256 => {
                let key = p256::ecdsa::SigningKey::from_slice(bytes).map_err(|_| invalid)?;
                let public = key.verifying_key().to_sec1_point(true).as_bytes().to_vec();
                (Secret::P256(key), public)
            }
        };
        let public = PublicKey::new(key_type, &public).map_err(|_| invalid)?;
        Ok(Self { secret, public })
    }

    /// The secret: what [`Self::from_bytes`] takes.
    #[must_use]
    pub fn expose_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(match &self.secret {
            Secret::Ed25519(key) => key.to_bytes(),
            Secret::Secp256k1(key) => key.to_bytes().into(),
            Secret::P256(key) => key.to_bytes().into(),
        })
    }

    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// `None` when the algorithm is not for this type of key.
    pub(super) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        match (&self.secret, algorithm) {
            (Secret::Ed25519(key), Algorithm::Ed25519) => {
                Some(key.sign(message).to_bytes().to_vec())
            }
            (Secret::P256(key), Algorithm::EcdsaP256Sha256) => {
                Some(key.sign_prehash_recoverable(&Sha256::digest(message)).0.to_vec())
            }
            (Secret::Secp256k1(key), Algorithm::Es256k) => {
                Some(key.sign_prehash_recoverable(&Sha256::digest(message)).0.to_vec())
            }
            (Secret::Secp256k1(key), Algorithm::Es256kKeccak) => {
                let (signature, id) = key.sign_prehash_recoverable(&Keccak256::digest(message));
                let mut bytes = signature.to_vec();
                bytes.push(id.to_byte());
                Some(bytes)
            }
            _ => None,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Signs requests with one key, by one profile.
#[derive(Debug, Clone)]
pub struct Signer {
    pub key: SigningKey,
    /// How the verifier finds the key.
    pub key_id: DidUrl,
    pub profile: Profile,
}

/// The fields to add to a request so that it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFields {
    /// `None` when the request already has one, or has no body.
    pub content_digest: Option<String>,
    pub signature_input: String,
    pub signature: String,
}

impl SignedFields {
    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.content_digest.as_deref().map(|value| ("Content-Digest", value)).into_iter().chain([
            ("Signature-Input", self.signature_input.as_str()),
            ("Signature", self.signature.as_str()),
        ])
    }
}

/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotSign {
    #[error("the request already has a Signature or Signature-Input field")]
    AlreadySigned,
    #[error("the profile {profile} has no algorithm for a key of type {key_type}")]
    KeyType { profile: String, key_type: KeyType },
    #[error("the profile {profile} wants a nonce of at least {min} characters")]
    ShortNonce { profile: String, min: usize },
    #[error("a signer must see the body")]
    BodyUnseen,
    #[error(transparent)]
    Digest(#[from] DigestMismatch),
    #[error(transparent)]
    NoBase(#[from] NoBase),
    #[error("the keyid or the profile's tag has characters other than visible ASCII and spaces")]
    NotAscii,
}

impl Signer {
    /// The fields that sign this request from `now` for as long as the profile allows. The
    /// nonce must be fresh and random; a verifier accepts it once.
    ///
    /// # Errors
    /// [`CannotSign`] when the request lacks what has to be signed (a body without
    /// `Content-Type`, say), or the key or nonce does not suit the profile.
    pub fn sign(
        &self,
        request: &Request<'_>,
        nonce: &Nonce,
        now: Timestamp,
    ) -> Result<SignedFields, CannotSign> {
        let Self { key, key_id, profile } = self;
        if request.has_field("signature") || request.has_field("signature-input") {
            return Err(CannotSign::AlreadySigned);
        }
        let profile_name = || profile.name.clone();
        let key_type = key.public_key().key_type();
        let wrong_key = || CannotSign::KeyType { profile: profile_name(), key_type };
        let algorithm = profile.algorithm_for(key_type).ok_or_else(wrong_key)?;
        if nonce.as_str().len() < profile.min_nonce_len {
            let min = profile.min_nonce_len;
            return Err(CannotSign::ShortNonce { profile: profile_name(), min });
        }

        let content_digest = digest_to_add(request)?;
        let mut headers = request.headers.to_vec();
        headers.extend(content_digest.iter().map(|value| (digest::FIELD, value.as_bytes())));
        let request = Request { headers: &headers, ..*request };

        let covered = to_cover(profile, &request);
        let created = now.timestamp();
        let identifiers: Vec<_> =
            covered.iter().map(|covered| covered.identifier.as_str()).collect();
        let parameters = Parameters {
            created: Some(created),
            expires: Some(created + profile.max_window.num_seconds()),
            nonce: Some(nonce.to_string()),
            alg: algorithm.parameter().map(str::to_owned),
            keyid: Some(key_id.to_string()),
            tag: profile.tag.clone(),
        };
        let parameters = format!("({}){}", identifiers.join(" "), parameters.serialize());
        if !parameters.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(CannotSign::NotAscii);
        }
        let base = signature_base(&request, &covered, &parameters)?;
        let signature = key.sign(algorithm, base.as_bytes()).ok_or_else(wrong_key)?;
        Ok(SignedFields {
            content_digest,
            signature_input: format!("{LABEL}={parameters}"),
            signature: format!("{LABEL}=:{}:", STANDARD.encode(signature)),
        })
    }
}

/// The digest of the body, unless there is none or the request has one, which must be right.
fn digest_to_add(request: &Request<'_>) -> Result<Option<String>, CannotSign> {
    let Body::Seen(content) = request.body else { return Err(CannotSign::BodyUnseen) };
    if let Some(field) = request.field(digest::FIELD) {
        ContentDigest::parse(&field)?.check(content)?;
        return Ok(None);
    }
    Ok((!content.is_empty()).then(|| content_digest(content)))
}

/// The least that the profile accepts for this request.
fn to_cover(profile: &Profile, request: &Request<'_>) -> Vec<Covered> {
    let mut components: Vec<&Component> = profile.coverage.first_choice().collect();
    for component in profile.coverage.conditional(request) {
        if !components.contains(&component) {
            components.push(component);
        }
    }
    components.into_iter().cloned().map(Covered::plain).collect()
}
