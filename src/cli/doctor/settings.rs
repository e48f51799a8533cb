//! Checks that a single key cannot show: the certificate's files, the hosts that agents can sign for, and
//! where webhooks send. `config check` makes them, too. They use neither the network nor the database.

use std::os::unix::fs::PermissionsExt as _;

use super::check::{Check, Verdict};
use crate::cli::{Failure, format, out};
use crate::clock::Clock;
use crate::config::{Config, Tls};
use crate::services::ConfiguredWebhook;
use crate::tls::Certificate;

/// A certificate that expires sooner is a warning.
const EXPIRES_SOON: chrono::Duration = chrono::Duration::days(14);

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let certificate = config.server.tls.as_ref().map(certificate);
    certificate.into_iter().chain([hosts(config)]).chain(endpoints(config)).collect()
}

/// Fails with the failures, and notes the warnings.
pub(in crate::cli) fn report(config: &Config) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for Check { verdict, detail, .. } in checks(config) {
        match verdict {
            Verdict::Ok => {}
            Verdict::Warn => out::note(format!("warning: {detail}")),
            Verdict::Fail => wrong.push(detail),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Failed(wrong.join("\n"))) }
}

fn certificate(files: &Tls) -> Check {
    const NAME: &str = "certificate";
    let certificate = match Certificate::read(files) {
        Ok(certificate) => certificate,
        Err(error) => return Check::fail(NAME, error.to_string()),
    };
    let (now, path) = (Clock::system().now(), files.cert.display());
    let (from, until) = (certificate.not_before, certificate.not_after);
    if now < from {
        let from = format::time(from);
        return Check::fail(NAME, format!("server.tls.cert: {path} is not valid before {from}"));
    }
    let detail = format!("server.tls.cert: {path} is valid until {}", format::time(until));
    if now > until {
        let until = format::time(until);
        Check::fail(NAME, format!("server.tls.cert: {path} expired at {until}; renew it"))
    } else if others_can_read(files) {
        let key = files.key.display();
        Check::warn(NAME, format!("others can read server.tls.key: run `chmod 600 {key}`"))
    } else if until - now < EXPIRES_SOON {
        Check::warn(NAME, format!("{detail}; renew it"))
    } else {
        Check::ok(NAME, detail)
    }
}

/// Its group may read it: certificate managers hand keys over in this way.
fn others_can_read(files: &Tls) -> bool {
    std::fs::metadata(&files.key).is_ok_and(|key| key.permissions().mode() & 0o007 != 0)
}

/// `None` when there is nothing to say.
fn endpoints(config: &Config) -> Option<Check> {
    let wrong = ConfiguredWebhook::all(&config.webhooks).err()?;
    Some(Check::fail("webhooks", format!("webhooks.endpoints: {wrong}")))
}

/// A signed request names the host that it is for, and the service must know that host.
fn hosts(config: &Config) -> Check {
    const NAME: &str = "hosts";
    let server = &config.server;
    if let Some(url) = &server.public_url {
        return Check::ok(NAME, format!("agents sign for {}://{}", url.scheme, url.authority));
    }
    match &server.allowed_hosts {
        Some(hosts) => {
            let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
            Check::ok(NAME, format!("agents sign for {}", hosts.join(", ")))
        }
        None if server.listen.ip().is_unspecified() => Check::warn(
            NAME,
            format!(
                "every signed request is refused: server.listen = {} names no host that agents can \
                 sign for; set server.public_url or server.allowed_hosts",
                server.listen
            ),
        ),
        None => Check::ok(NAME, format!("agents sign for {} or localhost", server.listen.ip())),
    }
}
