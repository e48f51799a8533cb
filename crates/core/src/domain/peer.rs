//! On whose account a request is served: what strangers may cost is counted per peer.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use uuid::Uuid;

/// A network that requests come from, or the holder of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// One IPv4 address, or the /64 of an IPv6 address: a host may take any address of its own.
    Network(IpAddr),
    /// Who holds the token with this id, from wherever the request comes.
    Holder(Uuid),
}

impl Peer {
    /// The peer that has this address. An IPv4 address mapped into IPv6 is the IPv4 address.
    #[inline]
    #[must_use]
    pub const fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::Network(IpAddr::V4(address)),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Network(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address @ IpAddr::V4(_)) => address.fmt(f),
            Self::Network(network) => write!(f, "{network}/64"),
            Self::Holder(id) => write!(f, "token {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        Peer::of_address(text.parse().expect("an address")).to_string()
    }

    #[test]
    fn a_host_is_one_peer_however_many_addresses_it_takes() {
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(of("2001:db8:1:2::9"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:3::9"), of("2001:db8:1:2::9"));
    }
}
