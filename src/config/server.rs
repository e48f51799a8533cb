//! `[server]`: the API listener.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;

use super::host::Host;
use super::reader::{Given, Reader, Show};
use crate::domain::Peer;
use crate::signatures::Target;

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    pub listen: SocketAddr,
    /// Threads that serve HTTP; 0 is one per processor.
    pub workers: usize,
    pub tls: Option<Tls>,
    /// The scheme and host that signed requests are for, instead of `Host`. Set behind a proxy.
    pub public_url: Option<PublicUrl>,
    /// The hosts that signed requests may be for. `None` means the bound address and `localhost`.
    pub allowed_hosts: Option<Vec<Host>>,
    /// Proxies whose `X-Forwarded-For` names the peer.
    pub trusted_proxies: Vec<IpNet>,
    /// Return session keys over a listener that is neither loopback nor TLS.
    pub allow_plaintext_keys: bool,
    /// How long a stop waits for requests in flight.
    pub shutdown_timeout: Duration,
}

/// Scheme and authority, verbatim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    pub scheme: &'static str,
    pub authority: String,
}

/// `[server.tls]`: PEM files.
#[derive(Debug, Clone)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Server {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.address("server.listen", SocketAddr::from(([127, 0, 0, 1], 8080))),
            workers: reader.number("server.workers", 0, 0..=1024),
            allow_plaintext_keys: reader.boolean("server.allow_plaintext_keys", false),
            shutdown_timeout: reader.seconds("server.shutdown_timeout_seconds", 30, 1..=3600),
            public_url: PublicUrl::read(reader),
            allowed_hosts: read_hosts(reader),
            trusted_proxies: read_networks(reader),
            tls: Tls::read(reader),
        }
    }
}

impl Server {
    /// Whether `X-Forwarded-For` counts on a connection from this address.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// The peer of a connection from this address. `None` for a trusted proxy's connection, which
    /// carries many peers.
    #[must_use]
    pub fn peer_of_connection(&self, address: IpAddr) -> Option<Peer> {
        let address = address.to_canonical();
        (!self.trusts(address)).then(|| Peer::of_address(address))
    }

    /// The defaults.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::read(&mut Reader::new(std::collections::BTreeMap::new(), Vec::new()))
    }
}

impl PublicUrl {
    fn read(reader: &mut Reader) -> Option<Self> {
        let parse = |given: &Given| {
            given.text().and_then(Self::parse).ok_or_else(|| {
                "must be http:// or https:// and a host, without a path, such as \
                 https://onceguard.example.com"
                    .to_owned()
            })
        };
        let shown = |url: &Self| format!("{}://{}", url.scheme, url.authority).into();
        reader.optional("server.public_url", Show::Plain, parse, shown)
    }

    fn parse(text: &str) -> Option<Self> {
        let target = Target::parse(text).ok()?;
        let is_root = target.path() == "/" && target.query().is_none();
        let authority = target.authority().to_owned();
        is_root.then(|| Self { scheme: target.scheme(), authority })
    }
}

fn read_hosts(reader: &mut Reader) -> Option<Vec<Host>> {
    let parse = |given: &Given| {
        let hosts = given.texts().and_then(|texts| texts.into_iter().map(Host::parse).collect());
        hosts.filter(|hosts: &Vec<Host>| !hosts.is_empty()).ok_or_else(|| {
            "must be a list of host names and IP addresses, without ports".to_owned()
        })
    };
    let shown = |hosts: &Vec<Host>| hosts.iter().map(Host::to_string).collect::<Value>();
    reader.optional("server.allowed_hosts", Show::Plain, parse, shown)
}

/// IP networks. A single address is a network, too.
fn read_networks(reader: &mut Reader) -> Vec<IpNet> {
    let network = |text: &str| match text.parse::<IpNet>() {
        Ok(network) => Some(network),
        Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    let parse = |given: &Given| match given.texts() {
        Some(texts) if texts == [""] => Ok(Vec::new()),
        texts => {
            texts.and_then(|texts| texts.into_iter().map(network).collect()).ok_or_else(|| {
                "must be a list of IP addresses and networks, such as 10.0.0.0/8".to_owned()
            })
        }
    };
    let shown = |networks: &Vec<IpNet>| networks.iter().map(IpNet::to_string).collect::<Value>();
    reader.value("server.trusted_proxies", Show::Plain, Vec::new(), parse, shown)
}

impl Tls {
    fn read(reader: &mut Reader) -> Option<Self> {
        let cert = reader.optional_path("server.tls.cert");
        let key = reader.optional_path("server.tls.key");
        match (cert, key) {
            (Some(cert), Some(key)) => Some(Self { cert, key }),
            (None, None) => None,
            (Some(_), None) => {
                reader.refuse("server.tls.key", "is missing: server.tls.cert needs its key");
                None
            }
            (None, Some(_)) => {
                reader
                    .refuse("server.tls.cert", "is missing: server.tls.key needs its certificate");
                None
            }
        }
    }
}
