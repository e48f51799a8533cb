//! `[forward_auth]`: verdicts for proxies.

use super::reader::Reader;

/// `[forward_auth]`.
#[derive(Debug, Clone)]
pub struct ForwardAuth {
    /// Answer proxies that send no token.
    pub public: bool,
}

impl ForwardAuth {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self { public: reader.boolean("forward_auth.public", false) }
    }
}
