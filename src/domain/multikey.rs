//! Public keys as one text: Multikey (W3C Controlled Identifiers 1.0, section 2.2.2), which is
//! the multicodec number of the key's type and the raw key, in multibase.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{InvalidKey, KeyType, PublicKey};

/// More characters than any key of ours takes; decoding base58 costs their square.
const MAX_LEN: usize = 64;

/// The multicodec prefix of an X25519 key, as an unsigned varint.
const X25519: [u8; 2] = [0xec, 0x01];

/// The multicodec prefix of a key type, as an unsigned varint.
const fn codec(key_type: KeyType) -> [u8; 2] {
    match key_type {
        KeyType::Ed25519 => [0xed, 0x01],
        KeyType::Secp256k1 => [0xe7, 0x01],
        KeyType::P256 => [0x80, 0x24],
    }
}

/// The text is not a usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMultikey {
    #[error("the key is not `z` followed by base58btc, or `u` followed by base64url (multibase)")]
    Multibase,
    #[error("the key is none of Ed25519, Secp256k1 and P256 (multicodec 0xed, 0xe7, 0x1200)")]
    KeyType,
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

impl PublicKey {
    /// # Errors
    /// [`InvalidMultikey`] when the text is malformed, of another type, or its key may not be
    /// used.
    pub fn from_multikey(text: &str) -> Result<Self, InvalidMultikey> {
        if text.len() > MAX_LEN {
            return Err(InvalidMultikey::KeyType);
        }
        let bytes = if let Some(base58) = text.strip_prefix('z') {
            bs58::decode(base58).into_vec().ok()
        } else if let Some(base64) = text.strip_prefix('u') {
            URL_SAFE_NO_PAD.decode(base64).ok()
        } else {
            None
        };
        let bytes = bytes.ok_or(InvalidMultikey::Multibase)?;
        let (prefix, raw) = bytes.split_first_chunk::<2>().ok_or(InvalidMultikey::KeyType)?;
        let key_type = KeyType::ALL.into_iter().find(|&key_type| codec(key_type) == *prefix);
        Ok(Self::new(key_type.ok_or(InvalidMultikey::KeyType)?, raw)?)
    }

    /// The key as Multikey, in base58btc.
    #[must_use]
    pub fn to_multikey(&self) -> String {
        base58(codec(self.key_type()), self.as_bytes())
    }
}

/// An X25519 key as Multikey, in base58btc. Such keys agree on secrets and sign nothing.
pub(super) fn of_x25519(key: &[u8; 32]) -> String {
    base58(X25519, key)
}

fn base58(codec: [u8; 2], key: &[u8]) -> String {
    format!("z{}", bs58::encode([&codec, key].concat()).into_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the examples of Controlled Identifiers 1.0, and the vectors of did:key.
    #[test]
    fn reads_what_it_writes() {
        for (text, key_type) in [
            ("z6MkmM42vxfqZQsv4ehtTjFFxQ4sQKS2w6WR7emozFAn5cxu", KeyType::Ed25519),
            ("zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", KeyType::Secp256k1),
            ("zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv", KeyType::P256),
        ] {
            let key = PublicKey::from_multikey(text).expect(text);
            assert_eq!((key.key_type(), key.to_multikey().as_str()), (key_type, text));
            let bytes = [codec(key_type).as_slice(), key.as_bytes()].concat();
            let base64 = format!("u{}", URL_SAFE_NO_PAD.encode(bytes));
            assert_eq!(PublicKey::from_multikey(&base64), Ok(key), "{base64}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_usable_key() {
        let refused = |text: &str| PublicKey::from_multikey(text).expect_err(text);
        for text in ["", "abc", "z0OIl", "u=", "uab+/", "u7QE=", "f00", "Z6Mk", "zé"] {
            assert_eq!(refused(text), InvalidMultikey::Multibase, "{text:?}");
        }
        for text in ["z", "u", &"z0".repeat(33), &of_x25519(&[9; 32])] {
            assert_eq!(refused(text), InvalidMultikey::KeyType, "{text:?}");
        }
        let short = base58(codec(KeyType::Ed25519), &[9; 31]);
        assert_eq!(refused(&short), InvalidKey::Length(KeyType::Ed25519).into());
        // The identity point has order 1.
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(refused(&base58(codec(KeyType::Ed25519), &identity)), InvalidKey::Weak.into());
        let off_curve = [[2].as_slice(), &[0xff; 32]].concat();
        let off_curve = base58(codec(KeyType::Secp256k1), &off_curve);
        assert_eq!(refused(&off_curve), InvalidKey::NotAPoint(KeyType::Secp256k1).into());
    }
}
