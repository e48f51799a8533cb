//! `[ops]`: the listener of `/metrics`, `/livez` and `/readyz`.

use std::net::SocketAddr;

use super::reader::Reader;
use super::server::Server;

/// `[ops]`.
#[derive(Debug, Clone)]
pub struct Ops {
    pub listen: SocketAddr,
}

impl Ops {
    pub(super) fn read(reader: &mut Reader, server: &Server) -> Self {
        let listen = reader.address("ops.listen", SocketAddr::from(([127, 0, 0, 1], 9464)));
        if listen == server.listen && listen.port() != 0 {
            reader.refuse("ops.listen", "must differ from server.listen");
        }
        Self { listen }
    }
}
