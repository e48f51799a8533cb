//! `[server]`: the API listener.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    pub listen: SocketAddr,
    /// Threads that serve HTTP; 0 is one per processor.
    pub workers: usize,
    pub tls: Option<Tls>,
    /// Return session keys over a listener that is neither loopback nor TLS.
    pub allow_plaintext_keys: bool,
    /// How long a stop waits for requests in flight.
    pub shutdown_timeout: Duration,
}

/// `[server.tls]`: PEM files.
#[derive(Debug, Clone)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Server {
    pub(super) fn read(reader: &mut Reader) -> Self {
        Self {
            listen: reader.address("server.listen", SocketAddr::from(([127, 0, 0, 1], 8080))),
            workers: reader.number("server.workers", 0, 0..=1024),
            allow_plaintext_keys: reader.boolean("server.allow_plaintext_keys", false),
            shutdown_timeout: reader.seconds("server.shutdown_timeout_seconds", 30, 1..=3600),
            tls: Tls::read(reader),
        }
    }
}

impl Tls {
    fn read(reader: &mut Reader) -> Option<Self> {
        let cert = reader.optional_path("server.tls.cert");
        let key = reader.optional_path("server.tls.key");
        match (cert, key) {
            (Some(cert), Some(key)) => Some(Self { cert, key }),
            (None, None) => None,
            (Some(_), None) => {
                reader.refuse("server.tls.key", "is missing: server.tls.cert needs its key");
                None
            }
            (None, Some(_)) => {
                reader
                    .refuse("server.tls.cert", "is missing: server.tls.key needs its certificate");
                None
            }
        }
    }
}
