//! A verification method of a document, and where methods are listed.

use crate::domain::PublicKey;

/// More are not read.
pub(super) const MAX_METHODS: usize = 20;

pub(super) const VERIFICATION_METHOD: &str = "verificationMethod";
pub(super) const AUTHENTICATION: &str = "authentication";
pub(super) const ASSERTION: &str = "assertionMethod";
pub(super) const KEY_AGREEMENT: &str = "keyAgreement";
pub(super) const INVOCATION: &str = "capabilityInvocation";
pub(super) const DELEGATION: &str = "capabilityDelegation";

/// A key of a DID, by its DID URL (DID Core 1.0, section 5.2).
#[derive(Debug, Clone, PartialEq)]
pub struct VerificationMethod {
    /// Absolute: the DID, `#`, and the fragment.
    pub id: String,
    pub key: PublicKey,
    /// Whether the key is in the `authentication` relationship: only these may sign.
    pub authentication: bool,
}

/// What a document has among its verification methods that this service cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableMethod {
    /// Absolute; `None` where no key of the DID is named.
    pub id: Option<String>,
    /// Where in the document it is (JSON Pointer, RFC 6901).
    pub pointer: String,
    /// Why it cannot be used. Safe to show: nothing of the document is in it.
    pub reason: String,
}
