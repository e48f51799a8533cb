//! Documents for keys that did not come in one.

use serde_json::{Map, Value, json};

use super::method::{
    ASSERTION, AUTHENTICATION, DELEGATION, INVOCATION, KEY_AGREEMENT, VERIFICATION_METHOD,
    VerificationMethod,
};
use super::{DidDocument, methods};
use crate::domain::{Did, PublicKey, multikey};

/// An X25519 key by its DID URL. It signs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAgreement {
    /// Absolute: the DID, `#`, and the fragment.
    pub id: String,
    pub x25519: [u8; 32],
}

impl DidDocument {
    /// The document of a DID with one key, which may sign; `id` is absolute.
    #[must_use]
    pub fn of_key(did: &Did, id: String, key: PublicKey) -> Self {
        Self::of_keys(did, &[VerificationMethod { id, key, authentication: true }], &[])
    }

    /// The document of a DID with these keys. Those that may sign are in `authentication` and
    /// `assertionMethod`, the others of `methods` in no relationship.
    #[must_use]
    pub fn of_keys(
        did: &Did,
        methods: &[VerificationMethod],
        key_agreement: &[KeyAgreement],
    ) -> Self {
        build(did, methods, &[AUTHENTICATION, ASSERTION], key_agreement)
    }

    /// The document of a did:key, which is its key (did:key method, "Document Creation
    /// Algorithm"; without the derived key for encryption, which is optional).
    #[must_use]
    pub fn of_did_key(did: &Did, key: PublicKey) -> Self {
        let id = format!("{did}#{}", key.to_multikey());
        let method = VerificationMethod { id, key, authentication: true };
        build(did, &[method], &[AUTHENTICATION, ASSERTION, INVOCATION, DELEGATION], &[])
    }
}

fn build(
    did: &Did,
    keys: &[VerificationMethod],
    relationships: &[&str],
    key_agreement: &[KeyAgreement],
) -> DidDocument {
    let signing: Vec<&str> = keys
        .iter()
        .filter(|method| method.authentication)
        .map(|method| method.id.as_str())
        .collect();
    let agreeing: Vec<&str> = key_agreement.iter().map(|key| key.id.as_str()).collect();
    let signers = keys.iter().map(|method| (&method.id, method.key.to_multikey()));
    let agreers = key_agreement.iter().map(|key| (&key.id, multikey::of_x25519(&key.x25519)));
    let entries: Value = signers
        .chain(agreers)
        .map(|(id, multikey)| {
            json!({
                "id": id,
                "type": "Multikey",
                "controller": did.as_str(),
                "publicKeyMultibase": multikey,
            })
        })
        .collect();

    let mut json = Map::new();
    json.insert(
        "@context".to_owned(),
        json!(["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"]),
    );
    json.insert("id".to_owned(), did.as_str().into());
    json.insert(VERIFICATION_METHOD.to_owned(), entries);
    for relationship in relationships {
        json.insert((*relationship).to_owned(), signing.clone().into());
    }
    if !agreeing.is_empty() {
        json.insert(KEY_AGREEMENT.to_owned(), agreeing.into());
    }
    let (methods, unusable) = methods::read(did, &json);
    DidDocument { json, methods, unusable }
}
