//! `onceguard verify`: judges a request from a file, and explains which checks passed, which one
//! failed, and what to do. It claims no nonce, so it never says that a request is accepted.

mod explain;
mod judge;
mod raw_request;
mod report;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use self::raw_request::RawRequest;
use super::{Failure, format, key, profile};
use crate::clock::Clock;
use crate::config::Sources;
use crate::domain::{Did, PublicKey, Timestamp};
use crate::resolvers::did_key;
use crate::signatures::{Body, Request};

#[derive(Debug, Args)]
#[command(after_help = "FILE is a request as it was received: the request line, the headers, a \
    blank line, the body.\nExits with 0 when every check passed, and with 1 when one failed. \
    Only the running service knows\nwhether the nonce was used before, or the key revoked. For \
    a refused signature, it shows the\nsignature base, and whether the key at hand made it.\n\n\
    Examples:\n  \
    onceguard verify request.http\n  \
    onceguard verify - --url-scheme http --at 2026-11-20T12:00:00Z < request.http\n  \
    onceguard verify request.http --key agent.pub.pem\n  \
    onceguard verify request.http --config config/production.toml --profile partners")]
pub(super) struct Verify {
    /// The request's file, or - for standard input
    file: PathBuf,
    /// The signer's key: a did:key, or a PEM file. Needed when the keyid is not a did:key
    #[arg(long, value_name = "DID|FILE")]
    key: Option<String>,
    /// A profile of the configuration: onceguard, sage, or one of your own
    #[arg(long, default_value = "onceguard")]
    profile: String,
    /// The scheme of the request's URL, which the file does not contain
    #[arg(long, value_name = "SCHEME", default_value = "https")]
    url_scheme: Scheme,
    /// Judge the request as of this time: RFC 3339, or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME", value_parser = format::parse_time)]
    at: Option<Timestamp>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Verify {
    pub(super) fn run(self, sources: &Sources) -> Result<(), Failure> {
        let profile = profile::find(sources, &self.profile)?;
        let name = self.file.display();
        let content =
            read(&self.file).map_err(|e| Failure::Failed(format!("cannot read {name}: {e}")))?;
        let unreadable =
            |problem| Failure::Failed(format!("{name} is not an HTTP request: {problem}"));
        let raw = RawRequest::parse(&content).map_err(unreadable)?;
        let target = raw.target(self.url_scheme.as_str()).map_err(unreadable)?;
        let headers: Vec<_> =
            raw.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let request =
            Request { method: &raw.method, target, headers: &headers, body: Body::Seen(&raw.body) };
        let given = self.key.as_deref().map(given_key).transpose()?;
        let now = self.at.unwrap_or_else(|| Clock::system().now());

        let judgement = judge::judge(&request, &profile, given.as_ref(), now);
        report::print(&judgement, &request, &raw.notes, self.json)?;
        match judgement.problem {
            None => Ok(()),
            Some(problem) => Err(Failure::Failed(format!("refused: {}", problem.code.as_str()))),
        }
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut content = Vec::new();
        std::io::stdin().read_to_end(&mut content)?;
        return Ok(content);
    }
    std::fs::read(file)
}

/// The key of `--key`.
fn given_key(text: &str) -> Result<PublicKey, Failure> {
    if !text.starts_with("did:") {
        return key::read_public(Path::new(text));
    }
    let wrong = |problem: String| Failure::Usage(format!("--key {text}: {problem}"));
    let did =
        Did::parse(text.split('#').next().unwrap_or(text)).map_err(|e| wrong(e.to_string()))?;
    if did.method() != did_key::METHOD {
        return Err(wrong("must be a did:key, or a PEM file with the key".to_owned()));
    }
    did_key::resolve(&did).map_err(|error| wrong(error.to_string()))
}
