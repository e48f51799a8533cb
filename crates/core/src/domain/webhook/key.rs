//! The keys that deliveries are signed with, as Standard Webhooks has them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;
use zeroize::Zeroizing;

words! {
    /// How deliveries are signed.
    WebhookSignature {
        /// HMAC-SHA256, with a secret that both sides have.
        V1 = "v1",
        /// Ed25519: the receiver has the public key.
        V1a = "v1a",
    }
}

/// A secret as Standard Webhooks writes it, here of 32 bytes: `whsec_…` for HMAC-SHA256, `whsk_…` for
/// Ed25519 (RFC 8032's private key). `Debug` hides it.
#[derive(Clone)]
pub struct WebhookSecret {
    pub signature: WebhookSignature,
    pub bytes: Zeroizing<[u8; WebhookKey::LEN]>,
}

impl WebhookSecret {
    /// `None` if the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, encoded) = text.split_once('_')?;
        let signature = match prefix {
            "whsec" => WebhookSignature::V1,
            "whsk" => WebhookSignature::V1a,
            _ => return None,
        };
        let bytes = Zeroizing::new(STANDARD.decode(encoded).ok()?);
        Some(Self { signature, bytes: Zeroizing::new(bytes.as_slice().try_into().ok()?) })
    }
}

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// Signs deliveries. It has no `Debug`.
pub enum WebhookKey {
    Hmac(Zeroizing<[u8; Self::LEN]>),
    Ed25519(Box<SigningKey>),
}

impl WebhookKey {
    /// The bytes of a secret.
    pub const LEN: usize = 32;

    /// The key whose secret is these bytes.
    #[must_use]
    pub fn new(signature: WebhookSignature, secret: &[u8; Self::LEN]) -> Self {
        match signature {
            WebhookSignature::V1 => Self::Hmac(Zeroizing::new(*secret)),
            WebhookSignature::V1a => Self::Ed25519(Box::new(SigningKey::from_bytes(secret))),
        }
    }

    /// What the receiver verifies with: the secret itself, or the public key.
    #[must_use]
    pub fn for_receiver(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Self::Hmac(secret) => format!("whsec_{}", STANDARD.encode(**secret)),
            Self::Ed25519(key) => format!("whpk_{}", STANDARD.encode(key.verifying_key())),
        })
    }

    /// The value of `webhook-signature`. `timestamp` is in seconds since 1970.
    #[must_use]
    pub fn sign(&self, id: Uuid, timestamp: i64, body: &[u8]) -> String {
        let mut signed = format!("{id}.{timestamp}.").into_bytes();
        signed.extend_from_slice(body);
        match self {
            Self::Hmac(secret) => {
                // A key of any length is one.
                let mac =
                    Hmac::<Sha256>::new_from_slice(&**secret).map(|mac| mac.chain_update(&signed));
                let tag = mac.map(|mac| mac.finalize().into_bytes()).unwrap_or_default();
                format!("v1,{}", STANDARD.encode(tag))
            }
            Self::Ed25519(key) => format!("v1a,{}", STANDARD.encode(key.sign(&signed).to_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, VerifyingKey};

    use super::*;

    const ID: &str = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";

    #[test]
    fn a_secrets_prefix_says_how_it_signs() {
        let bytes = STANDARD.encode([7; 32]);
        for (prefix, signature) in
            [("whsec_", WebhookSignature::V1), ("whsk_", WebhookSignature::V1a)]
        {
            let secret = WebhookSecret::parse(&format!("{prefix}{bytes}")).unwrap();
            assert_eq!((secret.signature, *secret.bytes), (signature, [7; 32]));
            assert!(!format!("{secret:?}").contains("7, 7"));
        }
        for other in [format!("whpk_{bytes}"), bytes, "whsk_BwcHBw==".to_owned()] {
            assert!(WebhookSecret::parse(&other).is_none(), "{other}");
        }
    }

    /// Computed by Python's `hmac`.
    #[test]
    fn v1_is_hmac_sha256_of_id_timestamp_and_body() {
        let key = WebhookKey::new(WebhookSignature::V1, &[7; 32]);
        assert_eq!(
            key.for_receiver().as_str(),
            "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="
        );
        let signed = key.sign(ID.parse().unwrap(), 1_767_323_045, br#"{"type":"a"}"#);
        assert_eq!(signed, "v1,xideJ9eEF9zzcUqMvgcSZUJfOq3xuCkOhl6YszwKsAY=");
    }

    #[test]
    fn v1a_is_verified_with_the_public_key() {
        let key = WebhookKey::new(WebhookSignature::V1a, &[7; 32]);
        let public = key.for_receiver();
        let public = STANDARD.decode(public.strip_prefix("whpk_").unwrap()).unwrap();
        let public = VerifyingKey::from_bytes(&public.try_into().unwrap()).unwrap();
        let signed = key.sign(ID.parse().unwrap(), 5, b"{}");
        let signature = STANDARD.decode(signed.strip_prefix("v1a,").unwrap()).unwrap();
        let signature = Signature::from_slice(&signature).unwrap();
        let of = |text: String| public.verify_strict(text.as_bytes(), &signature).is_ok();
        assert!(of(format!("{ID}.5.{{}}")));
        assert!(!of(format!("{ID}.6.{{}}")));
    }
}
