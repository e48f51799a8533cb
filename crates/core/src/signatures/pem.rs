//! Keys as PEM, the text that OpenSSL and nearly every library reads and writes: PKCS#8 (RFC
//! 5958, RFC 8410) for secret keys, SubjectPublicKeyInfo for public ones. An error never has a
//! part of the text.

use ed25519_dalek::pkcs8::KeypairBytes;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use k256::elliptic_curve::sec1::ToSec1Point as _;
use k256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _};
use zeroize::Zeroizing;

use super::sign::SigningKey;
use crate::domain::{InvalidKey, KeyType, PublicKey};

/// The text is not a key that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPem {
    #[error(
        "no unencrypted PEM key, which begins with -----BEGIN PRIVATE KEY----- (PKCS#8) or \
         -----BEGIN PUBLIC KEY-----; `openssl pkcs8 -topk8 -nocrypt -in FILE` converts other \
         forms of a private key"
    )]
    Form,
    #[error("a public key: to sign, the private key is needed")]
    PublicOnly,
    #[error("a damaged key, or not one of type Ed25519, Secp256k1 or P256")]
    Key,
    #[error(transparent)]
    Unusable(#[from] InvalidKey),
}

const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----";

impl SigningKey {
    /// The secret key as PKCS#8.
    ///
    /// # Errors
    /// None for a key: each has an encoding.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, InvalidPem> {
        let secret = self.expose_bytes();
        let pem = match self.public_key().key_type() {
            // With the public key it would be a newer form, which OpenSSL does not read.
            KeyType::Ed25519 => {
                KeypairBytes { secret_key: *secret, public_key: None }.to_pkcs8_pem(LineEnding::LF)
            }
            KeyType::Secp256k1 => k256::SecretKey::from_slice(secret.as_slice())
                .map_err(|_| InvalidPem::Key)?
                .to_pkcs8_pem(LineEnding::LF),
            KeyType::P256 => p256::SecretKey::from_slice(secret.as_slice())
                .map_err(|_| InvalidPem::Key)?
                .to_pkcs8_pem(LineEnding::LF),
        };
        pem.map_err(|_| InvalidPem::Key)
    }

    /// A secret key from PKCS#8, which says its type.
    ///
    /// # Errors
    /// [`InvalidPem`] when the text is anything else.
    pub fn from_pem(text: &str) -> Result<Self, InvalidPem> {
        let text = text.trim();
        if text.starts_with(PUBLIC) {
            return Err(InvalidPem::PublicOnly);
        }
        if !text.starts_with(PRIVATE) {
            return Err(InvalidPem::Form);
        }
        let (key_type, secret) = if let Ok(key) = ed25519_dalek::SigningKey::from_pkcs8_pem(text) {
            (KeyType::Ed25519, Zeroizing::new(key.to_bytes()))
        } else if let Ok(key) = k256::SecretKey::from_pkcs8_pem(text) {
            (KeyType::Secp256k1, Zeroizing::new(key.to_bytes().into()))
        } else if let Ok(key) = p256::SecretKey::from_pkcs8_pem(text) {
            (KeyType::P256, Zeroizing::new(key.to_bytes().into()))
        } else {
            return Err(InvalidPem::Key);
        };
        Self::from_bytes(key_type, &secret).map_err(|_| InvalidPem::Key)
    }
}

/// The public key of a PEM file, whether that holds the public or the secret one.
///
/// # Errors
/// [`InvalidPem`] when the text is neither, or the key may not be used.
pub fn public_key_from_pem(text: &str) -> Result<PublicKey, InvalidPem> {
    let text = text.trim();
    if !text.starts_with(PUBLIC) {
        return SigningKey::from_pem(text).map(|key| key.public_key().clone());
    }
    if let Ok(key) = ed25519_dalek::pkcs8::PublicKeyBytes::from_public_key_pem(text) {
        Ok(PublicKey::new(KeyType::Ed25519, &key.to_bytes())?)
    } else if let Ok(key) = k256::PublicKey::from_public_key_pem(text) {
        Ok(PublicKey::new(KeyType::Secp256k1, key.to_sec1_point(true).as_bytes())?)
    } else if let Ok(key) = p256::PublicKey::from_public_key_pem(text) {
        Ok(PublicKey::new(KeyType::P256, key.to_sec1_point(true).as_bytes())?)
    } else {
        Err(InvalidPem::Key)
    }
}
