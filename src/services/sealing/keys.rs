//! Where sealing keys come from: the configuration, or a file in the data folder.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::error::SealingError;
use crate::config;
use crate::config::SealingKeyBytes;
use crate::data_dir;
use crate::domain::HeadKey;

/// The file in the data folder: one base64 key a line; the first seals, the others only open.
pub const KEY_FILE: &str = "sealing.key";
/// What keys for signed heads are derived for.
const HEADS: &[u8] = b"onceguard/audit_heads/v1";

/// At least one key; the first seals.
#[derive(Debug, Clone)]
pub struct SealingKeys(Vec<SealingKeyBytes>);

impl SealingKeys {
    /// `None` when there is no key.
    #[must_use]
    pub fn new(keys: Vec<SealingKeyBytes>) -> Option<Self> {
        if keys.is_empty() { None } else { Some(Self(keys)) }
    }

    /// The configured keys, else those in the data folder, else (when `may_create`) a new one
    /// that it writes there.
    ///
    /// # Errors
    /// [`SealingError::Key`] when the file cannot be used, or there is no key to be had.
    pub fn load(
        config: &config::Sealing,
        folder: &Path,
        may_create: bool,
    ) -> Result<Self, SealingError> {
        if let Some(key) = &config.key {
            let old = config.old_keys.iter().cloned();
            return Ok(Self(std::iter::once(key.clone()).chain(old).collect()));
        }
        let path = folder.join(KEY_FILE);
        let failed = |what: String| SealingError::Key(format!("{}: {what}", path.display()));
        let text = data_dir::read_secret(&path).map_err(|e| SealingError::Key(e.to_string()))?;
        let mut keys = match text {
            Some(text) => parse_lines(&text).map_err(failed)?,
            None if may_create => {
                let key = generate_key()?;
                let line = Zeroizing::new(STANDARD.encode(*key.0));
                data_dir::write_secret(&path, &line)
                    .map_err(|error| SealingError::Key(error.to_string()))?;
                vec![key]
            }
            None => {
                return Err(failed(
                    "does not exist, and sealing.key is not set; put the database's key back"
                        .into(),
                ));
            }
        };
        keys.extend(config.old_keys.iter().cloned());
        Self::new(keys).ok_or_else(|| failed("holds no key".into()))
    }

    /// The keys for signed heads of the log, one from each sealing key; the first signs. All instances
    /// have the same.
    #[must_use]
    pub fn head_keys(&self) -> Vec<HeadKey> {
        let derive = |key: &SealingKeyBytes| {
            let mut secret = Zeroizing::new([0_u8; 32]);
            let derived = Hkdf::<Sha256>::new(None, &*key.0).expand(HEADS, &mut *secret);
            derived.ok().map(|()| HeadKey::new(&secret))
        };
        self.0.iter().filter_map(derive).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SealingKeyBytes> {
        self.0.iter()
    }
}

/// A new random key.
pub fn generate_key() -> Result<SealingKeyBytes, SealingError> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| SealingError::Key(format!("no random bytes: {error}")))?;
    Ok(SealingKeyBytes(bytes))
}

/// Lines that are empty or start with `#` are passed over.
fn parse_lines(text: &str) -> Result<Vec<SealingKeyBytes>, String> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            let wrong = || format!("line {} is not base64 of 32 bytes", index + 1);
            let bytes = Zeroizing::new(STANDARD.decode(line).map_err(|_| wrong())?);
            let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| wrong())?;
            Ok(SealingKeyBytes(Zeroizing::new(bytes)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_keys_and_mistakes_are_named_without_the_secret() {
        let line = STANDARD.encode([9_u8; 32]);
        assert_eq!(parse_lines(&format!("# new\n{line}\n\n{line}\n")).map(|k| k.len()), Ok(2));
        let error = parse_lines("AAAA").expect_err("too short");
        assert_eq!(error, "line 1 is not base64 of 32 bytes");
    }
}
