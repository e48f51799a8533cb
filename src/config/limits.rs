//! `[limits]`: what callers may cost at the same time; `docs/strangers.md` explains each bound.

use super::reader::Reader;

/// `[limits]`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of the API, in all.
    pub connections: usize,
    /// Connections over which no valid credential came, in all and per peer.
    pub stranger_connections: usize,
    pub stranger_connections_per_peer: usize,
    /// TLS handshakes under way, in all and per peer.
    pub handshakes: usize,
    pub handshakes_per_peer: usize,
    /// Bytes of strangers' heads that are too long for a connection's own buffer.
    pub stranger_head_bytes: u64,
    /// Bytes of bodies that are still arriving, in all and per peer or DID.
    pub body_bytes: u64,
    pub body_bytes_per_peer: u64,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let (few, many) = (16, 1_000_000);
        let (mebibyte, most) = (1_048_576, 68_719_476_736);
        let mut count = |key, default| reader.number(key, default, few..=many);
        Self {
            connections: count("limits.connections", 10_000),
            stranger_connections: count("limits.stranger_connections", 2048),
            stranger_connections_per_peer: count("limits.stranger_connections_per_peer", 512),
            handshakes: count("limits.handshakes", 512),
            handshakes_per_peer: count("limits.handshakes_per_peer", 256),
            stranger_head_bytes: reader.number(
                "limits.stranger_head_bytes",
                33_554_432,
                mebibyte..=most,
            ),
            body_bytes: reader.number("limits.body_bytes", 67_108_864, mebibyte..=most),
            body_bytes_per_peer: reader.number(
                "limits.body_bytes_per_peer",
                16_777_216,
                mebibyte..=most,
            ),
        }
    }

    /// The defaults.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::read(&mut Reader::new(std::collections::BTreeMap::new(), Vec::new()))
    }
}
