//! did:sage: agents in an AgentCardRegistry contract on Ethereum.

use std::time::Duration;

use super::{InvalidResolver, Resolution, Unreachable};
use crate::config;
use crate::domain::Did;

/// The method's name.
pub(super) const METHOD: &str = "sage";

pub(super) struct Registry {
    ttl: Duration,
}

impl Registry {
    pub(super) fn new(config: &config::Registry) -> Result<Self, InvalidResolver> {
        Ok(Self { ttl: config.ttl })
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) async fn resolve(&self, did: &Did) -> Result<Resolution, Unreachable> {
        Err(Unreachable(format!("{did} cannot be read yet")))
    }
}
