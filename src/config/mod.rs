//! The configuration: a file, then the environment, then flags. Each section is a file here and
//! validates itself; `config/default.toml` documents every key.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::storage::DatabaseUrl;

/// Everything that can be configured, validated.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub server: Server,
    pub ops: Ops,
    pub database: Database,
    pub claims: Claims,
    pub sessions: Sessions,
    pub dids: Dids,
    pub sealing: Sealing,
    pub auth: Auth,
    pub jobs: Jobs,
    pub log: Log,
}

/// `[server]`: the API listener.
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

/// `[ops]`: the listener of `/metrics`, `/livez` and `/readyz`.
#[derive(Debug, Clone)]
pub struct Ops {
    pub listen: SocketAddr,
}

/// `[database]`.
#[derive(Debug, Clone)]
pub struct Database {
    pub url: DatabaseUrl,
    pub migrate_on_start: bool,
    /// Allow a connection without TLS to a PostgreSQL that is not on this machine.
    pub allow_plaintext: bool,
    pub statement_timeout: Duration,
    pub claim_statement_timeout: Duration,
    /// Statements slower than this are counted and logged.
    pub slow_statement: Duration,
    pub pool: Pool,
    /// SQLite's connections for reading.
    pub sqlite_readers: u32,
}

/// `[database.pool]`: PostgreSQL's general pool.
#[derive(Debug, Clone)]
pub struct Pool {
    pub max: u32,
    pub min: u32,
    pub idle_timeout: Duration,
    pub max_age: Duration,
    pub acquire_timeout: Duration,
}

/// `[claims]`.
#[derive(Debug, Clone)]
pub struct Claims {
    /// Claims that may wait for the database; one more is `overloaded`.
    pub queue: usize,
    /// The most claims in one commit.
    pub max_batch: usize,
    pub quota_per_signer: u64,
    /// How long a signer's nonce outlives its expiry.
    pub purge_margin: Duration,
}

/// `[sessions]`.
#[derive(Debug, Clone)]
pub struct Sessions {
    pub default_ttl: Duration,
    pub max_ttl: Duration,
    /// How long an ended session is remembered.
    pub retention: Duration,
}

/// `[dids]`: the cache.
#[derive(Debug, Clone)]
pub struct Dids {
    pub cache_entries: u64,
    pub cache_ttl: Duration,
    pub negative_ttl: Duration,
}

/// `[sealing]`: 32-byte keys. `None` takes (or makes) the file in the data folder.
#[derive(Debug, Clone)]
pub struct Sealing {
    pub key: Option<SealingKeyBytes>,
    pub old_keys: Vec<SealingKeyBytes>,
}

/// 32 secret bytes, zeroed on drop and hidden from `Debug`.
#[derive(Clone)]
pub struct SealingKeyBytes(pub zeroize::Zeroizing<[u8; 32]>);

impl std::fmt::Debug for SealingKeyBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKeyBytes(…)")
    }
}

/// `[auth]`.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The admin token to have, instead of a random one in the data folder.
    pub admin_token: Option<SecretString>,
}

/// `[jobs]`.
#[derive(Debug, Clone)]
pub struct Jobs {
    pub purge_interval: Duration,
    /// The most rows in one batch of the purge.
    pub purge_batch: u32,
    /// How long the purge rests between two batches.
    pub purge_pause: Duration,
    pub audit_retention: Duration,
    /// How often the gauges of sessions and nonces are sampled.
    pub sample_interval: Duration,
}

/// `[log]`.
#[derive(Debug, Clone)]
pub struct Log {
    pub format: LogFormat,
    /// Used when `RUST_LOG` is not set.
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    Human,
    Json,
}
