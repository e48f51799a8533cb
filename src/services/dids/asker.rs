//! Who asks for a DID.

use crate::domain::Peer;

/// Who asks for a DID, and on whose account it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A message named it, whose signature is not verified yet: nothing is stored.
    Stranger(Peer),
    /// A caller with a credential for this asked for it by name: what is read is stored.
    Trusted(Peer),
}

impl Asker {
    pub(super) const fn peer(self) -> Peer {
        match self {
            Self::Stranger(peer) | Self::Trusted(peer) => peer,
        }
    }
}
