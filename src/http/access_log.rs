//! The access log: one line per request (target `onceguard::access`), which says who called and
//! what came of it. It never has bodies, headers, queries, tokens or nonces. Requests without a
//! valid credential have a bounded number of lines.

use std::time::{Duration, Instant};

use actix_web::dev::ServiceResponse;

use super::caller::Caller;
use super::exchange::{Exchange, UNMATCHED};
use super::strangers_lines::StrangersLines;
use super::{peer, routes};
use crate::config::Server;
use crate::domain::Did;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    Api {
        tls: bool,
    },
    /// Probes and scrapes: not counted, and logged at debug level.
    Ops,
}

pub(super) fn log<B>(
    response: &ServiceResponse<B>,
    exchange: &Exchange,
    took: Duration,
    listener: Listener,
    strangers: &StrangersLines,
    server: &Server,
) {
    let request = response.request();
    let seen = exchange.seen();
    let is_stranger = exchange.is_stranger();
    let peer = (is_stranger || seen.profile().is_some()).then(|| match exchange.caller() {
        Some(caller) => caller.peer(request, server),
        None => peer::of(request, server),
    });
    /// `tracing` fixes a level per call site.
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "onceguard::access",
                method = request.method().as_str(),
                route = exchange.route(),
                path = loggable(exchange.route(), request.uri().path()),
                status = response.status().as_u16(),
                duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                caller = exchange.caller().map(Caller::name),
                code = exchange.code(),
                profile = seen.profile(),
                signer = seen.signer().map(Did::as_str),
                peer = peer.map(tracing::field::display),
                "request"
            )
        };
    }
    match listener {
        Listener::Api { .. } => {
            if let Some(peer) = peer
                && is_stranger
                && !strangers.admit(peer, Instant::now())
            {
                return;
            }
            line!(info);
        }
        Listener::Ops => line!(debug),
    }
}

/// What of a path is no secret. A nonce is one. So may be the rest of a path that a proxy asks
/// about, and all of a path that no route matches, such as one with a nonce and a slash too many:
/// of that, only the part that some route begins with is logged.
fn loggable<'a>(route: &str, path: &'a str) -> &'a str {
    if route == UNMATCHED {
        return routes::known_part(path);
    }
    match route.split('/').position(|segment| ["{nonce}", "{tail:.*}"].contains(&segment)) {
        Some(secret) => routes::first_segments(path, secret),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_path_is_logged() {
        let nonce = "/v1/sessions/{id}/nonces/{nonce}";
        let forward_auth = "/v1/forward-auth/{tail:.*}";
        for (route, path, logged) in [
            (nonce, "/v1/sessions/s/nonces/secret", "/v1/sessions/s/nonces/"),
            (nonce, "/v1/sessions/s/%6Eonces/secret", "/v1/sessions/s/%6Eonces/"),
            ("/v1/sessions/{id}/nonces", "/v1/sessions/s/nonces", "/v1/sessions/s/nonces"),
            ("/v1/dids/{did}", "/v1/dids/did:web:a", "/v1/dids/did:web:a"),
            (forward_auth, "/v1/forward-auth/reset/secret", "/v1/forward-auth/"),
            ("/v1/forward-auth", "/v1/forward-auth", "/v1/forward-auth"),
            (UNMATCHED, "/v1/sessions/s/nonces/secret/", "/v1/sessions/"),
            (UNMATCHED, "/v1/sessions/s/nonces/secret/more", "/v1/sessions/"),
            (UNMATCHED, "/v1//sessions/s/nonces/secret", "/v1/"),
            (UNMATCHED, "//v1/sessions/s/nonces/secret", "/"),
            (UNMATCHED, "/V1/sessions/s/nonces/secret", "/"),
            (UNMATCHED, "/v1/Sessions/s/nonces/secret", "/v1/"),
            (UNMATCHED, "/v1/sessions/s/nonce/secret", "/v1/sessions/"),
            (UNMATCHED, "/v1%2Fsessions%2Fs%2Fnonces%2Fsecret", "/"),
            (UNMATCHED, "/v1/forward-authsecret", "/v1/"),
            (UNMATCHED, "/v1/claims/secret", "/v1/claims/"),
            (UNMATCHED, "/v1/sessions/{id}/secret", "/v1/sessions/"),
            (UNMATCHED, "/v1/claims/", "/v1/claims/"),
            (UNMATCHED, "/secret", "/"),
            (UNMATCHED, "/", "/"),
            (UNMATCHED, "*", ""),
            (UNMATCHED, "", ""),
        ] {
            assert_eq!(loggable(route, path), logged, "{route} {path}");
        }
    }
}
