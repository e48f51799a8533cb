//! `[records]`: what owners of sealed records may have, and how long deletions are remembered.

use std::time::Duration;

use super::reader::Reader;

/// `[records]`.
#[derive(Debug, Clone)]
pub struct Records {
    /// Of one owner, tombstones included.
    pub max_records: u64,
    /// Of the ciphertexts of one owner.
    pub max_bytes: u64,
    /// The same, of all owners together whose first record an agent wrote.
    pub agents_max_records: u64,
    pub agents_max_bytes: u64,
    /// How long a reader of the feed may be away.
    pub tombstone_retention: Duration,
}

impl Records {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let (most, most_bytes) = (1_000_000_000, 1_000_000_000_000_000);
        Self {
            max_records: reader.number("records.max_records", 10_000, 1..=most),
            max_bytes: reader.number("records.max_bytes", 104_857_600, 1..=most_bytes),
            agents_max_records: reader.number("records.agents_max_records", 1_000_000, 0..=most),
            agents_max_bytes: reader.number(
                "records.agents_max_bytes",
                1_073_741_824,
                0..=most_bytes,
            ),
            tombstone_retention: reader.days("records.tombstone_retention_days", 180, 7..=3650),
        }
    }
}
