//! `[resolvers.web]`: did:web.

use std::time::Duration;

use crate::config::reader::Reader;

/// `[resolvers.web]`.
#[derive(Debug, Clone)]
pub struct Web {
    pub enabled: bool,
    pub ttl: Duration,
    pub timeout: Duration,
}

impl Web {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            enabled: reader.boolean("resolvers.web.enabled", true),
            ttl: reader.seconds("resolvers.web.ttl_seconds", 300, 1..=86_400),
            timeout: reader.seconds("resolvers.web.timeout_seconds", 5, 1..=60),
        }
    }
}
