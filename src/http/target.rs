//! For which URL a signed request to this service is. The signer signed it, so it is taken as it
//! was received; nothing that a proxy may rewrite is trusted unless it is configured.

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::http::uri::Authority;

use super::problem::Problem;
use crate::config::{Host, Server};
use crate::domain::Code;
use crate::signatures::{InvalidTarget, Target};

/// The request's target: authority and scheme from `Host` and TLS, or from `server.public_url`.
///
/// # Errors
/// `host_not_allowed` when the request is for somebody else, or the service has no name to know
/// itself by.
pub(super) fn of<'a>(request: &'a HttpRequest, server: &'a Server) -> Result<Target<'a>, Problem> {
    let uri = request.uri();
    let path_and_query = uri.path_and_query().map_or("/", |text| text.as_str());
    if let Some(url) = &server.public_url {
        return Target::new(url.scheme, &url.authority, path_and_query).map_err(invalid);
    }
    let mut hosts = request.headers().get_all(header::HOST);
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().map_err(|_| invalid(InvalidTarget::Authority))?),
        (None, _) => None,
        (Some(_), Some(_)) => return Err(not_allowed("the request has more than one Host")),
    };
    // HTTP/2 has it in `:authority`; an HTTP/1.1 request line may have it, too.
    let authority = match (uri.authority().map(Authority::as_str), host) {
        (Some(authority), Some(host)) if authority != host => {
            return Err(not_allowed("the Host is not that of the request's URL"));
        }
        (authority, host) => {
            authority.or(host).ok_or_else(|| not_allowed("the request has no Host"))?
        }
    };
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let target = Target::new(scheme, authority, path_and_query).map_err(invalid)?;
    must_be_ours(target.host(), server)?;
    Ok(target)
}

fn must_be_ours(host: &str, server: &Server) -> Result<(), Problem> {
    let ip = server.listen.ip();
    let ours = match (Host::parse(host), &server.allowed_hosts) {
        (None, _) => false,
        (Some(host), Some(allowed)) => allowed.contains(&host),
        (Some(_), None) if ip.is_unspecified() => {
            return Err(not_allowed(
                "the service listens on all addresses and was not told its name: its operator has to set server.allowed_hosts, or server.public_url behind a proxy",
            ));
        }
        (Some(Host::Address(address)), None) => address == ip,
        (Some(Host::Name(name)), None) => name == "localhost",
    };
    if ours { Ok(()) } else { Err(not_allowed("the Host is not a name of this service")) }
}

fn not_allowed(detail: &'static str) -> Problem {
    Problem::new(Code::HostNotAllowed, detail)
}

fn invalid(error: InvalidTarget) -> Problem {
    match error {
        InvalidTarget::Scheme | InvalidTarget::Authority => {
            not_allowed("the Host is not a host with at most a port")
        }
        InvalidTarget::PathAndQuery => Problem::new(Code::SignatureInvalid, error.to_string()),
    }
}
