//! did:key: the DID is the key (W3C CCG did:key method: Multikey in base58btc).

use crate::domain::{Did, DidDocument, InvalidDid, InvalidMultikey, PublicKey};

/// The method's name.
pub const METHOD: &str = "key";

/// The key that a did:key contains.
///
/// # Errors
/// [`InvalidMultikey`] when the identifier is malformed or its key may not be used.
pub fn resolve(did: &Did) -> Result<PublicKey, InvalidMultikey> {
    let id = did.method_specific_id();
    // The other encodings of Multikey would give a key several DIDs.
    if !id.starts_with('z') {
        return Err(InvalidMultikey::Multibase);
    }
    PublicKey::from_multikey(id)
}

/// The document of a did:key.
///
/// # Errors
/// As [`resolve`].
pub fn document(did: &Did) -> Result<DidDocument, InvalidMultikey> {
    Ok(DidDocument::of_did_key(did, resolve(did)?))
}

/// The did:key of a key.
///
/// # Errors
/// Never for a valid key, because base58 text is always valid in a DID.
pub fn encode(key: &PublicKey) -> Result<Did, InvalidDid> {
    Did::parse(&format!("did:{METHOD}:{}", key.to_multikey()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::KeyType;

    fn resolve_text(text: &str) -> Result<PublicKey, InvalidMultikey> {
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
    fn a_key_has_one_did() {
        let text = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";
        let key = resolve_text(text).expect(text);
        let bytes = [[0xed, 0x01].as_slice(), key.as_bytes()].concat();
        let base64 = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, bytes);
        assert_eq!(PublicKey::from_multikey(&format!("u{base64}")), Ok(key));
        // A DID may be percent-encoded; base58 is not.
        for text in [&format!("did:key:u{base64}"), &text.replace("oWp", "oW%70")] {
            assert_eq!(resolve_text(text), Err(InvalidMultikey::Multibase), "{text}");
        }
    }
}
