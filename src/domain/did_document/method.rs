//! The key of a verification method, by the method's type and the form the key is written in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::domain::{InvalidKey, InvalidMultikey, KeyType, PublicKey};

/// The forms a key is written in; a method has one of them.
const MULTIBASE: &str = "publicKeyMultibase";
const JWK: &str = "publicKeyJwk";
const BASE58: &str = "publicKeyBase58";
const HEX: &str = "publicKeyHex";

/// More characters than an uncompressed point takes; decoding base58 costs their square.
const MAX_BASE58_LEN: usize = 90;

/// Which keys a type of method holds.
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

/// What is wrong with a key that this service could use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it publishes its private key")]
    Private,
    #[error("it has both {0} and {1}")]
    TwoForms(&'static str, &'static str),
    #[error("its {0} is of the wrong JSON type")]
    JsonType(&'static str),
    #[error("its {0} cannot be decoded")]
    Encoding(&'static str),
    #[error("its publicKeyJwk has no kty")]
    NoKty,
    #[error("a coordinate of its publicKeyJwk is not 32 bytes in base64url")]
    Coordinate,
    #[error("a method of its type holds no {0} key")]
    WrongKeyType(KeyType),
    #[error(transparent)]
    Multikey(#[from] InvalidMultikey),
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

/// The key of a method of type `kind`; `None` when this service cannot use it: its type or curve
/// is another, or there is no key in it but, say, a blockchain account.
pub(super) fn key(kind: &str, method: &Map<String, Value>) -> Result<Option<PublicKey>, Malformed> {
    let Some(holds) = known(kind) else { return Ok(None) };
    if method.keys().any(|name| name.starts_with("privateKey") || name.starts_with("secretKey")) {
        return Err(Malformed::Private);
    }
    let mut forms = [MULTIBASE, JWK, BASE58, HEX]
        .into_iter()
        .filter_map(|form| method.get(form).map(|value| (form, value)));
    let Some((form, value)) = forms.next() else { return Ok(None) };
    if let Some((other, _)) = forms.next() {
        return Err(Malformed::TwoForms(form, other));
    }
    let key = match (form, value, &holds) {
        (JWK, Value::Object(jwk), _) => from_jwk(jwk)?,
        (MULTIBASE, Value::String(text), holds) => match (PublicKey::from_multikey(text), holds) {
            (Err(InvalidMultikey::KeyType), Holds::Any) => None,
            (key, _) => Some(key?),
        },
        // Raw bytes do not say what they are.
        (BASE58 | HEX, Value::String(_), Holds::Any) => None,
        (BASE58 | HEX, Value::String(text), Holds::Only(key_type)) => {
            let bytes = match form {
                BASE58 if text.len() > MAX_BASE58_LEN => None,
                BASE58 => bs58::decode(text).into_vec().ok(),
                _ => base16ct::mixed::decode_vec(text).ok(),
            };
            let bytes = bytes.ok_or(Malformed::Encoding(form))?;
            Some(match key_type {
                KeyType::Ed25519 => PublicKey::new(*key_type, &bytes)?,
                KeyType::Secp256k1 | KeyType::P256 => PublicKey::from_sec1(*key_type, &bytes)?,
            })
        }
        _ => return Err(Malformed::JsonType(form)),
    };
    match (&key, holds) {
        (Some(key), Holds::Only(key_type)) if key.key_type() != key_type => {
            Err(Malformed::WrongKeyType(key.key_type()))
        }
        _ => Ok(key),
    }
}

/// RFC 7517, with the curves of RFC 7518 (section 6.2), RFC 8037 and RFC 8812.
fn from_jwk(jwk: &Map<String, Value>) -> Result<Option<PublicKey>, Malformed> {
    if jwk.contains_key("d") {
        return Err(Malformed::Private);
    }
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let curve = match (text("kty").ok_or(Malformed::NoKty)?, text("crv")) {
        ("OKP", Some("Ed25519")) => KeyType::Ed25519,
        ("EC", Some("secp256k1")) => KeyType::Secp256k1,
        ("EC", Some("P-256")) => KeyType::P256,
        _ => return Ok(None),
    };
    let x = coordinate(text("x"))?;
    Ok(Some(match curve {
        KeyType::Ed25519 => PublicKey::new(curve, &x)?,
        KeyType::Secp256k1 | KeyType::P256 => {
            let y = coordinate(text("y"))?;
            PublicKey::from_sec1(curve, &[[4].as_slice(), &x, &y].concat())?
        }
    }))
}

fn coordinate(text: Option<&str>) -> Result<[u8; 32], Malformed> {
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Malformed::Coordinate)
}
