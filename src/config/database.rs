//! `[database]`: which database, and the time-outs for it.

use std::path::Path;
use std::time::Duration;

use url::Url;

use super::database_url::{DatabaseUrl, SqliteLocation, SslMode};
use super::reader::{Given, MASK, Reader, Show};

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

impl Database {
    pub(super) fn read(reader: &mut Reader, data_dir: &Path) -> Self {
        let url = read_url(reader, data_dir);
        let database = Self {
            url,
            migrate_on_start: reader.boolean("database.migrate_on_start", false),
            allow_plaintext: reader.boolean("database.allow_plaintext", false),
            statement_timeout: reader.seconds("database.statement_timeout_seconds", 30, 1..=3600),
            claim_statement_timeout: reader.seconds(
                "database.claim_statement_timeout_seconds",
                5,
                1..=60,
            ),
            slow_statement: reader.milliseconds(
                "database.slow_statement_milliseconds",
                100,
                1..=60_000,
            ),
            sqlite_readers: reader.number("database.sqlite_readers", 4, 1..=64),
            pool: Pool::read(reader),
        };
        if database.is_plaintext_to_elsewhere() && !database.allow_plaintext {
            reader.refuse(
                "database.url",
                "sslmode=disable sends everything in the clear to a database that is not on this \
                 machine; use sslmode=verify-full, or allow it by database.allow_plaintext = true",
            );
        }
        database
    }

    /// The defaults.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let mut reader = Reader::new(std::collections::BTreeMap::new(), Vec::new());
        Self::read(&mut reader, Path::new(""))
    }

    /// Whether several instances can share this database.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        matches!(self.url, DatabaseUrl::Postgres(_))
    }

    fn is_plaintext_to_elsewhere(&self) -> bool {
        match &self.url {
            DatabaseUrl::Postgres(options) => {
                options.ssl_mode == SslMode::Disable && !options.is_local()
            }
            DatabaseUrl::Sqlite(_) => false,
        }
    }
}

impl Pool {
    fn read(reader: &mut Reader) -> Self {
        let pool = Self {
            max: reader.number("database.pool.max", 25, 1..=1000),
            min: reader.number("database.pool.min", 2, 0..=1000),
            idle_timeout: reader.seconds("database.pool.idle_timeout_seconds", 1800, 1..=86_400),
            max_age: reader.seconds("database.pool.max_age_seconds", 3600, 1..=86_400),
            acquire_timeout: reader.seconds("database.pool.acquire_timeout_seconds", 10, 1..=300),
        };
        if pool.min > pool.max {
            reader.refuse(
                "database.pool.min",
                format!("must not exceed database.pool.max, which is {}", pool.max),
            );
        }
        pool
    }
}

/// Errors show no part of the URL, because a misspelt one may have a password anywhere.
fn read_url(reader: &mut Reader, data_dir: &Path) -> DatabaseUrl {
    let parse = |given: &Given| {
        let text = given.text().ok_or("must be text, such as postgres://user@host/database")?;
        if text.is_empty() {
            return Err("names no database; set DATABASE_URL or --database-url".to_owned());
        }
        let url = DatabaseUrl::parse(text).map_err(|error| error.to_string())?;
        Ok((url, mask_password(text)))
    };
    let path = data_dir.join("onceguard.db");
    let shown = format!("sqlite://{}", path.display());
    let default = (DatabaseUrl::Sqlite(SqliteLocation::File(path)), shown);
    let shown = |(_, shown): &(_, String)| shown.as_str().into();
    reader.value("database.url", Show::Secret, default, parse, shown).0
}

/// The URL with its password masked, in both places that can hold one.
fn mask_password(text: &str) -> String {
    if text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let Ok(mut url) = Url::parse(text) else { return format!("postgres://{MASK}") };
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return format!("postgres://{MASK}");
    }
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if !pairs.is_empty() {
        let masked = pairs.iter().map(|(name, value)| {
            (name.as_str(), if name.contains("password") { MASK } else { value.as_str() })
        });
        url.query_pairs_mut().clear().extend_pairs(masked);
    }
    url.to_string()
}
