//! `[backup]`: archives that the service makes by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::{Reader, Show};

/// `[backup]`.
#[derive(Debug, Clone)]
pub struct Backup {
    /// How often an archive is made; `None` for never.
    pub interval: Option<Duration>,
    /// Where archives are kept.
    pub folder: PathBuf,
    /// How many archives are kept there.
    pub keep: u32,
    /// Public keys of `age`. With any, archives are encrypted.
    pub recipients: Vec<String>,
}

impl Backup {
    pub(super) fn read(reader: &mut Reader, data_dir: &Path) -> Self {
        let hours: u32 = reader.number("backup.interval_hours", 0, 0..=8760);
        Self {
            interval: (hours > 0).then(|| Duration::from_hours(hours.into())),
            folder: reader.path("backup.folder", data_dir.join("backups")),
            keep: reader.number("backup.keep", 7, 1..=10_000),
            recipients: reader.value(
                "backup.recipients",
                Show::Plain,
                Vec::new(),
                |given| {
                    let texts = given.texts().ok_or("must be a list of public keys of age")?;
                    let keys = texts.into_iter().filter(|text| !text.is_empty());
                    keys.map(parse_recipient).collect()
                },
                |keys| keys.clone().into(),
            ),
        }
    }
}

/// A public key of `age`: one of its own, or one of SSH.
///
/// # Errors
/// What it must be, without repeating it: it may be a secret key.
pub fn parse_recipient(text: &str) -> Result<String, String> {
    if ["age1", "ssh-ed25519 ", "ssh-rsa "].iter().any(|kind| text.starts_with(kind)) {
        Ok(text.to_owned())
    } else if text.starts_with("AGE-SECRET-KEY-") {
        Err("is a secret key, which has no place on a server: give the public one (age1…), and \
             consider the secret one lost"
            .to_owned())
    } else {
        Err("must be public keys of age: age1…, ssh-ed25519 … or ssh-rsa …".to_owned())
    }
}
