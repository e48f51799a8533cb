//! `[dids]`: what is known of DIDs, and for how long.

use std::time::Duration;

use super::reader::Reader;

/// `[dids]`.
#[derive(Debug, Clone)]
pub struct Dids {
    pub cache_entries: u64,
    pub cache_bytes: u64,
    /// What DIDs take in memory of which nothing is stored yet, in bytes.
    pub new_bytes: u64,
    pub cache_ttl: Duration,
    pub negative_ttl: Duration,
    /// For how long after its time a key may still sign while its home cannot be asked.
    pub max_stale: Duration,
    /// The least time between two reads of one DID that callers force.
    pub refresh_interval: Duration,
    /// For how long a resolved DID that nobody asks for is kept.
    pub unused_retention: Duration,
}

impl Dids {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            cache_entries: reader.number("dids.cache_entries", 100_000, 1..=10_000_000),
            cache_bytes: reader.number("dids.cache_bytes", 268_435_456, 1_048_576..=u64::MAX / 2),
            new_bytes: reader.number("dids.new_bytes", 16_777_216, 1_048_576..=u64::MAX / 2),
            cache_ttl: reader.seconds("dids.cache_ttl_seconds", 300, 1..=86_400),
            negative_ttl: reader.seconds("dids.negative_ttl_seconds", 30, 1..=300),
            max_stale: reader.seconds("dids.max_stale_seconds", 0, 0..=86_400),
            refresh_interval: reader.seconds("dids.refresh_interval_seconds", 1, 1..=3600),
            unused_retention: reader.days("dids.unused_retention_days", 7, 2..=3650),
        }
    }
}
