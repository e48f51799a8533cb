//! Keys as JWKs (RFC 7517), with the curves of RFC 7518 (section 6.2), RFC 8037 and RFC 8812. A
//! JWK that says that it is not for verifying signatures never does.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::domain::{InvalidKey, KeyType, PublicKey};

/// The members of private and symmetric keys (RFC 7518, sections 6.2.2, 6.3.2 and 6.4).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Why a JWK is no key to verify with.
#[derive(Debug, thiserror::Error)]
pub(super) enum InvalidJwk {
    #[error("its publicKeyJwk publishes the private key")]
    Private,
    #[error(
        "its publicKeyJwk is none of kty OKP with crv Ed25519, and kty EC with crv secp256k1 or P-256"
    )]
    KeyType,
    #[error("the use of its publicKeyJwk is not sig")]
    Use,
    #[error("the key_ops of its publicKeyJwk are no list of different operations with verify")]
    Operations,
    #[error("the key_ops of its publicKeyJwk contradict its use")]
    Contradiction,
    #[error("the alg of its publicKeyJwk is not for a key of type {0}")]
    Algorithm(KeyType),
    #[error("a coordinate of its publicKeyJwk is not 32 bytes in base64url")]
    Coordinate,
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

/// The key, if it is one of ours and may verify signatures.
pub(super) fn read(jwk: &Map<String, Value>) -> Result<PublicKey, InvalidJwk> {
    if PRIVATE.iter().any(|&name| jwk.contains_key(name)) {
        return Err(InvalidJwk::Private);
    }
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let key_type = match (text("kty"), text("crv")) {
        (Some("OKP"), Some("Ed25519")) => KeyType::Ed25519,
        (Some("EC"), Some("secp256k1")) => KeyType::Secp256k1,
        (Some("EC"), Some("P-256")) => KeyType::P256,
        _ => return Err(InvalidJwk::KeyType),
    };
    may_verify(jwk, key_type)?;
    let x = coordinate(text("x"))?;
    Ok(match key_type {
        KeyType::Ed25519 => PublicKey::new(key_type, &x)?,
        KeyType::Secp256k1 | KeyType::P256 => {
            let y = coordinate(text("y"))?;
            PublicKey::from_sec1(key_type, &[[4].as_slice(), &x, &y].concat())?
        }
    })
}

/// What a JWK may say of its use (RFC 7517, sections 4.2 to 4.4). What it does not say is free.
fn may_verify(jwk: &Map<String, Value>, key_type: KeyType) -> Result<(), InvalidJwk> {
    let usage = jwk.get("use");
    if usage.is_some_and(|usage| usage != "sig") {
        return Err(InvalidJwk::Use);
    }
    if let Some(operations) = jwk.get("key_ops") {
        let list = operations.as_array().ok_or(InvalidJwk::Operations)?;
        let operations: HashSet<&str> = list.iter().filter_map(Value::as_str).collect();
        if operations.len() != list.len() || !operations.contains("verify") {
            return Err(InvalidJwk::Operations);
        }
        let is_of_signatures = |operation: &&str| matches!(*operation, "sign" | "verify");
        if usage.is_some() && !operations.iter().all(is_of_signatures) {
            return Err(InvalidJwk::Contradiction);
        }
    }
    let algorithms: &[&str] = match key_type {
        // RFC 8037, and RFC 9864, which names the curve.
        KeyType::Ed25519 => &["EdDSA", "Ed25519"],
        KeyType::Secp256k1 => &["ES256K"],
        KeyType::P256 => &["ES256"],
    };
    match jwk.get("alg") {
        Some(alg) if !algorithms.iter().any(|allowed| alg == allowed) => {
            Err(InvalidJwk::Algorithm(key_type))
        }
        _ => Ok(()),
    }
}

/// All 32 bytes, leading zeros included, without padding: each key has one JWK.
fn coordinate(text: Option<&str>) -> Result<[u8; 32], InvalidJwk> {
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(InvalidJwk::Coordinate)
}
