//! `[resolvers.registry]`: the AgentCardRegistry on Ethereum, for did:sage.

use std::time::Duration;

use crate::config::reader::Reader;

/// `[resolvers.registry]`.
#[derive(Debug, Clone)]
pub struct Registry {
    pub enabled: bool,
    pub ttl: Duration,
    pub timeout: Duration,
}

impl Registry {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            enabled: reader.boolean("resolvers.registry.enabled", false),
            ttl: reader.seconds("resolvers.registry.ttl_seconds", 15, 1..=86_400),
            timeout: reader.seconds("resolvers.registry.timeout_seconds", 5, 1..=60),
        }
    }
}
