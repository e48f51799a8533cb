//! The access log: one line per request (target `onceguard::access`), which says who called and
//! what came of it. It never has bodies, headers, queries, tokens or nonces. Requests without a
//! valid credential have a bounded number of lines.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::ServiceResponse;
use prometheus::IntCounter;

use super::caller::Caller;
use super::exchange::{Exchange, UNMATCHED};
use super::{peer, routes};
use crate::config::Server;
use crate::domain::{Did, Peer};

/// Of the lines that strangers may have, one peer may have this part.
const SHARE: u32 = 10;

/// Bounds the lines about requests without a valid credential, in all and per peer.
pub struct StrangersLines {
    per_second: u32,
    per_peer: u32,
    dropped: IntCounter,
    second: Mutex<Second>,
}

/// The lines since then.
struct Second {
    began: Instant,
    lines: u32,
    /// Every peer has at least one line, so that there are no more peers than lines.
    peers: HashMap<Peer, u32>,
}

impl StrangersLines {
    #[must_use]
    pub fn new(per_second: u32, dropped: IntCounter) -> Self {
        let second = Second { began: Instant::now(), lines: 0, peers: HashMap::new() };
        let per_peer = (per_second / SHARE).max(1);
        Self { per_second, per_peer, dropped, second: Mutex::new(second) }
    }

    fn admit(&self, peer: Peer, now: Instant) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(second.began) >= Duration::from_secs(1) {
            second.began = now;
            second.lines = 0;
            second.peers.clear();
        }
        let own = second.peers.get(&peer).copied().unwrap_or_default();
        let admitted = second.lines < self.per_second && own < self.per_peer;
        if admitted {
            second.lines += 1;
            second.peers.insert(peer, own + 1);
        } else {
            self.dropped.inc();
        }
        admitted
    }
}

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
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::metrics::Metrics;

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

    fn peer(number: u8) -> Peer {
        Peer::of_address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)))
    }

    #[test]
    fn strangers_have_so_many_lines_a_second_and_one_peer_a_tenth() {
        let dropped = Metrics::new().unwrap().log_lines_dropped.strangers;
        let lines = StrangersLines::new(50, dropped.clone());
        let start = Instant::now();
        let admitted = |peers: std::ops::Range<u8>, now| {
            let asks = peers.flat_map(|number| [peer(number); 20]);
            asks.filter(|peer| lines.admit(*peer, now)).count()
        };
        assert_eq!(admitted(0..1, start), 5);
        assert_eq!(admitted(0..200, start), 45);
        assert_eq!(dropped.get(), 15 + 4000 - 45);
        assert!(lines.second.lock().unwrap().peers.len() <= 50);
        assert_eq!(admitted(0..200, start + Duration::from_millis(900)), 0);
        assert_eq!(admitted(0..200, start + Duration::from_secs(1)), 50);
    }

    #[test]
    fn a_peer_always_has_a_line() {
        let lines = StrangersLines::new(3, Metrics::new().unwrap().log_lines_dropped.strangers);
        let now = Instant::now();
        let admitted = [0, 0, 1, 1, 2, 3].map(|number| lines.admit(peer(number), now));
        assert_eq!(admitted, [true, false, true, false, true, false]);
    }
}
