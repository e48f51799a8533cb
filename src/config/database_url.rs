//! `DATABASE_URL`: which database, and where. Every other scheme is refused, so that a typo never
//! creates an empty database. No error repeats a part of the text that may be a password.

use std::net::IpAddr;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::Host;

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

/// The parts of a `postgres://` URL.
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
    /// Reads `sqlite://PATH` (the path is not decoded), `sqlite::memory:`, or
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…` (percent-encoded; `postgresql://`, which
    /// libpq also takes, is the same).
    ///
    /// # Errors
    /// [`InvalidDatabaseUrl`] says what is wrong, without repeating a password.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        if text == "sqlite::memory:" {
            Ok(Self::Sqlite(SqliteLocation::Memory))
        } else if let Some(path) = text.strip_prefix("sqlite://") {
            sqlite_file(path).map(Self::Sqlite)
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            PostgresOptions::parse(text).map(|options| Self::Postgres(Box::new(options)))
        } else {
            refuse("must start with sqlite:// or postgres://, or be sqlite::memory:")
        }
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, InvalidDatabaseUrl> {
    Err(InvalidDatabaseUrl(why.into()))
}

fn sqlite_file(path: &str) -> Result<SqliteLocation, InvalidDatabaseUrl> {
    if path.is_empty() {
        return refuse("sqlite:// needs the path of a file, such as sqlite://data/onceguard.db");
    }
    if path.ends_with(":memory:") {
        return refuse("a database in memory is written sqlite::memory:");
    }
    if path.contains(['?', '#', '\0']) {
        return refuse("sqlite:// takes only a path, without '?', '#' or options");
    }
    Ok(SqliteLocation::File(path.into()))
}

impl SslMode {
    const ALL: [Self; 5] =
        [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// As it is written in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).map_or_else(
            || refuse("sslmode must be disable, prefer, require, verify-ca or verify-full"),
            Ok,
        )
    }
}

impl PostgresOptions {
    fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        if query.contains('@') {
            return refuse("'?' in a user name or password must be written %3F");
        }
        if base.matches('@').count() > 1 {
            return refuse("'@' in a user name or password must be written %40");
        }
        let (mut ssl_mode, mut ssl_root_cert) = (None, None);
        let mut others = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let kept = match name {
                "sslmode" => &mut ssl_mode,
                "sslrootcert" => &mut ssl_root_cert,
                _ => {
                    others.push(parameter);
                    continue;
                }
            };
            let Ok(value) = percent_decode_str(value).decode_utf8() else {
                return refuse(format!("{name} is not UTF-8"));
            };
            if kept.replace(value.into_owned()).is_some() {
                return refuse(format!("{name} is given twice"));
            }
        }
        let connection = connection(&format!("{base}?{}", others.join("&")))?;
        let ssl_mode = ssl_mode.as_deref().map(SslMode::parse).transpose()?;
        let (ssl_mode, ssl_root_cert) = match ssl_root_cert.as_deref() {
            Some("") => return refuse("sslrootcert needs the path of a PEM file, or system"),
            // As in libpq: public authorities certify names, so the name must be checked.
            Some("system") => match ssl_mode {
                None | Some(SslMode::VerifyFull) => (SslMode::VerifyFull, None),
                Some(_) => return refuse("sslrootcert=system needs sslmode=verify-full"),
            },
            path => (ssl_mode.unwrap_or(SslMode::Prefer), path.map(PathBuf::from)),
        };
        Ok(Self { connection, ssl_mode, ssl_root_cert })
    }

    /// Where it is, in words: without user, password and options.
    #[must_use]
    pub fn place(&self) -> String {
        let name = |host: &Host| match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let mut hosts: Vec<_> = self.connection.get_hosts().iter().map(name).collect();
        if hosts.is_empty() {
            hosts = self.connection.get_hostaddrs().iter().map(ToString::to_string).collect();
        }
        let ports = self.connection.get_ports();
        for (index, host) in hosts.iter_mut().enumerate() {
            // One port is that of every host.
            let port = ports.get(index).or(ports.first());
            if let Some(port) = port.filter(|_| !host.starts_with('/')) {
                *host = format!("{host}:{port}");
            }
        }
        let database = self.connection.get_dbname().or(self.connection.get_user());
        format!("postgres://{}/{}", hosts.join(","), database.unwrap_or_default())
    }

    /// Whether every host in the URL is this machine: a Unix socket, a loopback address, or
    /// `localhost`.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let addresses = self.connection.get_hostaddrs();
        if !addresses.is_empty() {
            return addresses.iter().all(IpAddr::is_loopback);
        }
        self.connection.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => {
                name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
            Host::Unix(_) => true,
        })
    }
}

fn connection(text: &str) -> Result<tokio_postgres::Config, InvalidDatabaseUrl> {
    // The reason quotes the text only when it names an option. No password can be there, because
    // the text after the '?' has no '@'.
    let connection: tokio_postgres::Config = text.parse().map_err(|error| {
        let reason = std::error::Error::source(&error).map(ToString::to_string);
        let hint = "postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters in the \
                    user name and the password percent-encoded";
        InvalidDatabaseUrl(match reason {
            Some(reason) if reason.starts_with("unknown option") => reason,
            Some(reason) if reason.starts_with("invalid value for option") => reason,
            _ => format!("must have the form {hint}"),
        })
    })?;
    if connection.get_hosts().is_empty() && connection.get_hostaddrs().is_empty() {
        return refuse("names no host: postgres://USER:PASSWORD@HOST:PORT/DATABASE");
    }
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn postgres(text: &str) -> PostgresOptions {
        match DatabaseUrl::parse(text) {
            Ok(DatabaseUrl::Postgres(options)) => *options,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn sqlite(text: &str) -> SqliteLocation {
        match DatabaseUrl::parse(text) {
            Ok(DatabaseUrl::Sqlite(location)) => location,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn refusal(text: &str) -> String {
        match DatabaseUrl::parse(text) {
            Err(InvalidDatabaseUrl(why)) => why,
            Ok(other) => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for text in [
            "",
            "onceguard.db",
            "file:onceguard.db",
            "sqlite:onceguard.db",
            "sqlite3://x",
            "SQLITE://x",
            "mysql://u@h/d",
            "postgres:/h/d",
            "postgres+ssl://h/d",
            "sqlite::memory",
            " postgres://h/d",
        ] {
            assert!(refusal(text).starts_with("must start with"), "{text:?}");
        }
    }

    #[test]
    fn sqlite_takes_a_path_as_it_is() {
        assert_eq!(sqlite("sqlite::memory:"), SqliteLocation::Memory);
        assert_eq!(
            sqlite("sqlite://data/a b%20.db"),
            SqliteLocation::File("data/a b%20.db".into())
        );
        assert_eq!(sqlite("sqlite:///var/x.db"), SqliteLocation::File("/var/x.db".into()));
        for text in ["sqlite://", "sqlite://:memory:", "sqlite://x.db?mode=ro", "sqlite://x#y"] {
            refusal(text);
        }
    }

    #[test]
    fn a_place_has_no_secret() {
        for (url, place) in [
            (
                "postgres://me:secret@db.example/trust?sslmode=require",
                "postgres://db.example:5432/trust",
            ),
            ("postgres://me:secret@[::1]:6000/trust", "postgres://[::1]:6000/trust"),
            ("postgres://me:secret@a:1,b:2/trust", "postgres://a:1,b:2/trust"),
            ("postgres://me:secret@/trust?host=/run/pg", "postgres:///run/pg/trust"),
        ] {
            assert_eq!(postgres(url).place(), place);
        }
    }

    #[test]
    fn a_postgres_url_is_taken_apart() {
        let options = postgres(
            "postgres://me:p%40ss%3F@db.example:6000/trust?sslmode=verify-full&sslrootcert=%2Fca.pem\
             &connect_timeout=3",
        );
        assert_eq!(options.connection.get_user(), Some("me"));
        assert_eq!(options.connection.get_password(), Some(b"p@ss?".as_slice()));
        assert_eq!(options.connection.get_hosts(), [Host::Tcp("db.example".into())]);
        assert_eq!(options.connection.get_ports(), [6000]);
        assert_eq!(options.connection.get_dbname(), Some("trust"));
        assert_eq!(options.connection.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(options.ssl_mode, SslMode::VerifyFull);
        assert_eq!(options.ssl_root_cert, Some("/ca.pem".into()));
        assert!(!format!("{options:?}").contains("p@ss"));
    }

    #[test]
    fn sslmode_has_libpq_s_words_and_default() {
        assert_eq!(postgres("postgres://h/d").ssl_mode, SslMode::Prefer);
        assert_eq!(postgres("postgresql://h/d").ssl_mode, SslMode::Prefer);
        for mode in SslMode::ALL {
            let url = format!("postgres://h/d?sslmode={}", mode.as_str());
            assert_eq!(postgres(&url).ssl_mode, mode);
        }
        for query in
            ["sslmode=", "sslmode=allow", "sslmode=disable&sslmode=require", "sslrootcert="]
        {
            refusal(&format!("postgres://h/d?{query}"));
        }
    }

    #[test]
    fn the_system_s_authorities_go_with_verify_full_alone() {
        let options = postgres("postgres://h/d?sslrootcert=system");
        assert_eq!((options.ssl_mode, options.ssl_root_cert), (SslMode::VerifyFull, None));
        refusal("postgres://h/d?sslrootcert=system&sslmode=require");
    }

    #[test]
    fn a_refusal_repeats_no_password() {
        for text in [
            "postgres://me:hunter2?x@h/d",
            "postgres://%ffme:hunter2@h/d",
            "postgres://me:pa@hunter2@h/d",
            "postgres://me:hunter2@h:port/d",
            "postgres://me:hunter2@h:99999/d",
            "postgres://me:hunter2@h/d?x=1",
            "postgres://me:hunter2@/d",
            "postgres://me:hunter2@h/d?sslmode=no",
        ] {
            let why = refusal(text);
            assert!(!why.contains("hunter2") && !why.is_empty(), "{text}: {why}");
        }
        assert_eq!(refusal("postgres://h/d?x=1"), "unknown option `x`");
    }

    #[test]
    fn this_machine_is_loopback_localhost_and_sockets() {
        for text in [
            "postgres://localhost/d",
            "postgres://127.0.0.1/d",
            "postgres://[::1]/d",
            "postgres://%2Ftmp/d",
            "postgres:///d?host=/tmp",
            "postgres://db.example/d?hostaddr=127.0.0.1",
        ] {
            assert!(postgres(text).is_local(), "{text}");
        }
        for text in [
            "postgres://db.example/d",
            "postgres://10.0.0.1/d",
            "postgres://localhost,db.example/d",
            "postgres://localhost/d?hostaddr=10.0.0.1",
        ] {
            assert!(!postgres(text).is_local(), "{text}");
        }
    }
}
