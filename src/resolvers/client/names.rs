//! Turns host names into addresses that may be dialled. Exactly the checked addresses are dialled,
//! so a name that changes its addresses between two look-ups gains nothing.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::address::is_global_unicast;
use super::failure::Failure;

/// The most addresses of one name that are dialled.
const MAX_ADDRESSES: usize = 8;

/// Looks a name up; blocks. The ports are 0, and the URL's port replaces them.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up, and keeps only the addresses that may be dialled.
pub(in crate::resolvers) struct Names {
    look_up: Arc<LookUp>,
    may_dial: fn(IpAddr) -> bool,
}

impl Names {
    /// Asks the system for names. Keeps only public addresses, unless every address may be dialled.
    pub(in crate::resolvers) fn of_system(any_address: bool) -> Self {
        let may_dial = if any_address { |_| true } else { is_global_unicast };
        Self::new(Arc::new(|name| Ok((name, 0).to_socket_addrs()?.collect())), may_dial)
    }

    pub(super) fn new(look_up: Arc<LookUp>, may_dial: fn(IpAddr) -> bool) -> Self {
        Self { look_up, may_dial }
    }

    /// # Errors
    /// [`Failure::Forbidden`] when this address may not be dialled.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Failure> {
        if (self.may_dial)(address) { Ok(()) } else { Err(Failure::Forbidden) }
    }

    /// The addresses of a name that may be dialled, at least one. A look-up cannot be interrupted,
    /// and may outlast its caller. It holds `place` until it ends.
    ///
    /// # Errors
    /// [`Failure`] when there are none.
    pub(super) async fn addresses(
        &self,
        name: &str,
        place: impl Send + 'static,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let (look_up, name) = (Arc::clone(&self.look_up), name.to_owned());
        let found = spawn_blocking(move || {
            let _place = place;
            look_up(&name)
        });
        let Ok(Ok(mut addresses)) = found.await else {
            return Err(Failure::Connect("cannot be found by its name"));
        };
        if addresses.is_empty() {
            return Err(Failure::Connect("has no address"));
        }
        addresses.retain(|address| (self.may_dial)(address.ip()));
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() { Err(Failure::Forbidden) } else { Ok(addresses) }
    }
}
