//! `[claims]`: the queue, and what a signer or a namespace may hold.

use std::time::Duration;

use super::reader::Reader;

/// `[claims]`.
#[derive(Debug, Clone)]
pub struct Claims {
    /// The most claims that wait for the database. One more is `overloaded`.
    pub queue: usize,
    /// The most claims in one commit.
    pub max_batch: usize,
    pub quota_per_signer: u64,
    pub quota_per_namespace: u64,
    /// How long a nonce of a signer or a namespace is kept after its expiry.
    pub purge_margin: Duration,
}

impl Claims {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            queue: reader.number("claims.queue", 16_384, 1..=1_048_576),
            max_batch: reader.number("claims.max_batch", 1024, 1..=4096),
            quota_per_signer: reader.number(
                "claims.quota_per_signer",
                1_000_000,
                1..=1_000_000_000,
            ),
            quota_per_namespace: reader.number(
                "claims.quota_per_namespace",
                100_000_000,
                1..=1_000_000_000,
            ),
            purge_margin: reader.seconds("claims.purge_margin_seconds", 300, 60..=86_400),
        }
    }
}
