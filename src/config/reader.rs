//! Takes values out of the merged sources, one key at a time. It checks each value, falls back to
//! the default, and records every key that exists, so that the keys left over are unknown ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::problem::{InvalidConfig, Origin, Problem};

/// Shown in place of a secret.
pub(super) const MASK: &str = "***";

/// A value as a source gave it.
#[derive(Clone)]
pub(super) enum Given {
    /// From the file, with its type.
    Toml(toml::Value),
    /// From the environment or a flag.
    Text(String),
}

impl Given {
    /// The value as text, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Toml(toml::Value::String(text)) | Self::Text(text) => Some(text),
            Self::Toml(_) => None,
        }
    }

    /// The items of a list; in the environment, commas separate them.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Self::Toml(toml::Value::Array(items)) => {
                items.iter().map(toml::Value::as_str).collect()
            }
            Self::Toml(_) => None,
            Self::Text(text) => Some(text.split(',').map(str::trim).collect()),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Toml(value) => value.to_string(),
            Self::Text(text) => format!("{text:?}"),
        }
    }

    fn is_empty_table(&self) -> bool {
        matches!(self, Self::Toml(toml::Value::Table(table)) if table.is_empty())
    }
}

/// A key with the value it has, for `config show`.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub key: String,
    /// `null` when it is not set and has no default; masked when it is secret.
    pub value: Value,
    pub origin: Origin,
}

/// The merged sources.
pub(super) struct Reader {
    given: BTreeMap<String, (Given, Origin)>,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(given: BTreeMap<String, (Given, Origin)>, problems: Vec<Problem>) -> Self {
        Self { given, settings: Vec::new(), problems }
    }

    /// A value with a default. `parse` checks it, and `shown` gives the form to show.
    pub(super) fn value<T>(
        &mut self,
        key: &str,
        show: Show,
        default: T,
        parse: impl FnOnce(&Given) -> Result<T, String>,
        shown: impl FnOnce(&T) -> Value,
    ) -> T {
        let (value, origin) = self.take(key, show, parse).unwrap_or((default, Origin::Default));
        self.settings.push(Setting { key: key.to_owned(), value: shown(&value), origin });
        value
    }

    /// A value without a default.
    pub(super) fn optional<T>(
        &mut self,
        key: &str,
        show: Show,
        parse: impl FnOnce(&Given) -> Result<T, String>,
        shown: impl FnOnce(&T) -> Value,
    ) -> Option<T> {
        let shown = |value: &Option<T>| value.as_ref().map_or(Value::Null, shown);
        self.value(key, show, None, |given| parse(given).map(Some), shown)
    }

    /// A whole number within `allowed`.
    pub(super) fn number<T>(&mut self, key: &str, default: T, allowed: RangeInclusive<T>) -> T
    where
        T: TryFrom<i64> + FromStr + PartialOrd + Display + Copy + Into<Value>,
    {
        let parse = |given: &Given| {
            let number = match given {
                Given::Toml(toml::Value::Integer(number)) => T::try_from(*number).ok(),
                Given::Toml(_) => None,
                Given::Text(text) => text.parse().ok(),
            };
            number.filter(|number| allowed.contains(number)).ok_or_else(|| {
                format!("must be a whole number from {} to {}", allowed.start(), allowed.end())
            })
        };
        self.value(key, Show::Plain, default, parse, |number| (*number).into())
    }

    /// A duration in seconds. The key's name ends in `_seconds`.
    pub(super) fn seconds(
        &mut self,
        key: &str,
        default: u32,
        allowed: RangeInclusive<u32>,
    ) -> Duration {
        Duration::from_secs(self.number(key, default, allowed).into())
    }

    /// A duration in milliseconds. The key's name ends in `_milliseconds`.
    pub(super) fn milliseconds(
        &mut self,
        key: &str,
        default: u32,
        allowed: RangeInclusive<u32>,
    ) -> Duration {
        Duration::from_millis(self.number(key, default, allowed).into())
    }

    /// A duration in days. The key's name ends in `_days`.
    pub(super) fn days(
        &mut self,
        key: &str,
        default: u32,
        allowed: RangeInclusive<u32>,
    ) -> Duration {
        Duration::from_secs(u64::from(self.number(key, default, allowed)) * 86_400)
    }

    pub(super) fn boolean(&mut self, key: &str, default: bool) -> bool {
        let parse = |given: &Given| match given {
            Given::Toml(toml::Value::Boolean(yes)) => Ok(*yes),
            Given::Text(text) if text == "true" => Ok(true),
            Given::Text(text) if text == "false" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        };
        self.value(key, Show::Plain, default, parse, |yes| (*yes).into())
    }

    /// An address to listen on.
    pub(super) fn address(&mut self, key: &str, default: SocketAddr) -> SocketAddr {
        let parse = |given: &Given| {
            given.text().and_then(|text| text.parse().ok()).ok_or_else(|| {
                "must be an IP address and a port, such as 127.0.0.1:8080 or [::]:8080 \
                 (port 0 takes a free one)"
                    .to_owned()
            })
        };
        self.value(key, Show::Plain, default, parse, |address| address.to_string().into())
    }

    pub(super) fn path(&mut self, key: &str, default: PathBuf) -> PathBuf {
        self.value(key, Show::Plain, default, parse_path, show_path)
    }

    pub(super) fn optional_path(&mut self, key: &str) -> Option<PathBuf> {
        self.optional(key, Show::Plain, parse_path, show_path)
    }

    /// The names of the tables below `section` in the file.
    pub(super) fn tables_in_file(&self, section: &str) -> BTreeSet<String> {
        self.given
            .iter()
            .filter(|(_, (_, origin))| matches!(origin, Origin::File(_)))
            .filter_map(|(key, _)| key.strip_prefix(section)?.strip_prefix('.')?.split('.').next())
            .map(str::to_owned)
            .collect()
    }

    /// Records that the value of `key` does not fit the other values, unless the value itself is
    /// already known to be wrong.
    pub(super) fn refuse(&mut self, key: &str, message: impl Into<String>) {
        if self.problems.iter().any(|problem| problem.key == key) {
            return;
        }
        let found = self
            .settings
            .iter()
            .find(|setting| setting.key == key && !setting.value.is_null())
            .map(|setting| (setting.value.to_string(), setting.origin.clone()));
        self.problems.push(Problem { key: key.to_owned(), found, message: message.into() });
    }

    /// Everything that was read, in the order of reading; or every mistake, unknown keys included.
    pub(super) fn finish<T>(mut self, value: T) -> Result<(T, Vec<Setting>), InvalidConfig> {
        for (key, (given, origin)) in std::mem::take(&mut self.given) {
            if given.is_empty_table() && self.section(&key).next().is_some() {
                continue;
            }
            let message = self.unknown(&key);
            // An unknown key may be a misspelt secret, so its value is not shown.
            self.problems.push(Problem {
                key: match &origin {
                    Origin::Environment(name) => name.clone(),
                    _ => format!("{key} (from {origin})"),
                },
                found: None,
                message,
            });
        }
        if self.problems.is_empty() {
            Ok((value, self.settings))
        } else {
            Err(InvalidConfig(self.problems))
        }
    }

    /// The known keys below `section`, without its name.
    fn section<'a>(&'a self, section: &'a str) -> impl Iterator<Item = &'a str> {
        self.settings
            .iter()
            .filter_map(move |setting| setting.key.strip_prefix(section)?.strip_prefix('.'))
    }

    fn unknown(&self, key: &str) -> String {
        let section = key.rsplit_once('.').map_or("", |(section, _)| section);
        let siblings: Vec<_> = self.section(section).collect();
        if siblings.is_empty() {
            let mut sections: Vec<_> = self
                .settings
                .iter()
                .filter_map(|setting| setting.key.split_once('.'))
                .map(|(section, _)| section)
                .collect();
            sections.dedup();
            format!(
                "there is no such key; there is data_dir, and the sections {}",
                sections.join(", ")
            )
        } else {
            format!("there is no such key; [{section}] has {}", siblings.join(", "))
        }
    }

    /// The value of `key`, if a source has a valid one.
    fn take<T>(
        &mut self,
        key: &str,
        show: Show,
        parse: impl FnOnce(&Given) -> Result<T, String>,
    ) -> Option<(T, Origin)> {
        let (given, origin) = self.given.remove(key)?;
        match parse(&given) {
            Ok(value) => Some((value, origin)),
            Err(message) => {
                let text = match show {
                    Show::Plain => given.shown(),
                    Show::Secret => MASK.to_owned(),
                };
                let found = Some((text, origin));
                self.problems.push(Problem { key: key.to_owned(), found, message });
                None
            }
        }
    }
}

/// Whether an error may repeat a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    Plain,
    Secret,
}

/// What a table may be called that a file names.
pub(super) const NAMES: &str = "a name is 1 to 64 of a to z, 0 to 9, - and _";

pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
}

fn parse_path(given: &Given) -> Result<PathBuf, String> {
    match given.text() {
        Some(text) if !text.is_empty() => Ok(PathBuf::from(text)),
        _ => Err("must be a path".to_owned()),
    }
}

#[allow(clippy::ptr_arg, reason = "it is passed as a function of `&PathBuf`")]
fn show_path(path: &PathBuf) -> Value {
    path.display().to_string().into()
}
