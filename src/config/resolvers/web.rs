//! `[resolvers.web]`: did:web.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::config::host::Host;
use crate::config::reader::{Given, Reader, Show};

/// `[resolvers.web]`.
#[derive(Debug, Clone)]
pub struct Web {
    pub enabled: bool,
    pub ttl: Duration,
    /// The time-out of one whole reading.
    pub timeout: Duration,
    /// The only hosts that are asked. Empty means any host.
    pub allowed_hosts: Vec<Host>,
    /// A PEM file of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Also ask hosts with addresses that are not public, and hosts named by an IP address.
    pub allow_private_addresses: bool,
}

impl Web {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            enabled: reader.boolean("resolvers.web.enabled", true),
            ttl: reader.seconds("resolvers.web.ttl_seconds", 300, 1..=86_400),
            timeout: reader.seconds("resolvers.web.timeout_seconds", 5, 1..=60),
            allowed_hosts: read_hosts(reader),
            ca_file: reader.optional_path("resolvers.web.ca_file"),
            allow_private_addresses: reader.boolean("resolvers.web.allow_private_addresses", false),
        }
    }
}

fn read_hosts(reader: &mut Reader) -> Vec<Host> {
    let parse = |given: &Given| {
        given.texts().and_then(|texts| texts.into_iter().map(Host::parse).collect()).ok_or_else(
            || "must be a list of host names and IP addresses, without ports".to_owned(),
        )
    };
    let shown = |hosts: &Vec<Host>| hosts.iter().map(Host::to_string).collect::<Value>();
    reader.value("resolvers.web.allowed_hosts", Show::Plain, Vec::new(), parse, shown)
}
