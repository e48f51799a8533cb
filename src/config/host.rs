//! Names of hosts, as the configuration and the `Host` header have them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A name or an address, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Address(IpAddr),
    /// In lower case.
    Name(String),
}

impl Host {
    /// Reads a host; an IPv6 address may be in brackets.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().ok().map(|address| Self::Address(address.into()));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let is_name = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        is_name.then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        let address = |text: &str| Some(Host::Address(text.parse().unwrap()));
        for (text, host) in [
            ("Guard.Example", Some(Host::Name("guard.example".into()))),
            ("127.0.0.1", address("127.0.0.1")),
            ("::1", address("::1")),
            ("[0:0::1]", address("::1")),
            ("", None),
            ("guard.example:8080", None),
            ("[127.0.0.1]", None),
            ("[::1]:80", None),
            ("https://guard.example", None),
            ("a b", None),
        ] {
            assert_eq!(Host::parse(text), host, "{text:?}");
        }
    }
}
