//! Every other method, through a Universal Resolver (W3C DID Resolution HTTP(S) binding).

use std::time::Duration;

use super::{InvalidResolver, Resolution, Unreachable};
use crate::config;
use crate::domain::Did;

pub(super) struct Universal {
    ttl: Duration,
}

impl Universal {
    pub(super) fn new(config: &config::Universal) -> Result<Self, InvalidResolver> {
        Ok(Self { ttl: config.ttl })
    }

    pub(super) fn reads(&self, _method: &str) -> bool {
        true
    }

    pub(super) fn ttl(&self, _method: &str) -> Duration {
        self.ttl
    }

    pub(super) async fn resolve(&self, did: &Did) -> Result<Resolution, Unreachable> {
        Err(Unreachable(format!("{did} cannot be read yet")))
    }
}
