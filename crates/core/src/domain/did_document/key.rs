//! The key of a verification method, by the method's type and the form the key is written in.

use serde_json::{Map, Value};

use super::jwk::{self, InvalidJwk};
use crate::domain::{InvalidKey, InvalidMultikey, KeyType, PublicKey};

/// The forms a key is written in; a method has one of them.
const MULTIBASE: &str = "publicKeyMultibase";
const JWK: &str = "publicKeyJwk";
const BASE58: &str = "publicKeyBase58";
const HEX: &str = "publicKeyHex";

/// More characters than an uncompressed point takes; decoding base58 costs their square.
const MAX_BASE58_LEN: usize = 90;

/// Which keys a type of method holds.
#[derive(Clone, Copy)]
enum Holds {
    /// The key itself says what it is.
    Any,
    Only(KeyType),
}

/// The types of the DID specification registries whose keys can sign for us.
fn known(kind: &str) -> Option<Holds> {
    match kind {
        "Multikey" | "JsonWebKey" | "JsonWebKey2020" => Some(Holds::Any),
        "Ed25519VerificationKey2018" | "Ed25519VerificationKey2020" => {
            Some(Holds::Only(KeyType::Ed25519))
        }
        "EcdsaSecp256k1VerificationKey2019" => Some(Holds::Only(KeyType::Secp256k1)),
        "EcdsaSecp256r1VerificationKey2019" => Some(Holds::Only(KeyType::P256)),
        _ => None,
    }
}

/// Why a method's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("a verification method of its type is not supported")]
    Type,
    #[error("it has no key")]
    NoKey,
    #[error("it publishes its private key")]
    Private,
    #[error("it has both {0} and {1}")]
    TwoForms(&'static str, &'static str),
    #[error("its {0} is of the wrong JSON type")]
    JsonType(&'static str),
    #[error("its {0} does not say of what type the key is, and neither does the method's type")]
    NoKeyType(&'static str),
    #[error("its {0} cannot be decoded")]
    Encoding(&'static str),
    #[error("a method of its type holds no {0} key")]
    WrongKeyType(KeyType),
    #[error(transparent)]
    Jwk(#[from] InvalidJwk),
    #[error(transparent)]
    Multikey(#[from] InvalidMultikey),
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

/// A key as a method has it, not yet read.
pub(super) struct Material<'a> {
    holds: Holds,
    form: &'static str,
    value: &'a Value,
}

/// Where a method has its key.
pub(super) fn find(method: &Map<String, Value>) -> Result<Material<'_>, Unusable> {
    let kind = method.get("type").and_then(Value::as_str).unwrap_or_default();
    let holds = known(kind).ok_or(Unusable::Type)?;
    if method.keys().any(|name| name.starts_with("privateKey") || name.starts_with("secretKey")) {
        return Err(Unusable::Private);
    }
    let mut forms = [MULTIBASE, JWK, BASE58, HEX]
        .into_iter()
        .filter_map(|form| method.get(form).map(|value| (form, value)));
    let (form, value) = forms.next().ok_or(Unusable::NoKey)?;
    match forms.next() {
        Some((other, _)) => Err(Unusable::TwoForms(form, other)),
        None => Ok(Material { holds, form, value }),
    }
}

impl Material<'_> {
    pub(super) fn read(&self) -> Result<PublicKey, Unusable> {
        let Self { holds, form, value } = *self;
        let key = match (form, value, holds) {
            (JWK, Value::Object(jwk), _) => jwk::read(jwk)?,
            (MULTIBASE, Value::String(text), _) => PublicKey::from_multikey(text)?,
            (BASE58 | HEX, Value::String(_), Holds::Any) => return Err(Unusable::NoKeyType(form)),
            (BASE58 | HEX, Value::String(text), Holds::Only(key_type)) => {
                raw(form, text, key_type)?
            }
            _ => return Err(Unusable::JsonType(form)),
        };
        match holds {
            Holds::Only(key_type) if key.key_type() != key_type => {
                Err(Unusable::WrongKeyType(key.key_type()))
            }
            _ => Ok(key),
        }
    }
}

fn raw(form: &'static str, text: &str, key_type: KeyType) -> Result<PublicKey, Unusable> {
    let bytes = match form {
        BASE58 if text.len() > MAX_BASE58_LEN => None,
        BASE58 => bs58::decode(text).into_vec().ok(),
        _ => base16ct::mixed::decode_vec(text).ok(),
    };
    let bytes = bytes.ok_or(Unusable::Encoding(form))?;
    Ok(match key_type {
        KeyType::Ed25519 => PublicKey::new(key_type, &bytes)?,
        KeyType::Secp256k1 | KeyType::P256 => PublicKey::from_sec1(key_type, &bytes)?,
    })
}
