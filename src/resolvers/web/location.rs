//! Where the document of a did:web is (W3C CCG did:web method, "Read (Resolve)").

use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::Host;
use crate::domain::Did;

/// The URL that a did:web stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) url: Url,
    pub(super) host: Host,
    port: u16,
}

/// The DID is not a valid did:web.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidLocation {
    #[error("a did:web starts with a domain name, then perhaps %3A and a port (1 to 65535)")]
    Host,
    #[error("a did:web names no IP address")]
    Address,
    #[error("the parts of a did:web's path are not empty, `.` or `..`, and hold no slash")]
    Path,
}

impl Location {
    /// Reads a did:web. The method has no IP addresses; they are accepted if `addresses` is set.
    ///
    /// The host's case does not matter, as in every domain name (RFC 4343). All spellings lead to
    /// one document, whose `id` says which spelling is the DID.
    ///
    /// # Errors
    /// [`InvalidLocation`].
    pub(super) fn of(did: &Did, addresses: bool) -> Result<Self, InvalidLocation> {
        let mut parts = did.method_specific_id().split(':');
        let (name, port) = authority(parts.next().unwrap_or_default())?;
        let host = host(name)?;
        if matches!(host, Host::Address(_)) && !addresses {
            return Err(InvalidLocation::Address);
        }
        let mut path = parts.map(part).collect::<Result<Vec<_>, _>>()?.join("/");
        if path.is_empty() {
            path.push_str(".well-known");
        }
        let url = Url::parse(&format!("https://{host}:{port}/{path}/did.json"))
            .map_err(|_| InvalidLocation::Host)?;
        Ok(Self { url, host, port })
    }

    /// Host and port.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The name and the port.
fn authority(text: &str) -> Result<(&str, u16), InvalidLocation> {
    let Some((name, port)) = text.split_once("%3A").or_else(|| text.split_once("%3a")) else {
        return Ok((text, 443));
    };
    let is_number = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_number).ok_or(InvalidLocation::Host)?;
    Ok((name, port))
}

/// Only addresses in their usual form: in a URL, `127.1` and `0x7f.1` also mean 127.0.0.1.
fn host(text: &str) -> Result<Host, InvalidLocation> {
    let text = text.to_ascii_lowercase();
    match url::Host::parse(&text) {
        Ok(url::Host::Ipv4(address)) if address.to_string() == text => {
            Ok(Host::Address(address.into()))
        }
        Ok(url::Host::Domain(name)) if name == text && is_domain_name(&text) => {
            Ok(Host::Name(text))
        }
        _ => Err(InvalidLocation::Host),
    }
}

/// RFC 1123, section 2.1, and the lengths of RFC 1035, section 2.3.4.
fn is_domain_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// One part of the path, in the form that the URL has, too.
fn part(text: &str) -> Result<&str, InvalidLocation> {
    let decoded: Vec<u8> = percent_decode_str(text).collect();
    let is_special = matches!(decoded.as_slice(), b"" | b"." | b"..");
    let is_clean = |byte: &u8| !byte.is_ascii_control() && !b"/\\".contains(byte);
    if !is_special && decoded.iter().all(is_clean) { Ok(text) } else { Err(InvalidLocation::Path) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn location(id: &str, addresses: bool) -> Result<Location, InvalidLocation> {
        Location::of(&Did::parse(&format!("did:web:{id}")).expect("a DID"), addresses)
    }

    #[test]
    fn a_did_leads_to_a_url() {
        for (id, url, authority) in [
            // The specification's.
            (
                "w3c-ccg.github.io",
                "https://w3c-ccg.github.io/.well-known/did.json",
                "w3c-ccg.github.io:443",
            ),
            (
                "w3c-ccg.github.io:user:alice",
                "https://w3c-ccg.github.io/user/alice/did.json",
                "w3c-ccg.github.io:443",
            ),
            (
                "example.com%3A3000",
                "https://example.com:3000/.well-known/did.json",
                "example.com:3000",
            ),
            (
                "example.com%3A3000:user:alice",
                "https://example.com:3000/user/alice/did.json",
                "example.com:3000",
            ),
            // Ours.
            ("a.example%3a1", "https://a.example:1/.well-known/did.json", "a.example:1"),
            ("a.example%3A443", "https://a.example/.well-known/did.json", "a.example:443"),
            ("a.example%3A65535:x", "https://a.example:65535/x/did.json", "a.example:65535"),
            ("Agents.EXAMPLE:Alice", "https://agents.example/Alice/did.json", "agents.example:443"),
            (
                "xn--bcher-kva.example:b",
                "https://xn--bcher-kva.example/b/did.json",
                "xn--bcher-kva.example:443",
            ),
            ("localhost:.well-known", "https://localhost/.well-known/did.json", "localhost:443"),
            (
                "a.example:a%20b:%40c:...",
                "https://a.example/a%20b/%40c/.../did.json",
                "a.example:443",
            ),
            ("3com.example", "https://3com.example/.well-known/did.json", "3com.example:443"),
        ] {
            let location = location(id, false).expect(id);
            assert_eq!(
                (location.url.as_str(), location.authority().as_str()),
                (url, authority),
                "{id}"
            );
        }
    }

    #[test]
    fn what_is_no_did_web_is_refused() {
        let long = format!("{}.example", "a".repeat(64));
        let longer = "abcdefgh.".repeat(28) + "abc";
        for host in [
            "%3A443",
            "a.example%3A",
            "a.example%3A0",
            "a.example%3A080",
            "a.example%3A65536",
            "a.example%3A-1",
            "a.example%3A80%3A80",
            "a.example%3A8a",
            "user%40a.example",
            "user%3Apass%40a.example",
            "a.example%2Fx",
            "a.example%23",
            "a.example%3Fx",
            "a%2Eexample",
            "a..example",
            ".example",
            "a.example.",
            "-a.example",
            "a-.example",
            "a_b.example",
            "xn--a",
            "%5B%3A%3A1%5D",
            "1.2.3",
            "127.1",
            "0x7f.1",
            "0x7f000001",
            "2130706433",
            "127.0.0.01",
            "127.0.0.256",
            "a.1",
            &long,
            &longer,
        ] {
            assert_eq!(location(host, true), Err(InvalidLocation::Host), "{host}");
            assert_eq!(location(&format!("{host}:x"), true), Err(InvalidLocation::Host), "{host}");
        }
        for path in [
            ":x", "x::y", ".", "..", "x:..:y", "%2e%2E", ".%2e", "%2E", "x%2Fy", "x%2fy", "x%5Cy",
            "x%00", "x%0D%0A", "x%7F",
        ] {
            assert_eq!(
                location(&format!("a.example:{path}"), false),
                Err(InvalidLocation::Path),
                "{path}"
            );
        }
    }

    #[test]
    fn addresses_are_no_domain_names() {
        for address in ["127.0.0.1", "8.8.8.8", "127.0.0.1%3A8443"] {
            assert_eq!(location(address, false), Err(InvalidLocation::Address), "{address}");
        }
        let location = location("127.0.0.1%3A8443:x", true).expect("a location");
        assert_eq!(location.url.as_str(), "https://127.0.0.1:8443/x/did.json");
        assert_eq!(location.host, Host::Address([127, 0, 0, 1].into()));
    }

    proptest! {
        /// The URL's parser changes nothing that the DID says.
        #[test]
        fn the_url_is_the_did_s_text(id in "([a-z0-9.-]|%[0-9A-F]{2}){1,12}(%3A[0-9]{1,5})?(:([A-Za-z0-9._-]|%[0-9a-fA-F]{2}){0,4}){0,3}") {
            let Ok(did) = Did::parse(&format!("did:web:{id}")) else { return Ok(()) };
            let Ok(location) = Location::of(&did, false) else { return Ok(()) };
            let (host, path) = id.split_once(':').unwrap_or((&id, ".well-known"));
            let host = host.replace("%3A443", "").replace("%3A", ":");
            let url = format!("https://{host}/{}/did.json", path.replace(':', "/"));
            prop_assert_eq!(location.url.as_str(), url);
        }
    }
}
