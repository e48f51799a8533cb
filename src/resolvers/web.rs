//! did:web (W3C CCG did:web method): the document is on the host that the DID names.

use std::time::Duration;

use super::{InvalidResolver, Resolution, Unreachable};
use crate::config;
use crate::domain::Did;

/// The method's name.
pub(super) const METHOD: &str = "web";

pub(super) struct Web {
    ttl: Duration,
}

impl Web {
    pub(super) fn new(config: &config::Web) -> Result<Self, InvalidResolver> {
        Ok(Self { ttl: config.ttl })
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) async fn resolve(&self, did: &Did) -> Result<Resolution, Unreachable> {
        Err(Unreachable(format!("{did} cannot be read yet")))
    }
}
