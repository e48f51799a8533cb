//! `[sealing]`: the keys that seal session keys at rest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::reader::{Given, MASK, Reader, Show};

/// The command that makes a key.
const GENERATE: &str = "`onceguard sealing generate` makes one";

/// `[sealing]`: 32-byte keys. Without `key`, the file in the data folder is used, or made.
#[derive(Debug, Clone)]
pub struct Sealing {
    pub key: Option<SealingKeyBytes>,
    /// Keys that still open what they sealed, but seal nothing new.
    pub old_keys: Vec<SealingKeyBytes>,
}

/// 32 secret bytes, zeroed on drop and hidden from `Debug`.
#[derive(Clone)]
pub struct SealingKeyBytes(pub Zeroizing<[u8; 32]>);

impl SealingKeyBytes {
    /// Reads the base64 form; `None` unless it is padded base64 of 32 bytes.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
        Some(Self(Zeroizing::new(bytes.as_slice().try_into().ok()?)))
    }
}

impl std::fmt::Debug for SealingKeyBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKeyBytes(…)")
    }
}

impl Sealing {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let one = |given: &Given| {
            given
                .text()
                .and_then(SealingKeyBytes::from_base64)
                .ok_or_else(|| format!("must be 32 bytes in base64; {GENERATE}"))
        };
        let many = |given: &Given| {
            given
                .texts()
                .and_then(|texts| texts.into_iter().map(SealingKeyBytes::from_base64).collect())
                .ok_or_else(|| "must be a list of keys, each 32 bytes in base64".to_owned())
        };
        let masked = |keys: &Vec<SealingKeyBytes>| vec![MASK; keys.len()].into();
        let key = reader.optional("sealing.key", Show::Secret, one, |_| MASK.into());
        let old_keys = reader.optional("sealing.old_keys", Show::Secret, many, masked);
        Self { key, old_keys: old_keys.unwrap_or_default() }
    }

    /// Instances that share a database must share the key, so no instance may make its own.
    pub(super) fn require_key(&self, reader: &mut Reader) {
        if self.key.is_none() {
            reader.refuse(
                "sealing.key",
                format!(
                    "is required on PostgreSQL, because all instances share it; {GENERATE}; \
                     set it as ONCEGUARD_SEALING__KEY"
                ),
            );
        }
    }
}
