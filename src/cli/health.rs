//! `onceguard health`: asks the instance on this machine's `/readyz`, so that a container needs
//! no HTTP client for its health check.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Failure, out};
use crate::config::Config;
use crate::data_dir::OPS_ADDRESS_FILE;

const TIMEOUT: Duration = Duration::from_secs(3);
/// In bytes. No more are read.
const LONGEST_ANSWER: u64 = 65_536;

pub(super) fn run(config: &Config) -> Result<(), Failure> {
    match ask(config)?.status {
        200 => out::line("ready"),
        status => Err(Failure::Failed(format!("not ready: /readyz answers {status}"))),
    }
}

/// The answer of `/readyz`.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// By how much that instance saw the machine's clock jump, until it follows the clock again.
    pub(super) fn clock_jump_seconds(&self) -> Option<i64> {
        let said: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        said.pointer("/clock/jump_seconds")?.as_i64()
    }
}

/// Asks the instance of this data folder.
pub(super) fn ask(config: &Config) -> Result<Answer, Failure> {
    let address = reachable(bound_address(config));
    ready(address).map_err(|error| {
        Failure::Failed(format!("nothing answers at http://{address}/readyz: {error}"))
    })
}

/// The address that the instance has written down, else the configured one.
fn bound_address(config: &Config) -> SocketAddr {
    std::fs::read_to_string(config.data_dir.join(OPS_ADDRESS_FILE))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(config.ops.listen)
}

/// For an instance that listens on all addresses, the loopback address.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn ready(address: SocketAddr) -> std::io::Result<Answer> {
    let mut connection = TcpStream::connect_timeout(&address, TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    write!(connection, "GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    connection.take(LONGEST_ANSWER).read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| std::io::Error::other("that is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end + 4)?;
    let head = std::str::from_utf8(head).ok().filter(|head| head.starts_with("HTTP/1."))?;
    let status = head.get(9..12)?.parse().ok()?;
    Some(Answer { status, body: body.to_vec() })
}
