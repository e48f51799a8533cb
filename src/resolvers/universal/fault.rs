//! Why the Universal Resolver gives no answer.

use std::time::Duration;

/// Why there is no answer. The text follows "the Universal Resolver".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("cannot be connected to: {0}")]
    NoConnection(String),
    #[error("broke off its answer: {0}")]
    BrokenOff(String),
    #[error("answers with an error (HTTP status {0})")]
    Status(u16),
    #[error("says in `deactivated` neither true nor false")]
    Deactivated,
    #[error("does not answer within {} s", .0.as_secs())]
    Late(Duration),
}

impl Fault {
    /// Whether the circuit breaker counts this failure. A slow answer or a 500 may be the fault of
    /// one DID. Strangers choose DIDs, and must not be able to switch the resolver off.
    pub(super) const fn is_failure(&self) -> bool {
        match self {
            Self::NoConnection(_) | Self::BrokenOff(_) => true,
            Self::Status(status) => matches!(status, 429 | 502 | 503),
            Self::Deactivated | Self::Late(_) => false,
        }
    }
}
