//! What is remembered outside of the database, for when it went back in time.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::domain::{Did, NewDid, Timestamp};

/// Something that a database which went back in time may have forgotten, and must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    RevokeDid(Did),
    RevokeToken(Uuid),
    /// The key of a DID that no resolver reads was replaced by this one.
    ReplaceKey(NewDid),
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RevokeDid(did) => write!(f, "DID {did}"),
            Self::RevokeToken(id) => write!(f, "token {id}"),
            Self::ReplaceKey(new) => write!(f, "key of {}", new.did),
        }
    }
}

/// An act that is remembered outside of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub at: Timestamp,
    pub act: Act,
}

/// Where an instance looks for what is remembered outside of the database, when it has to recover
/// that by itself.
#[derive(Clone)]
pub struct Memory(Arc<dyn Fn() -> Vec<Remembered> + Send + Sync>);

impl Memory {
    #[must_use]
    pub fn new(look: impl Fn() -> Vec<Remembered> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    pub(super) fn remembered(&self) -> Vec<Remembered> {
        (self.0)()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}
