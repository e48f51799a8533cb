//! `[resolvers.universal]`: a Universal Resolver, for the methods that nothing else here reads.

use std::time::Duration;

use crate::config::reader::Reader;

/// `[resolvers.universal]`.
#[derive(Debug, Clone)]
pub struct Universal {
    pub enabled: bool,
    pub ttl: Duration,
    pub timeout: Duration,
}

impl Universal {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            enabled: reader.boolean("resolvers.universal.enabled", false),
            ttl: reader.seconds("resolvers.universal.ttl_seconds", 300, 1..=86_400),
            timeout: reader.seconds("resolvers.universal.timeout_seconds", 10, 1..=60),
        }
    }
}
