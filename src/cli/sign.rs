//! `onceguard sign`: signs one request, to try the API by hand and from scripts.

use std::io::Read as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Duration;
use clap::Args;

use super::{Failure, curl, format, key, out, profile};
use crate::clock::Clock;
use crate::config::Sources;
use crate::domain::{DidUrl, Nonce};
use crate::signatures::{Body, CannotSign, NoBase, Profile, Request, Signer, Target};

#[derive(Debug, Args)]
#[command(after_help = "Prints the header lines to send with the request. Send exactly what is \
    signed: the method, the whole URL and the body, byte for byte.\n\n\
    Examples:\n  \
    onceguard sign GET 'https://shop.example/orders?id=7' --key agent.key --curl\n  \
    onceguard sign POST http://127.0.0.1:8080/v1/sessions --body new.json \\\n    \
    --content-type application/json --key agent.key | \\\n    \
    curl --header @- --data-binary @new.json http://127.0.0.1:8080/v1/sessions")]
pub(super) struct Sign {
    /// The method, such as GET or POST
    #[arg(value_parser = parse_method)]
    method: String,
    /// The whole URL, exactly as it will be sent
    url: String,
    /// The body: a file, or - for standard input
    #[arg(long, value_name = "FILE")]
    body: Option<String>,
    /// The body's media type; a body needs one
    #[arg(long, value_name = "TYPE", value_parser = parse_value)]
    content_type: Option<String>,
    /// Another header; signed when the profile requires it. Can be given several times
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// The key to sign with, as `onceguard key new` writes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The DID URL by which others find the key [default: the key's did:key]
    #[arg(long, value_name = "DID-URL", value_parser = parse_did_url)]
    keyid: Option<DidUrl>,
    /// A profile of the configuration: onceguard, sage, or one of your own
    #[arg(long, default_value = "onceguard")]
    profile: String,
    /// How long the signature lasts, in seconds [default: as long as the profile allows]
    #[arg(long, value_name = "SECONDS", value_parser = parse_lifetime)]
    expires_in: Option<u32>,
    /// The nonce, for one request only [default: random]
    #[arg(long, value_parser = parse_nonce)]
    nonce: Option<Nonce>,
    /// Print a curl line that sends the request
    #[arg(long)]
    curl: bool,
}

impl Sign {
    pub(super) fn run(mut self, sources: &Sources) -> Result<(), Failure> {
        let target = Target::parse(&self.url)
            .map_err(|error| Failure::Usage(format!("the URL {:?} {error}", self.url)))?;
        if let Some(content_type) = self.content_type.take() {
            self.headers.insert(0, ("Content-Type".to_owned(), content_type));
        }
        refuse_twice(&self.headers)?;
        let profile = lasting(profile::find(sources, &self.profile)?, self.expires_in)?;
        let key = key::read_secret(&self.key)?;
        let key_id = match self.keyid {
            Some(keyid) => keyid,
            None => key::keyid(&key::did(key.public_key())?)?,
        };
        let nonce = self.nonce.map_or_else(random_nonce, Ok)?;
        let content = read_body(self.body.as_deref())?;

        let lines: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let body = Body::Seen(&content);
        let request = Request { method: &self.method, target, headers: &lines, body };
        let signed = Signer { key, key_id, profile }
            .sign(&request, &nonce, Clock::system().now())
            .map_err(cannot_sign)?;
        let added = signed.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers: Vec<_> = self.headers.iter().cloned().chain(added).collect();
        if self.curl {
            return out::line(curl::line(&self.method, &target, &headers, self.body.as_deref()));
        }
        headers.iter().try_for_each(|(name, value)| out::line(format!("{name}: {value}")))
    }
}

/// The profile with a shorter window, if one is asked for.
fn lasting(profile: Profile, seconds: Option<u32>) -> Result<Profile, Failure> {
    let Some(seconds) = seconds else { return Ok(profile) };
    let lifetime = Duration::seconds(seconds.into());
    if lifetime > profile.max_window {
        return Err(Failure::Usage(format!(
            "--expires-in {seconds}: the profile {} allows at most {} seconds",
            profile.name,
            profile.max_window.num_seconds()
        )));
    }
    Ok(Profile { max_window: lifetime, ..profile })
}

/// A receiver could read a repeated header in two ways, so none is signed.
fn refuse_twice(headers: &[(String, String)]) -> Result<(), Failure> {
    let count =
        |wanted: &str| headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).count();
    match ["Content-Type", "Content-Digest", "X-Session-Id"].iter().find(|name| count(name) > 1) {
        Some(name) => Err(Failure::Usage(format!("{name} is given more than once"))),
        None => Ok(()),
    }
}

fn random_nonce() -> Result<Nonce, Failure> {
    let bytes = key::random::<16>()?;
    Nonce::parse(&URL_SAFE_NO_PAD.encode(*bytes))
        .map_err(|error| Failure::Failed(error.to_string()))
}

fn read_body(file: Option<&str>) -> Result<Vec<u8>, Failure> {
    let read = match file {
        None => return Ok(Vec::new()),
        Some("-") => {
            let mut content = Vec::new();
            std::io::stdin().read_to_end(&mut content).map(|_| content)
        }
        Some(file) => std::fs::read(file),
    };
    read.map_err(|error| {
        Failure::Failed(format!("cannot read {}: {error}", file.unwrap_or_default()))
    })
}

fn cannot_sign(error: CannotSign) -> Failure {
    match error {
        CannotSign::NoBase(NoBase { ref identifier, .. }) if identifier == "\"content-type\"" => {
            Failure::Usage(
                "a body is signed with its media type: add --content-type, such as --content-type \
                 application/json"
                    .to_owned(),
            )
        }
        other => Failure::Usage(other.to_string()),
    }
}

fn parse_method(text: &str) -> Result<String, String> {
    if is_token(text) {
        Ok(text.to_owned())
    } else {
        Err("must be an HTTP method, such as GET".to_owned())
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .filter(|(name, _)| is_token(name))
        .ok_or("must be a name, a colon and a value: 'X-Session-Id: 0193…'")?;
    if name.eq_ignore_ascii_case("host") {
        return Err("is what the URL says: write it there".to_owned());
    }
    Ok((name.to_owned(), parse_value(value)?))
}

/// A header's value, without the whitespace around it.
fn parse_value(text: &str) -> Result<String, String> {
    let value = text.trim_matches([' ', '\t']);
    if value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        Ok(value.to_owned())
    } else {
        Err("must be visible ASCII characters, spaces and tabs".to_owned())
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn parse_did_url(text: &str) -> Result<DidUrl, String> {
    DidUrl::parse(text).map_err(|error| error.to_string())
}

fn parse_nonce(text: &str) -> Result<Nonce, String> {
    Nonce::parse(text).map_err(|error| error.to_string())
}

/// A number of seconds, or a duration with its unit.
fn parse_lifetime(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("must be more than zero".to_owned()),
        Ok(seconds) => Ok(seconds),
        Err(_) => format::parse_duration(text),
    }
}
