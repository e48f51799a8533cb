//! `[resolvers.universal]`: a Universal Resolver, for the methods that no other resolver reads.

use std::time::Duration;

use super::endpoint::Endpoint;
use crate::config::reader::{Given, Reader, Show};

/// `[resolvers.universal]`, when it has a URL.
#[derive(Debug, Clone)]
pub struct Universal {
    /// The URL before `/1.0/identifiers/`.
    pub url: Endpoint,
    /// The DID methods that it is asked for. Empty means every method.
    pub methods: Vec<String>,
    pub ttl: Duration,
    /// The time-out of one whole reading.
    pub timeout: Duration,
}

impl Universal {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let url = read_url(reader);
        let methods = read_methods(reader);
        let ttl = reader.seconds("resolvers.universal.ttl_seconds", 300, 1..=86_400);
        let timeout = reader.seconds("resolvers.universal.timeout_seconds", 10, 1..=60);
        url.map(|url| Self { url, methods, ttl, timeout })
    }
}

fn read_url(reader: &mut Reader) -> Option<Endpoint> {
    let parse = |given: &Given| match given.text() {
        Some("") => Ok(None),
        text => text
            .and_then(Endpoint::parse)
            .map(Some)
            .ok_or_else(|| format!("must be empty, or one of {}", Endpoint::ALLOWED)),
    };
    let shown =
        |url: &Option<Endpoint>| url.as_ref().map(Endpoint::to_string).unwrap_or_default().into();
    reader.value("resolvers.universal.url", Show::Secret, None, parse, shown)
}

fn read_methods(reader: &mut Reader) -> Vec<String> {
    let parse = |given: &Given| {
        let texts = if given.text() == Some("") { Some(Vec::new()) } else { given.texts() };
        texts
            .filter(|texts| texts.iter().all(|text| is_method(text)))
            .map(|texts| texts.into_iter().map(str::to_owned).collect())
            .ok_or_else(|| "must be a list of names of DID methods, such as ion or ebsi".to_owned())
    };
    let shown = |methods: &Vec<String>| methods.clone().into();
    reader.value("resolvers.universal.methods", Show::Plain, Vec::new(), parse, shown)
}

/// `method-name` of DID Core 1.0, section 3.1.
fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
