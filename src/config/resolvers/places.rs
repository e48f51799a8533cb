//! `[resolvers.places]`: how many DIDs are read at the same time, and for whom.

use crate::config::reader::Reader;

/// `[resolvers.places]`. Each resolver has this many places; each DID that is being read holds one.
#[derive(Debug, Clone)]
pub struct Places {
    pub total: usize,
    /// How many of them are kept for DIDs of which something is stored.
    pub known: usize,
    /// The most for the did:web DIDs of one host name, over all ports and paths.
    pub per_host: usize,
    /// The most for the did:web DIDs of all hosts at one address: an IPv4 address or an IPv6 /64.
    pub per_address: usize,
    /// The most for one DID method of the Universal Resolver.
    pub per_method: usize,
    /// The most for the messages of one network.
    pub per_peer: usize,
    /// The most for the messages that the holder of one token sends.
    pub per_token: usize,
}

impl Places {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut number = |key: &str, default: u16, least: u16| -> usize {
            let key = format!("resolvers.places.{key}");
            reader.number(&key, default, least..=4096).into()
        };
        let places = Self {
            total: number("total", 64, 2),
            known: number("known", 16, 1),
            per_host: number("per_host", 4, 1),
            per_address: number("per_address", 16, 1),
            per_method: number("per_method", 32, 1),
            per_peer: number("per_peer", 8, 1),
            per_token: number("per_token", 32, 1),
        };
        if places.known >= places.total {
            reader.refuse(
                "resolvers.places.known",
                "must be less than resolvers.places.total: the rest is for DIDs that are new here",
            );
        }
        places
    }
}
