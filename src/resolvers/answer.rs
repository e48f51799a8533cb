//! What a resolver says about a DID, and why one says nothing.

use super::places::Full;
use crate::domain::{Did, DidDocument, InvalidDocument, InvalidMultikey};

/// What a resolver says about a DID.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    pub answer: Answer,
    /// The block at which it was read, on a chain.
    pub version: Option<u64>,
}

/// The DID's document, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Document {
        document: DidDocument,
        /// The blockchain address that owns the DID.
        owner_address: Option<String>,
    },
    /// Its home does not know the DID.
    NotFound,
    /// Its home has taken the DID out of use.
    Deactivated {
        /// The finalized block in which it already was out of use, on a chain.
        finalized_at: Option<u64>,
    },
    /// The home answered, but nothing in the answer can be used; says why.
    Unusable(Unusable),
}

/// Why a DID has no usable document, although its home answers. The texts are safe to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The DID is malformed for its method.
    #[error("{0}")]
    Did(String),
    /// The DID is well-formed, but the type of its key is not supported.
    #[error("{0}")]
    KeyType(String),
    /// No resolver reads this DID.
    #[error("{0}")]
    Method(String),
    /// Its document has an unknown form.
    #[error("{0}")]
    Representation(String),
    /// Its document is not valid.
    #[error("{0}")]
    Document(String),
}

impl From<InvalidDocument> for Unusable {
    fn from(error: InvalidDocument) -> Self {
        Self::Document(error.to_string())
    }
}

impl From<InvalidMultikey> for Unusable {
    fn from(error: InvalidMultikey) -> Self {
        match error {
            InvalidMultikey::Unsupported(_) => Self::KeyType(error.to_string()),
            _ => Self::Did(error.to_string()),
        }
    }
}

/// The DID's home said nothing about the DID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The home could not be reached, or gave no usable answer.
    #[error("{0}")]
    Failed(String),
    /// The home was not asked.
    #[error(transparent)]
    Full(#[from] Full),
}

impl Unreachable {
    pub(crate) fn no_resolver(did: &Did) -> Self {
        Self::Failed(format!("no resolver reads did:{}", did.method()))
    }
}

/// A resolver cannot be set up as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct InvalidResolver {
    pub key: &'static str,
    pub message: String,
}
