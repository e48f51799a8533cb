//! `onceguard health`: asks the instance on this machine's `/readyz`, so that a container needs
//! no HTTP client for its health check.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Failure, out};
use crate::config::Config;
use crate::data_dir::OPS_ADDRESS_FILE;

const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn run(config: &Config) -> Result<(), Failure> {
    match ask(config)? {
        200 => out::line("ready"),
        status => Err(Failure::Failed(format!("not ready: /readyz answers {status}"))),
    }
}

/// The status that `/readyz` of the instance of this data folder answers with.
pub(super) fn ask(config: &Config) -> Result<u16, Failure> {
    let address = reachable(bound_address(config));
    status_of(address).map_err(|error| {
        Failure::Failed(format!("nothing answers at http://{address}/readyz: {error}"))
    })
}

/// Where the instance says that it listens, else where it is configured to.
fn bound_address(config: &Config) -> SocketAddr {
    std::fs::read_to_string(config.data_dir.join(OPS_ADDRESS_FILE))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(config.ops.listen)
}

/// An address that listens everywhere is asked on the loopback.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn status_of(address: SocketAddr) -> std::io::Result<u16> {
    let mut connection = TcpStream::connect_timeout(&address, TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    write!(connection, "GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut head = [0; 12];
    connection.read_exact(&mut head)?;
    std::str::from_utf8(&head)
        .ok()
        .filter(|head| head.starts_with("HTTP/1."))
        .and_then(|head| head.get(9..)?.parse().ok())
        .ok_or_else(|| std::io::Error::other("that is not HTTP"))
}
