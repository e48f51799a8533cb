//! Public keys as one text: Multikey (W3C Controlled Identifiers 1.0, section 2.2.2), which is
//! the multicodec number of the key's type and the raw key, in multibase.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{InvalidKey, KeyType, PublicKey};

/// More characters than any key takes but RSA's; decoding base58 costs their square.
const MAX_LEN: usize = 220;

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

/// Public keys of other types: the multicodec prefix, the name, and the length in bytes where it
/// is fixed. Such a key is well-formed; nothing signs with it here.
const UNSUPPORTED: [(&[u8], &str, Option<usize>); 12] = [
    (&X25519, "X25519", Some(32)),
    (&[0xea, 0x01], "BLS12-381 G1", Some(48)),
    (&[0xeb, 0x01], "BLS12-381 G2", Some(96)),
    (&[0xee, 0x01], "BLS12-381 G1 and G2", Some(144)),
    (&[0xef, 0x01], "Sr25519", Some(32)),
    (&[0x81, 0x24], "P-384", Some(49)),
    (&[0x82, 0x24], "P-521", Some(67)),
    (&[0x83, 0x24], "Ed448", Some(57)),
    (&[0x84, 0x24], "X448", Some(56)),
    (&[0x85, 0x24], RSA, None),
    (&[0x86, 0x24], "SM2", Some(33)),
    (&[0xd1, 0xd6, 0x03], "JWK (jwk_jcs-pub)", None),
];

const RSA: &str = "RSA";

/// How RSA keys of 2048 and 4096 bits begin in base58btc (did:key method, "RSA").
const RSA_BEGINS: [&str; 2] = ["z4MX", "zgg"];

/// The text is not a usable key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMultikey {
    #[error("the key is not `z` followed by base58btc, or `u` followed by base64url (multibase)")]
    Multibase,
    #[error("the key is of no known type (multicodec)")]
    Codec,
    #[error("{0} keys are not supported: a key that signs is Ed25519, Secp256k1 or P256")]
    Unsupported(&'static str),
    #[error("the {0} key has a wrong number of bytes")]
    Length(&'static str),
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

impl PublicKey {
    /// # Errors
    /// [`InvalidMultikey`] when the text is malformed, of another type, or its key may not be
    /// used.
    pub fn from_multikey(text: &str) -> Result<Self, InvalidMultikey> {
        if text.len() > MAX_LEN {
            return Err(of_long(text));
        }
        let bytes = if let Some(base58) = text.strip_prefix('z') {
            bs58::decode(base58).into_vec().ok()
        } else if let Some(base64) = text.strip_prefix('u') {
            URL_SAFE_NO_PAD.decode(base64).ok()
        } else {
            None
        };
        let bytes = bytes.ok_or(InvalidMultikey::Multibase)?;
        for key_type in KeyType::ALL {
            if let Some(raw) = bytes.strip_prefix(&codec(key_type)) {
                return Ok(Self::new(key_type, raw)?);
            }
        }
        Err(of_other_type(&bytes))
    }

    /// The key as Multikey, in base58btc.
    #[must_use]
    pub fn to_multikey(&self) -> String {
        base58(codec(self.key_type()), self.as_bytes())
    }
}

/// What is wrong with a key of none of our types.
fn of_other_type(bytes: &[u8]) -> InvalidMultikey {
    for (prefix, name, length) in UNSUPPORTED {
        if let Some(raw) = bytes.strip_prefix(prefix) {
            return match length {
                Some(length) if raw.len() != length => InvalidMultikey::Length(name),
                _ => InvalidMultikey::Unsupported(name),
            };
        }
    }
    InvalidMultikey::Codec
}

/// What is wrong with a text that is too long to be decoded.
fn of_long(text: &str) -> InvalidMultikey {
    let is_base58 = |byte: u8| byte.is_ascii_alphanumeric() && !b"0OIl".contains(&byte);
    if RSA_BEGINS.iter().any(|begin| text.starts_with(begin)) && text.bytes().all(is_base58) {
        InvalidMultikey::Unsupported(RSA)
    } else {
        InvalidMultikey::Codec
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

    /// From the vectors of did:key.
    #[test]
    fn keys_that_sign_nothing_here_are_known_by_their_type() {
        let rsa_2048 = format!("z4MX{}", "2".repeat(368));
        let rsa_4096 = format!("zgg{}", "2".repeat(717));
        for (text, name) in [
            ("z6LSeu9HkTHSfLLeUs2nnzUSNedgDUevfNQgQjQC23ZCit6F", "X25519"),
            ("z82Lm1MpAkeJcix9K8TMiLd5NMAhnwkjjCBeWHXyu3U4oT2MVJJKXkcVBgjGhnLBn2Kaau9", "P-384"),
            (
                "z2J9gaYxrKVpdoG9A4gRnmpnRCcxU6agDtFVVBVdn1JedouoZN7SzcyREXXzWgt3gGiwpoHq7K68X4m32D8HgzG8wv3sY5j7",
                "P-521",
            ),
            (
                "zUC7K4ndUaGZgV7Cp2yJy6JtMoUHY6u7tkcSYUvPrEidqBmLCTLmi6d5WvwnUqejscAkERJ3bfjEiSYtdPkRSE8kSa11hFBr4sTgnbZ95SJj19PN2jdvJjyzpSZgxkyyxNnBNnY",
                "BLS12-381 G2",
            ),
            (&rsa_2048, RSA),
            (&rsa_4096, RSA),
        ] {
            let refused = PublicKey::from_multikey(text);
            assert_eq!(refused, Err(InvalidMultikey::Unsupported(name)), "{text}");
        }
        for (prefix, name, length) in UNSUPPORTED {
            let text = |length: usize| {
                format!("z{}", bs58::encode([prefix, &vec![9; length]].concat()).into_string())
            };
            let refused = PublicKey::from_multikey(&text(length.unwrap_or(90)));
            assert_eq!(refused, Err(InvalidMultikey::Unsupported(name)), "{name}");
            if let Some(length) = length {
                let refused = PublicKey::from_multikey(&text(length - 1));
                assert_eq!(refused, Err(InvalidMultikey::Length(name)), "{name}");
            }
        }
        for text in [rsa_2048.replace("MX2", "MX0"), rsa_2048.replace("4MX", "4NX")] {
            assert_eq!(PublicKey::from_multikey(&text), Err(InvalidMultikey::Codec), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_usable_key() {
        let refused = |text: &str| PublicKey::from_multikey(text).expect_err(text);
        for text in ["", "abc", "z0OIl", "u=", "uab+/", "u7QE=", "f00", "Z6Mk", "zé"] {
            assert_eq!(refused(text), InvalidMultikey::Multibase, "{text:?}");
        }
        for bytes in [
            &[][..],
            &[0xed],
            &[0xed, 0x02],
            // SHA-256, and a varint that is longer than it must be (Ed25519).
            &[[0x12, 0x20].as_slice(), &[9; 32]].concat(),
            &[[0xed, 0x81, 0x00].as_slice(), &[9; 32]].concat(),
        ] {
            let text = format!("z{}", bs58::encode(bytes).into_string());
            assert_eq!(refused(&text), InvalidMultikey::Codec, "{text:?}");
        }
        assert_eq!(refused("u"), InvalidMultikey::Codec);
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
