//! The request that is signed or judged, independent of any HTTP framework. Everything is kept
//! as it was received: nothing is decoded, resolved or normalised here, because the signer
//! signed the bytes that it sent.

use std::borrow::Cow;

use crate::domain::SessionId;

/// The field that names a session, where neither path nor body does. It must be signed.
pub const SESSION_FIELD: &str = "x-session-id";

/// A request. It has no `Debug`: its fields may carry credentials.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Case-sensitive, as received.
    pub method: &'a str,
    pub target: Target<'a>,
    /// Name and value of each field line, in the order received; names in any case.
    pub headers: &'a [(&'a str, &'a [u8])],
    pub body: Body<'a>,
}

/// The content, if whoever judges the request gets to see it.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// All of it; empty when there is none.
    Seen(&'a [u8]),
    /// It arrives after the head is judged, and is checked then.
    Awaited {
        /// Whether the head says that there is one. It may be silent and one still arrives.
        announced: bool,
    },
    /// Somebody else receives it, and compares it with the signed `Content-Digest`.
    Unseen,
}

/// What a request's head says of the session that the request belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedSession {
    Id(SessionId),
    /// No id, or several: there is no such session.
    Unreadable,
}

impl<'a> Request<'a> {
    /// The session that the head names; `None` when it names none.
    #[must_use]
    pub fn named_session(&self) -> Option<NamedSession> {
        let mut lines = self.lines(SESSION_FIELD).map(unfold);
        let id = match (lines.next()?, lines.next()) {
            (only, None) => str::from_utf8(&only).ok().and_then(|id| SessionId::parse(id).ok()),
            (_, Some(_)) => None,
        };
        Some(id.map_or(NamedSession::Unreadable, NamedSession::Id))
    }

    /// The values of the lines of one field, in order.
    pub(super) fn lines(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(line, _)| line.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    pub(super) fn has_field(&self, name: &str) -> bool {
        self.lines(name).next().is_some()
    }

    /// The combined value of a field (RFC 9421, section 2.1): its lines without surrounding
    /// whitespace and line folding, joined by `, `. `None` when the field was not sent.
    pub(super) fn field(&self, name: &str) -> Option<Vec<u8>> {
        let mut lines = self.lines(name).map(unfold);
        let mut combined = lines.next()?.into_owned();
        for line in lines {
            combined.extend_from_slice(b", ");
            combined.extend_from_slice(&line);
        }
        Some(combined)
    }
}

/// One line of a field without surrounding whitespace, each obsolete line folding (RFC 9112,
/// section 5.2) replaced by one space.
pub(super) fn unfold(line: &[u8]) -> Cow<'_, [u8]> {
    let line = line.trim_ascii();
    if !line.contains(&b'\n') {
        return Cow::Borrowed(line);
    }
    let mut parts = line.split(|&byte| byte == b'\n');
    let mut unfolded = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        if part.starts_with(b" ") || part.starts_with(b"\t") {
            unfolded.truncate(unfolded.trim_ascii_end().len());
            unfolded.push(b' ');
            unfolded.extend_from_slice(part.trim_ascii_start());
        } else {
            // Not a folding. The line feed stays, and no signature base may have one.
            unfolded.push(b'\n');
            unfolded.extend_from_slice(part);
        }
    }
    Cow::Owned(unfolded)
}

/// Where a request goes: the parts of an `http` or `https` URL, verbatim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    scheme: &'static str,
    authority: &'a str,
    host: &'a str,
    port: &'a str,
    path: &'a str,
    query: Option<&'a str>,
}

/// The URL is not one that a request can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    #[error("must start with http:// or https://")]
    Scheme,
    #[error("must have a host, and at most a port with it: no user name, no spaces")]
    Authority,
    #[error(
        "the path must be empty or start with '/', and path and query must be visible ASCII \
         characters without '#' (percent-encode others)"
    )]
    PathAndQuery,
}

impl<'a> Target<'a> {
    /// A target from what a server receives: the scheme, the `Host` field or `:authority`, and
    /// the request line's path with query.
    ///
    /// # Errors
    /// [`InvalidTarget`] when the parts do not make an absolute `http` or `https` URL.
    pub fn new(
        scheme: &str,
        authority: &'a str,
        path_and_query: &'a str,
    ) -> Result<Self, InvalidTarget> {
        let scheme = ["http", "https"]
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(scheme))
            .ok_or(InvalidTarget::Scheme)?;
        let (host, port) = split_authority(authority).ok_or(InvalidTarget::Authority)?;
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let visible = path_and_query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        // An empty path is sent as "/" (RFC 9112, section 3.2.1).
        let path = if path.is_empty() { "/" } else { path };
        if !visible || !path.starts_with('/') {
            return Err(InvalidTarget::PathAndQuery);
        }
        Ok(Self { scheme, authority, host, port, path, query })
    }

    /// A target from a whole URL.
    ///
    /// # Errors
    /// [`InvalidTarget`] when it is no absolute `http` or `https` URL, or has a fragment, which
    /// is never sent.
    pub fn parse(url: &'a str) -> Result<Self, InvalidTarget> {
        let (scheme, rest) = url.split_once("://").ok_or(InvalidTarget::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path_and_query) = rest.split_at(end);
        Self::new(scheme, authority, path_and_query)
    }

    /// `http` or `https`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Host and port, verbatim.
    #[must_use]
    pub const fn authority(&self) -> &'a str {
        self.authority
    }

    /// The host of the authority, verbatim; an IPv6 address in brackets.
    #[must_use]
    pub const fn host(&self) -> &'a str {
        self.host
    }

    /// `/` when it was empty.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// What follows `?`, if there was one.
    #[must_use]
    pub const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The authority in lower case, without the scheme's default port (RFC 9421, section 2.2.3).
    #[must_use]
    pub fn normalized_authority(&self) -> String {
        let default = if self.scheme == "https" { Ok(443) } else { Ok(80) };
        let mut authority = self.host.to_ascii_lowercase();
        if !self.port.is_empty() && self.port.parse::<u16>() != default {
            authority.push(':');
            authority.push_str(self.port);
        }
        authority
    }

    /// The path, with `?` and the query if there was a `?`: what an HTTP/1.1 request line has.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        match self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_owned(),
        }
    }
}

impl std::fmt::Display for Target<'_> {
    /// The whole URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.path)?;
        self.query.map_or(Ok(()), |query| write!(f, "?{query}"))
    }
}

/// Host and port (RFC 3986, section 3.2, without user information).
fn split_authority(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = match authority.rsplit_once(':') {
        // The colons in brackets are an IPv6 address's.
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let host_ok = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&b))
        }
    };
    let port_ok = port.is_empty()
        || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    (host_ok && port_ok).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_and_kept_verbatim() {
        for (url, authority, path, query) in [
            ("https://a.example", "a.example", "/", None),
            ("https://a.example?q", "a.example", "/", Some("q")),
            ("http://A.example:80/%41/../b//?", "a.example", "/%41/../b//", Some("")),
            ("https://a.example:0443/", "a.example", "/", None),
            ("https://a.example:/", "a.example", "/", None),
            ("https://a.example:80/?a?b=%20+", "a.example:80", "/", Some("a?b=%20+")),
            ("http://[::1]:8080/x", "[::1]:8080", "/x", None),
        ] {
            let target = Target::parse(url).expect(url);
            assert_eq!(target.normalized_authority(), authority, "{url}");
            assert_eq!((target.path(), target.query()), (path, query), "{url}");
        }
        let verbatim = "http://A.example:80/%41/../b//?";
        assert_eq!(Target::parse(verbatim).map(|target| target.to_string()), Ok(verbatim.into()));
    }

    #[test]
    fn what_no_request_is_sent_to_is_refused() {
        for (url, error) in [
            ("a.example/", InvalidTarget::Scheme),
            ("ftp://a.example/", InvalidTarget::Scheme),
            ("https:///x", InvalidTarget::Authority),
            ("https://:80/", InvalidTarget::Authority),
            ("https://user@a.example/", InvalidTarget::Authority),
            ("https://a.example\\@b.example/", InvalidTarget::Authority),
            ("https://a example/", InvalidTarget::Authority),
            ("https://a.example:65536/", InvalidTarget::Authority),
            ("https://a.example:+80/", InvalidTarget::Authority),
            ("https://a:b:80/", InvalidTarget::Authority),
            ("https://[::1/", InvalidTarget::Authority),
            ("https://[::1]x/", InvalidTarget::Authority),
            ("https://a.example/a#b", InvalidTarget::PathAndQuery),
            ("https://a.example/a b", InvalidTarget::PathAndQuery),
            ("https://a.example/ü", InvalidTarget::PathAndQuery),
            ("https://a.example/\n", InvalidTarget::PathAndQuery),
        ] {
            assert_eq!(Target::parse(url), Err(error), "{url}");
        }
        let no_slash = Target::new("https", "a.example", "x?y");
        assert_eq!(no_slash, Err(InvalidTarget::PathAndQuery));
        assert_eq!(Target::new("https", "a.example", "*"), Err(InvalidTarget::PathAndQuery));
    }

    #[test]
    fn lines_are_unfolded() {
        for (line, unfolded) in [
            (" \tx \t", "x"),
            ("Obsolete\r\n    line folding.", "Obsolete line folding."),
            ("a \t\r\n\t b\n c", "a b c"),
            ("a\r\nb: c", "a\r\nb: c"),
            ("", ""),
        ] {
            assert_eq!(unfold(line.as_bytes()), unfolded.as_bytes(), "{line:?}");
        }
    }
}
