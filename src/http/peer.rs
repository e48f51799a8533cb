//! Which address a request comes from. It is the connection's, or, behind a proxy that the
//! configuration trusts, the one that the proxy names. What anyone else writes into
//! `X-Forwarded-For` is never believed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderMap, HeaderName};

use crate::config::Server;
use crate::domain::Peer;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The peer of a request whose credential is not checked yet.
pub(super) fn of(request: &HttpRequest, server: &Server) -> Peer {
    Peer::of_address(address(request, server))
}

/// The address that a request comes from.
pub(super) fn address(request: &HttpRequest, server: &Server) -> IpAddr {
    let connection = connection(request);
    forwarded(connection, request.headers(), server).unwrap_or(connection)
}

/// The peer behind a trusted proxy; `None` when the connection is not such a proxy's.
pub(super) fn behind_proxy(request: &HttpRequest, server: &Server) -> Option<Peer> {
    forwarded(connection(request), request.headers(), server).map(Peer::of_address)
}

fn connection(request: &HttpRequest) -> IpAddr {
    // Both listeners are TCP, so there always is an address.
    let address = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
    address.to_canonical()
}

/// Each proxy adds the address that it was called from at the end. So from the end on, every
/// address is true as long as the one after it is a trusted proxy's; the first that is not trusted
/// is who called. What is no address was not written by a trusted proxy: the proxy that passed it
/// on is taken for the caller.
fn forwarded(connection: IpAddr, headers: &HeaderMap, server: &Server) -> Option<IpAddr> {
    if !server.trusts(connection) {
        return None;
    }
    let mut caller = connection;
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).collect();
    'lines: for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else { break };
        for entry in line.rsplit(',') {
            let Some(address) = parse(entry.trim()) else { break 'lines };
            caller = address;
            if !server.trusts(caller) {
                break 'lines;
            }
        }
    }
    Some(caller)
}

/// An address, with or without a port.
fn parse(entry: &str) -> Option<IpAddr> {
    let unbracketed = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = unbracketed.unwrap_or(entry).parse().ok();
    let address = address.or_else(|| entry.parse().ok().map(|address: SocketAddr| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn server() -> Server {
        Server {
            trusted_proxies: ["10.0.0.0/8", "2001:db8:1::/48"]
                .into_iter()
                .map(|network| network.parse().unwrap())
                .collect(),
            ..Server::for_tests()
        }
    }

    fn peer(connection: &str, lines: &[&str]) -> String {
        let server = server();
        let mut request = TestRequest::default();
        request = request.peer_addr(SocketAddr::new(connection.parse().unwrap(), 1));
        for line in lines {
            request = request.append_header((FORWARDED_FOR, *line));
        }
        address(&request.to_http_request(), &server).to_string()
    }

    #[test]
    fn a_stranger_is_its_connection_whatever_it_writes() {
        assert_eq!(peer("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(peer("::ffff:192.0.2.1", &["10.0.0.1, 198.51.100.1"]), "192.0.2.1");
    }

    #[test]
    fn behind_a_trusted_proxy_it_is_the_last_untrusted_address() {
        for (lines, expected) in [
            (&["198.51.100.1"][..], "198.51.100.1"),
            (&["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
            (&["203.0.113.9, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            (&["203.0.113.9, 198.51.100.1,10.0.0.2", " 10.0.0.3 "], "198.51.100.1"),
            (&["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
            (&["198.51.100.1:4711, 10.0.0.2:80"], "198.51.100.1"),
            (&["2001:db8:2::1, [2001:db8:1::1]"], "2001:db8:2::1"),
            (&["[2001:db8:2::1]:4711"], "2001:db8:2::1"),
            (&["::ffff:198.51.100.1"], "198.51.100.1"),
            // A client within the trusted networks.
            (&["10.1.1.1, 10.0.0.2"], "10.1.1.1"),
        ] {
            assert_eq!(peer("10.0.0.1", lines), expected, "{lines:?}");
            assert_eq!(peer("::ffff:10.0.0.1", lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn where_no_address_is_told_it_is_the_proxy_itself() {
        for lines in
            [&[][..], &[""], &["unknown"], &["198.51.100.1, unknown"], &["198.51.100.1,"], &["a b"]]
        {
            assert_eq!(peer("10.0.0.1", lines), "10.0.0.1", "{lines:?}");
        }
        assert_eq!(peer("10.0.0.1", &["198.51.100.1, _hidden, 10.0.0.2"]), "10.0.0.2");
    }

    /// On an IPv6 listener, IPv4 connections have mapped addresses.
    #[test]
    fn a_connection_is_a_proxys_or_a_peers_in_either_form() {
        for (address, peer) in [
            ("10.0.0.1", None),
            ("::ffff:10.0.0.1", None),
            ("2001:db8:1::1", None),
            ("192.0.2.1", Some("192.0.2.1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
        ] {
            let expected = peer.map(|peer| Peer::of_address(peer.parse().unwrap()));
            let peer = server().peer_of_connection(address.parse().unwrap());
            assert_eq!(peer, expected, "{address}");
        }
    }
}
