//! The sockets, and the servers on them.

use std::net::{SocketAddr, TcpListener};

use actix_web::dev::{Server, ServerHandle};
use socket2::SockRef;
use tokio::task::JoinHandle;

use super::start_error::{StartError, setting};

/// New connections that the kernel keeps until they are accepted, as far as it allows.
const WAITING_CONNECTIONS: i32 = 4096;

/// A started HTTP server.
pub(super) struct Listening {
    pub(super) handle: ServerHandle,
    pub(super) task: JoinHandle<std::io::Result<()>>,
}

impl Listening {
    pub(super) fn start(server: Server) -> Self {
        Self { handle: server.handle(), task: tokio::spawn(server) }
    }
}

pub(super) fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .and_then(|listener| {
            // The standard library lets 128 wait. When more come at once, the kernel resets some.
            SockRef::from(&listener).listen(WAITING_CONNECTIONS)?;
            Ok(listener)
        })
        .map_err(|error| StartError::Setting {
            key,
            message: format!("cannot listen on {address}: {error}"),
        })
}

pub(super) fn local_address(
    key: &'static str,
    listener: &TcpListener,
) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|error| setting(key, &error))
}
