//! What callers may cost at the same time: each kind of cost is counted in all, and per account,
//! so that one caller uses up its own share and not that of the others. `docs/strangers.md` lists
//! every bound. Nothing here waits: what does not fit is refused.

mod connections;
mod place;
mod shares;

use crate::domain::{Peer, SignerKey};

pub use connections::Connections;
pub use place::{Handshaking, Place, Serving};
pub use shares::{Full, Hold, Shares};

/// On whose share something is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    Peer(Peer),
    Did(SignerKey),
}

/// What kind of credential came with what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A token, which an operator gave out.
    Holder,
    /// At best a signature, by a key that anyone can make: half of everything is out of its reach.
    Agent,
}
