//! Public keys, checked when they are made: wrong lengths, points off the curve and
//! small-order keys cannot be constructed.

use std::fmt;

use k256::elliptic_curve::sec1::ToSec1Point as _;

/// Which curve a key is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    Ed25519,
    Secp256k1,
    P256,
}

impl KeyType {
    pub const ALL: [Self; 3] = [Self::Ed25519, Self::Secp256k1, Self::P256];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::Secp256k1 => "Secp256k1",
            Self::P256 => "P256",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The length of a raw key in bytes: 32 for Ed25519, 33 (a compressed point, SEC 1 section
    /// 2.3.3) for the others.
    #[must_use]
    pub const fn byte_len(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::Secp256k1 | Self::P256 => 33,
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A public key, raw.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    key_type: KeyType,
    bytes: Box<[u8]>,
}

/// The bytes are not a usable key of the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("a {0} key has {n} bytes", n = .0.byte_len())]
    Length(KeyType),
    #[error("the bytes are not a point on the {0} curve, in its one canonical encoding")]
    NotAPoint(KeyType),
    #[error("the key has small order, so that signatures under it prove nothing")]
    Weak,
}

impl PublicKey {
    /// # Errors
    /// [`InvalidKey`] when the length is wrong, the bytes are no point of the curve, or the
    /// point has small order.
    pub fn new(key_type: KeyType, bytes: &[u8]) -> Result<Self, InvalidKey> {
        if bytes.len() != key_type.byte_len() {
            return Err(InvalidKey::Length(key_type));
        }
        // SEC 1's compact form (tag 5) has 33 bytes too, and would be a second name of one key.
        if key_type != KeyType::Ed25519 && !matches!(bytes.first(), Some(2 | 3)) {
            return Err(InvalidKey::NotAPoint(key_type));
        }
        match key_type {
            KeyType::Ed25519 => check_ed25519(bytes)?,
            KeyType::Secp256k1 => {
                k256::PublicKey::from_sec1_bytes(bytes)
                    .map_err(|_| InvalidKey::NotAPoint(key_type))?;
            }
            KeyType::P256 => {
                p256::PublicKey::from_sec1_bytes(bytes)
                    .map_err(|_| InvalidKey::NotAPoint(key_type))?;
            }
        }
        Ok(Self { key_type, bytes: bytes.into() })
    }

    /// A key on an elliptic curve as a point in SEC 1's form, compressed (33 bytes) or not (65).
    ///
    /// # Errors
    /// As [`Self::new`]; [`InvalidKey::Length`] for Ed25519, which has no such form.
    pub fn from_sec1(key_type: KeyType, bytes: &[u8]) -> Result<Self, InvalidKey> {
        let not_a_point = InvalidKey::NotAPoint(key_type);
        match (key_type, bytes) {
            (KeyType::Ed25519, _) => Err(InvalidKey::Length(key_type)),
            (_, [4, ..]) if bytes.len() != 65 => Err(InvalidKey::Length(key_type)),
            (KeyType::Secp256k1, [4, ..]) => {
                let key = k256::PublicKey::from_sec1_bytes(bytes).map_err(|_| not_a_point)?;
                Self::new(key_type, key.to_sec1_point(true).as_bytes())
            }
            (KeyType::P256, [4, ..]) => {
                let key = p256::PublicKey::from_sec1_bytes(bytes).map_err(|_| not_a_point)?;
                Self::new(key_type, key.to_sec1_point(true).as_bytes())
            }
            _ => Self::new(key_type, bytes),
        }
    }

    #[must_use]
    pub const fn key_type(&self) -> KeyType {
        self.key_type
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn check_ed25519(bytes: &[u8]) -> Result<(), InvalidKey> {
    let not_a_point = InvalidKey::NotAPoint(KeyType::Ed25519);
    let array: [u8; 32] = bytes.try_into().map_err(|_| InvalidKey::Length(KeyType::Ed25519))?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&array).map_err(|_| not_a_point)?;
    if key.is_weak() {
        return Err(InvalidKey::Weak);
    }
    // Decompression reduces y modulo the field's prime; only the reduced form is canonical.
    if key.to_edwards().compress().to_bytes() != array {
        return Err(not_a_point);
    }
    Ok(())
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {} bytes)", self.key_type, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncompressed_point_is_the_same_key() {
        let secp256k1 = k256::SecretKey::from_slice(&[7; 32]).unwrap().public_key();
        let p256 = p256::SecretKey::from_slice(&[7; 32]).unwrap().public_key();
        let points = |compress| {
            [
                (KeyType::Secp256k1, secp256k1.to_sec1_point(compress).as_bytes().to_vec()),
                (KeyType::P256, p256.to_sec1_point(compress).as_bytes().to_vec()),
            ]
        };
        for ((key_type, long), (_, short)) in points(false).into_iter().zip(points(true)) {
            let key = PublicKey::new(key_type, &short);
            assert!(key.is_ok(), "{key_type}");
            assert_eq!(PublicKey::from_sec1(key_type, &short), key);
            assert_eq!(PublicKey::from_sec1(key_type, &long), key);
            assert_eq!(PublicKey::new(key_type, &long), Err(InvalidKey::Length(key_type)));
            let mut off_curve = long.clone();
            off_curve[64] ^= 1;
            let refused = PublicKey::from_sec1(key_type, &off_curve);
            assert_eq!(refused, Err(InvalidKey::NotAPoint(key_type)));
            let cut = PublicKey::from_sec1(key_type, &long[..33]);
            assert_eq!(cut, Err(InvalidKey::Length(key_type)));
        }
        assert_eq!(
            PublicKey::from_sec1(KeyType::Ed25519, &[9; 33]),
            Err(InvalidKey::Length(KeyType::Ed25519))
        );
    }

    #[test]
    fn a_point_has_one_encoding() {
        let secp256k1 = k256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let p256 = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
        let secp256k1 = secp256k1.verifying_key().to_sec1_point(true);
        let p256 = p256.verifying_key().to_sec1_point(true);
        for (key_type, point) in
            [(KeyType::Secp256k1, secp256k1.as_bytes()), (KeyType::P256, p256.as_bytes())]
        {
            let mut bytes = point.to_vec();
            assert!(PublicKey::new(key_type, &bytes).is_ok(), "{key_type}");
            for tag in [0, 1, 4, 5, 6, 7] {
                bytes[0] = tag;
                let refused = PublicKey::new(key_type, &bytes);
                assert_eq!(refused, Err(InvalidKey::NotAPoint(key_type)), "{key_type}, tag {tag}");
            }
        }
    }
}
