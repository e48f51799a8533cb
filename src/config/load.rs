//! Gathers the sources in their order (file, environment, flags) into one value per key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::problem::{InvalidConfig, Origin, Problem};
use super::reader::{Given, Reader, Setting};
use super::{Config, Need};

/// Every environment variable that is a setting begins with this.
const PREFIX: &str = "ONCEGUARD_";
/// The one variable with this prefix that is not a setting: callers keep their token in it.
const TOKEN: &str = "ONCEGUARD_TOKEN";

/// Where values may come from. The environment counts only if it is passed to
/// [`Sources::environment`].
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: BTreeMap<OsString, OsString>,
    flags: Vec<(&'static str, &'static str, String)>,
}

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    /// Every key with its value and origin, secrets masked.
    pub settings: Vec<Setting>,
}

impl Sources {
    /// Takes a TOML file.
    #[must_use]
    pub fn file(mut self, path: Option<PathBuf>) -> Self {
        self.file = path;
        self
    }

    /// Takes environment variables, and ignores those that are not settings.
    #[must_use]
    pub fn environment<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        self.environment
            .extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Takes the value of a command-line flag, if it was given.
    #[must_use]
    pub fn flag(mut self, flag: &'static str, key: &'static str, value: Option<String>) -> Self {
        self.flags.extend(value.map(|value| (flag, key, value)));
        self
    }

    /// Merges and checks everything.
    ///
    /// # Errors
    /// [`InvalidConfig`] names every key that is unknown, of the wrong type or out of range.
    pub fn load(&self, need: Need) -> Result<Loaded, InvalidConfig> {
        let mut merged = Merged::default();
        if let Some(path) = &self.file {
            merged.add_file(path);
        }
        merged.add_environment(&self.environment);
        for (flag, key, value) in &self.flags {
            merged.add_text(key, value, Origin::Flag(flag));
        }
        let mut reader = Reader::new(merged.given, merged.problems);
        let config = Config::read(&mut reader, need);
        let (config, settings) = reader.finish(config)?;
        Ok(Loaded { config, settings })
    }
}

#[derive(Default)]
struct Merged {
    given: BTreeMap<String, (Given, Origin)>,
    problems: Vec<Problem>,
}

impl Merged {
    fn add_text(&mut self, key: &str, text: &str, origin: Origin) {
        self.given.insert(key.to_owned(), (Given::Text(text.to_owned()), origin));
    }

    fn problem(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { key: key.into(), found: None, message: message.into() });
    }

    fn add_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problem(name, format!("cannot be read: {error}")),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.add_table("", table, path),
            // The error's own text quotes the line, which may hold a secret.
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start));
                let line = before.map_or(1, |before| before.matches('\n').count() + 1);
                let message = error.message().lines().next().unwrap_or("is not TOML").to_owned();
                self.problem(format!("{name}, line {line}"), format!("is not TOML: {message}"));
            }
        }
    }

    fn add_table(&mut self, prefix: &str, table: toml::Table, path: &Path) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(table) if !table.is_empty() => self.add_table(&key, table, path),
                value => {
                    let origin = Origin::File(path.to_owned());
                    self.given.insert(key, (Given::Toml(value), origin));
                }
            }
        }
    }

    fn add_environment(&mut self, variables: &BTreeMap<OsString, OsString>) {
        let mut known = BTreeMap::new();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let is_ours = name.starts_with(PREFIX) && name != TOKEN;
            if !is_ours && !name.starts_with("DB_") && name != "DATABASE_URL" {
                continue;
            }
            match value.to_str() {
                Some(value) if !is_of_kubernetes(name, value) => {
                    known.insert(name, value);
                }
                Some(_) => {}
                None => self.problem(name, "is not UTF-8"),
            }
        }
        if let Some(url) = known.get("DATABASE_URL") {
            self.add_text("database.url", url, Origin::Environment("DATABASE_URL".into()));
        } else {
            self.add_database_parts(&known);
        }
        for (name, value) in known {
            if let Some(key) = name.strip_prefix(PREFIX) {
                let key = key.to_ascii_lowercase().replace("__", ".");
                self.add_text(&key, value, Origin::Environment(name.to_owned()));
            }
        }
    }

    /// Composes `database.url` from `DB_HOST` and its companions.
    fn add_database_parts(&mut self, variables: &BTreeMap<&str, &str>) {
        let part = |name: &str| variables.get(name).copied();
        let names = ["DB_HOST", "DB_PORT", "DB_USER", "DB_PASSWORD", "DB_NAME", "DB_SSLMODE"];
        let Some(first) = names.into_iter().find(|name| part(name).is_some()) else { return };
        let (Some(host), Some(user), Some(database)) =
            (part("DB_HOST"), part("DB_USER"), part("DB_NAME"))
        else {
            return self.problem(
                first,
                "is not enough: DB_HOST, DB_USER and DB_NAME name a database together \
                 (or DATABASE_URL does)",
            );
        };
        let Ok(number) = part("DB_PORT").unwrap_or("5432").parse::<u16>() else {
            return self.problem("DB_PORT", "must be a port, from 1 to 65535");
        };
        let Some(url) =
            compose(host, number, user, part("DB_PASSWORD"), database, part("DB_SSLMODE"))
        else {
            return self.problem("DB_HOST", "must be a host name or an IP address");
        };
        self.add_text("database.url", &url, Origin::Environment("DB_HOST and others".into()));
    }
}

/// A `postgres` URL in which every part is escaped; `None` if the host cannot be one.
fn compose(
    host: &str,
    port: u16,
    user: &str,
    password: Option<&str>,
    database: &str,
    ssl_mode: Option<&str>,
) -> Option<String> {
    let escape = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
    let host = match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) if is_name && !host.is_empty() => host.to_owned(),
        Err(_) => return None,
    };
    let password = password.map(|text| format!(":{}", escape(text))).unwrap_or_default();
    let ssl_mode = ssl_mode.map(|text| format!("?sslmode={}", escape(text))).unwrap_or_default();
    let (user, database) = (escape(user), escape(database));
    Some(format!("postgres://{user}{password}@{host}:{port}/{database}{ssl_mode}"))
}

/// For a service called `onceguard`, Kubernetes sets variables in every pod that look like
/// settings. No key of the configuration has this form.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| {
        !rest.contains("__")
            && (rest == "SERVICE_HOST"
                || rest.starts_with("SERVICE_PORT")
                || rest.starts_with("PORT_")
                || (rest == "PORT" && value.contains("://")))
    })
}
