//! `[dids]`: what is kept about DIDs, and for how long.

use std::time::Duration;

use super::reader::Reader;

/// `[dids]`.
#[derive(Debug, Clone)]
pub struct Dids {
    pub cache_entries: u64,
    pub cache_bytes: u64,
    /// Memory for DIDs of which nothing is stored yet, in bytes.
    pub new_bytes: u64,
    pub cache_ttl: Duration,
    pub negative_ttl: Duration,
    /// How long a key may still sign after its time is over, while its home cannot be reached.
    pub max_stale: Duration,
    /// The least time between two forced reads of one DID.
    pub refresh_interval: Duration,
    /// How long a resolved DID is kept after the last call that asked for it.
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
