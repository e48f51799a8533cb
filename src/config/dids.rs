//! `[dids]`: the cache of keys.

use std::time::Duration;

use super::reader::Reader;

/// `[dids]`.
#[derive(Debug, Clone)]
pub struct Dids {
    pub cache_entries: u64,
    pub cache_ttl: Duration,
    pub negative_ttl: Duration,
}

impl Dids {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            cache_entries: reader.number("dids.cache_entries", 100_000, 0..=10_000_000),
            cache_ttl: reader.seconds("dids.cache_ttl_seconds", 5, 1..=300),
            negative_ttl: reader.seconds("dids.negative_ttl_seconds", 5, 1..=300),
        }
    }
}
