//! `[backup]`: archives that the service makes by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Reader;

/// `[backup]`.
#[derive(Debug, Clone)]
pub struct Backup {
    /// How often an archive is made; `None` for never.
    pub interval: Option<Duration>,
    /// Where archives are kept.
    pub folder: PathBuf,
    /// How many archives are kept there.
    pub keep: u32,
}

impl Backup {
    pub(super) fn read(reader: &mut Reader, data_dir: &Path) -> Self {
        let hours: u32 = reader.number("backup.interval_hours", 0, 0..=8760);
        Self {
            interval: (hours > 0).then(|| Duration::from_hours(hours.into())),
            folder: reader.path("backup.folder", data_dir.join("backups")),
            keep: reader.number("backup.keep", 7, 1..=10_000),
        }
    }
}
