//! What callers may cost at the same time. Each kind of cost is counted in all and per account, so
//! that a caller can use up only its own share. `docs/strangers.md` lists every bound. Nothing here
//! waits: what does not fit is refused.

mod connections;
mod place;
mod registry;
mod shares;

use crate::domain::{Peer, SignerKey};

pub use connections::Connections;
pub use place::{Handshaking, Place, Serving};
pub use registry::Shown;
pub use shares::{Full, Hold, Shares};

/// The account that a cost is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    Peer(Peer),
    Did(SignerKey),
}

/// The kind of credential that came with the cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A token that an operator gave out.
    Holder,
    /// At most a signature, by a key that anyone can make. Half of everything is kept from it.
    Agent,
}
