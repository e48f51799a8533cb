//! Host names into addresses that may be dialled. What is checked here is what is dialled: an
//! answer that is another the next time helps nobody.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::address::is_global_unicast;

/// Looks a name up; blocks. The ports are 0, for which the URL's stands in.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Looks names up, and keeps of their addresses those that may be dialled.
pub(in crate::resolvers) struct Names {
    look_up: Arc<LookUp>,
    may_dial: fn(IpAddr) -> bool,
    /// Bounds the threads of look-ups, which go on after whoever asked has given up.
    threads: Arc<Semaphore>,
}

/// Why a name is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotDialled {
    /// It has addresses, and none of them may be dialled.
    #[error("no address may be dialled")]
    Forbidden,
    #[error("there is no address")]
    NoAddress,
    #[error("too many names are being looked up")]
    Busy,
}

impl Names {
    /// Names by the system, at most `at_once` of them at the same time; addresses of the
    /// Internet alone, unless any address may be dialled.
    pub(in crate::resolvers) fn of_system(any_address: bool, at_once: usize) -> Self {
        let may_dial = if any_address { |_| true } else { is_global_unicast };
        Self::new(Arc::new(|name| Ok((name, 0).to_socket_addrs()?.collect())), may_dial, at_once)
    }

    pub(super) fn new(look_up: Arc<LookUp>, may_dial: fn(IpAddr) -> bool, at_once: usize) -> Self {
        Self { look_up, may_dial, threads: Arc::new(Semaphore::new(at_once)) }
    }

    pub(super) fn may_dial(&self, address: IpAddr) -> bool {
        (self.may_dial)(address)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let (look_up, may_dial) = (Arc::clone(&self.look_up), self.may_dial);
        let thread = Arc::clone(&self.threads).try_acquire_owned();
        Box::pin(async move {
            let thread = thread.map_err(|_| NotDialled::Busy)?;
            let found = spawn_blocking(move || {
                let _thread = thread;
                look_up(name.as_str())
            });
            let mut addresses = found.await??;
            if addresses.is_empty() {
                return Err(NotDialled::NoAddress.into());
            }
            addresses.retain(|address| may_dial(address.ip()));
            if addresses.is_empty() {
                return Err(NotDialled::Forbidden.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
