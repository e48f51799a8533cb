//! did:key: the DID is the key (W3C CCG did:key method, multibase base58btc of a multicodec key).

use crate::domain::{Did, InvalidDid, InvalidKey, KeyType, PublicKey};

/// The method's name.
pub const METHOD: &str = "key";

/// More characters than any key takes in base58; decoding costs their square.
const MAX_ENCODED_LEN: usize = 64;

/// The multicodec prefix of a key type, as an unsigned varint.
const fn codec(key_type: KeyType) -> [u8; 2] {
    match key_type {
        KeyType::Ed25519 => [0xed, 0x01],
        KeyType::Secp256k1 => [0xe7, 0x01],
        KeyType::P256 => [0x80, 0x24],
    }
}

/// The identifier does not hold a key that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDidKey {
    #[error("a did:key is `z` followed by base58btc (multibase)")]
    Multibase,
    #[error("the key is none of Ed25519, Secp256k1 and P256 (multicodec 0xed, 0xe7, 0x1200)")]
    KeyType,
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

/// The key that a did:key is.
///
/// # Errors
/// [`InvalidDidKey`] when the identifier is malformed or its key may not be used.
pub fn resolve(did: &Did) -> Result<PublicKey, InvalidDidKey> {
    let encoded = did.method_specific_id().strip_prefix('z').ok_or(InvalidDidKey::Multibase)?;
    if encoded.len() > MAX_ENCODED_LEN {
        return Err(InvalidDidKey::Multibase);
    }
    let bytes = bs58::decode(encoded).into_vec().map_err(|_| InvalidDidKey::Multibase)?;
    let (prefix, raw) = bytes.split_first_chunk::<2>().ok_or(InvalidDidKey::KeyType)?;
    let key_type = KeyType::ALL.into_iter().find(|&key_type| codec(key_type) == *prefix);
    Ok(PublicKey::new(key_type.ok_or(InvalidDidKey::KeyType)?, raw)?)
}

/// The did:key of a key.
///
/// # Errors
/// None for a key: what base58 writes is always a DID.
pub fn encode(key: &PublicKey) -> Result<Did, InvalidDid> {
    let bytes = [codec(key.key_type()).as_slice(), key.as_bytes()].concat();
    Did::parse(&format!("did:{METHOD}:z{}", bs58::encode(bytes).into_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve_text(text: &str) -> Result<PublicKey, InvalidDidKey> {
        resolve(&Did::parse(text).expect("a DID"))
    }

    /// From the test vectors of the did:key specification.
    #[test]
    fn the_specifications_vectors_resolve() {
        for (text, key_type) in [
            ("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp", KeyType::Ed25519),
            ("did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", KeyType::Secp256k1),
            ("did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169", KeyType::P256),
        ] {
            let key = resolve_text(text).expect(text);
            assert_eq!(key.key_type(), key_type, "{text}");
            assert_eq!(encode(&key).map(|did| did.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_not_a_usable_key_is_refused() {
        let encode = |codec: [u8; 2], raw: &[u8]| {
            format!("did:key:z{}", bs58::encode([&codec, raw].concat()).into_string())
        };
        assert_eq!(resolve_text("did:key:abc"), Err(InvalidDidKey::Multibase));
        assert_eq!(resolve_text("did:key:z0OIl"), Err(InvalidDidKey::Multibase));
        assert_eq!(resolve_text("did:key:z"), Err(InvalidDidKey::KeyType));
        let long = format!("did:key:z{}", "6".repeat(1000));
        assert_eq!(resolve_text(&long), Err(InvalidDidKey::Multibase));
        // A DID may be percent-encoded; base58 is not, or one key would have several names.
        let escaped = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooW%70";
        assert_eq!(resolve_text(escaped), Err(InvalidDidKey::Multibase));
        // X25519 is for key agreement, not for signatures.
        assert_eq!(resolve_text(&encode([0xec, 0x01], &[9; 32])), Err(InvalidDidKey::KeyType));
        let short = resolve_text(&encode([0xed, 0x01], &[9; 31]));
        assert_eq!(short, Err(InvalidKey::Length(KeyType::Ed25519).into()));
        // The identity point has order 1.
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(resolve_text(&encode([0xed, 0x01], &identity)), Err(InvalidKey::Weak.into()));
        let off_curve =
            resolve_text(&encode([0xe7, 0x01], &[[2].as_slice(), &[0xff; 32]].concat()));
        assert_eq!(off_curve, Err(InvalidKey::NotAPoint(KeyType::Secp256k1).into()));
    }
}
