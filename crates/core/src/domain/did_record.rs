//! What is stored about a DID, and what changes of it come to.

use super::{Did, DidDocument, KeyType, PublicKey, Timestamp};

/// What is stored about a DID. A revoked DID may have no key: it can be revoked unseen.
#[derive(Debug, Clone, PartialEq)]
pub struct DidRecord {
    pub did: Did,
    /// The key that was stored by hand, or the document's first that may sign.
    pub key: Option<PublicKey>,
    pub owner_address: Option<String>,
    /// What a resolver read last. Lists leave it out.
    pub document: Option<DidDocument>,
    /// What the DID's home says instead of a document; what was read before it may not be used.
    pub gone: Option<Gone>,
    /// `None` while the DID is not revoked. Once set, never unset.
    pub revoked_at: Option<Timestamp>,
    /// Where the key came from: `stored` for a `PUT`, else the resolver's name.
    pub source: Option<String>,
    /// The block at which it was read, where there are blocks. A lower one never overwrites it.
    pub version: Option<u64>,
    /// When the resolver was asked, or the key stored.
    pub fetched_at: Option<Timestamp>,
    /// Until when it may be used without asking again; `None` when the DID has no home to ask.
    pub stale_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The database's clock when this row was read.
    pub observed_at: Timestamp,
}

/// What a DID's home says instead of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    NotFound,
    Deactivated,
}

impl Gone {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Deactivated => "deactivated",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::NotFound, Self::Deactivated].into_iter().find(|gone| gone.as_str() == text)
    }
}

/// A DID to store by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDid {
    pub did: Did,
    pub key: PublicKey,
    pub owner_address: Option<String>,
}

/// What came of storing a DID.
#[derive(Debug, Clone, PartialEq)]
pub enum DidStored {
    Created(DidRecord),
    Replaced(DidRecord),
    /// It is revoked; nothing changed.
    Revoked(DidRecord),
}

/// What came of forgetting a DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DidForgotten {
    Done,
    NotFound,
    /// A revocation is never forgotten.
    Revoked,
}

/// What came of revoking a DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DidRevoked {
    /// The first revocation's time.
    pub revoked_at: Timestamp,
    /// Whether this call was the first.
    pub first: bool,
}

/// What a list of DIDs is narrowed to; `None` means any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DidFilter {
    pub owner_address: Option<String>,
    pub key_type: Option<KeyType>,
    pub revoked: Option<bool>,
}
