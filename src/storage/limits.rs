//! What bounds claims.

/// The limits that the claim statement applies.
#[derive(Debug, Clone, Copy)]
pub struct ClaimLimits {
    /// The most live nonces of one signer.
    pub quota_per_signer: u64,
    /// The most live nonces of one namespace.
    pub quota_per_namespace: u64,
}
