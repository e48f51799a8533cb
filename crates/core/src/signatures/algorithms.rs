//! The signature algorithms, and keys made ready for them once. Verification is strict: one
//! message and key have no two signatures that differ only in form (except P-256, where RFC 9421
//! allows both). A key of one type is never tried with another's algorithm.

use k256::ecdsa::signature::hazmat::PrehashVerifier as _;
use sha2::{Digest as _, Sha256};
use sha3::Keccak256;

use crate::domain::{InvalidKey, KeyType, PublicKey};

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// 64 bytes (RFC 9421, section 3.3.6), verified strictly: canonical S, and neither the key
    /// nor R of small order.
    Ed25519,
    /// 64 bytes r ‖ s over SHA-256 (RFC 9421, section 3.3.4).
    EcdsaP256Sha256,
    /// JWS ES256K (RFC 8812): 64 bytes r ‖ s over SHA-256, low S. RFC 9421 registers no name
    /// for it, so `alg` must be absent (section 3.3.7).
    Es256k,
    /// SAGE's `es256k`: 65 bytes r ‖ s ‖ v over Keccak-256, low S, with the recovery id as v, as
    /// go-ethereum's `crypto.Sign` writes it.
    Es256kKeccak,
}

impl Algorithm {
    pub const ALL: [Self; 4] =
        [Self::Ed25519, Self::EcdsaP256Sha256, Self::Es256k, Self::Es256kKeccak];

    /// The name in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::Es256k => "ES256K",
            Self::Es256kKeccak => "es256k",
        }
    }

    /// The value of the `alg` parameter; `None` where it must be absent.
    #[must_use]
    pub const fn parameter(self) -> Option<&'static str> {
        match self {
            Self::Es256k => None,
            other => Some(other.as_str()),
        }
    }

    /// The type of key that signs with this algorithm.
    #[must_use]
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::Ed25519 => KeyType::Ed25519,
            Self::EcdsaP256Sha256 => KeyType::P256,
            Self::Es256k | Self::Es256kKeccak => KeyType::Secp256k1,
        }
    }
}

/// A public key ready to verify with: decompressed once, so that a cache can hold it.
#[derive(Debug, Clone)]
pub enum VerifyingKey {
    Ed25519(ed25519_dalek::VerifyingKey),
    Secp256k1(k256::ecdsa::VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
}

impl VerifyingKey {
    /// # Errors
    /// [`InvalidKey::NotAPoint`]; not for a [`PublicKey`] that exists.
    pub fn new(key: &PublicKey) -> Result<Self, InvalidKey> {
        let not_a_point = InvalidKey::NotAPoint(key.key_type());
        let bytes = key.as_bytes();
        match key.key_type() {
            KeyType::Ed25519 => ed25519_dalek::VerifyingKey::try_from(bytes)
                .map(Self::Ed25519)
                .map_err(|_| not_a_point),
            KeyType::Secp256k1 => k256::ecdsa::VerifyingKey::from_sec1_bytes(bytes)
                .map(Self::Secp256k1)
                .map_err(|_| not_a_point),
            KeyType::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes)
                .map(Self::P256)
                .map_err(|_| not_a_point),
        }
    }

    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        match self {
            Self::Ed25519(_) => KeyType::Ed25519,
            Self::Secp256k1(_) => KeyType::Secp256k1,
            Self::P256(_) => KeyType::P256,
        }
    }

    /// Whether `signature` over `message` is this key's, by `algorithm`.
    #[must_use]
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Ed25519(key), Algorithm::Ed25519) => {
                ed25519_dalek::Signature::from_slice(signature)
                    .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            }
            (Self::P256(key), Algorithm::EcdsaP256Sha256) => {
                p256::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| {
                    key.verify_prehash(&Sha256::digest(message), &signature).is_ok()
                })
            }
            (Self::Secp256k1(key), Algorithm::Es256k) => {
                verifies_low_s(key, &Sha256::digest(message), signature)
            }
            (Self::Secp256k1(key), Algorithm::Es256kKeccak) => {
                verifies_recoverable(key, &Keccak256::digest(message), signature)
            }
            _ => false,
        }
    }
}

fn verifies_low_s(key: &k256::ecdsa::VerifyingKey, digest: &[u8], signature: &[u8]) -> bool {
    low_s(signature).is_some_and(|signature| key.verify_prehash(digest, &signature).is_ok())
}

/// r ‖ s ‖ v, where v is the recovery id. Ethereum's wallets write v + 27: that would be a second
/// form of one signature, and SAGE's clients do not send it. The key that r, s and v belong to is
/// computed, and compared.
fn verifies_recoverable(key: &k256::ecdsa::VerifyingKey, digest: &[u8], signature: &[u8]) -> bool {
    let Some((&v, r_s)) = signature.split_last() else { return false };
    let id = k256::ecdsa::RecoveryId::from_byte(v);
    let (Some(id), Some(signature)) = (id, low_s(r_s)) else { return false };
    k256::ecdsa::VerifyingKey::recover_from_prehash(digest, &signature, id)
        .is_ok_and(|recovered| recovered.as_affine() == key.as_affine())
}

/// A signature of 64 bytes whose s is in the lower half of its range: the other half would give
/// everybody a second signature of the same message.
fn low_s(r_s: &[u8]) -> Option<k256::ecdsa::Signature> {
    let signature = k256::ecdsa::Signature::from_slice(r_s).ok()?;
    (signature.normalize_s() == signature).then_some(signature)
}
