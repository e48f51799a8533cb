//! `DATABASE_URL`: which database, where. Any scheme but these is refused, so that a typo never
//! creates an empty database.

use std::path::PathBuf;

/// Where the data lives.
#[derive(Debug, Clone)]
pub enum DatabaseUrl {
    Postgres(Box<PostgresOptions>),
    Sqlite(SqliteLocation),
}

/// `sqlite://PATH` or `sqlite::memory:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqliteLocation {
    File(PathBuf),
    Memory,
}

/// A `postgres://` URL, taken apart.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Host, port, user, password, database name. Its `Debug` hides the password.
    pub connection: tokio_postgres::Config,
    pub ssl_mode: SslMode,
    /// `sslrootcert`: a PEM file of the authorities to trust instead of the system's.
    pub ssl_root_cert: Option<PathBuf>,
}

/// libpq's `sslmode` (PostgreSQL documentation, section 34.19.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// The text is not a database URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDatabaseUrl(pub String);

impl DatabaseUrl {
    /// # Errors
    /// [`InvalidDatabaseUrl`] says what is wrong, without repeating a password.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        Err(InvalidDatabaseUrl(format!("not built: {}", text.len())))
    }
}
