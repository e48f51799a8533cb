//! Reads a request as it is on the wire: HTTP/1.1, with lines that end in CRLF or LF. Everything is
//! kept verbatim.

use crate::signatures::Target;

/// More than any server takes.
const MAX_HEADERS: usize = 256;

pub(super) struct RawRequest {
    pub(super) method: String,
    /// The target of the request line.
    target: String,
    host: Option<String>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    /// Assumptions about what the file does not say.
    pub(super) notes: Vec<String>,
}

impl RawRequest {
    /// Reads a file. The error says what is wrong with the file, and what to do.
    pub(super) fn parse(file: &[u8]) -> Result<Self, String> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut slots);
        let body = match head.parse(file) {
            Ok(httparse::Status::Complete(length)) => file.get(length..).unwrap_or_default(),
            Ok(httparse::Status::Partial) => {
                return Err("it ends before the blank line that ends the headers: add one \
                            (a body, if any, follows it)"
                    .to_owned());
            }
            Err(error) => {
                let line = broken_line(file);
                return Err(format!(
                    "line {line}: {error}; a request is a line such as \"POST /path HTTP/1.1\", \
                     lines such as \"Host: a.example\", a blank line, and the body"
                ));
            }
        };
        let headers: Vec<_> = head
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), header.value.to_vec()))
            .collect();
        let mut notes = Vec::new();
        let body = body_of(&headers, body, &mut notes)?;
        Ok(Self {
            method: head.method.unwrap_or_default().to_owned(),
            target: head.path.unwrap_or_default().to_owned(),
            host: single(&headers, "Host")?,
            headers,
            body,
            notes,
        })
    }

    /// The URL that the request was sent to. The scheme is not on the wire, unless the request line
    /// has a whole URL.
    pub(super) fn target(&self, scheme: &str) -> Result<Target<'_>, String> {
        if self.target.contains("://") && !self.target.starts_with('/') {
            return Target::parse(&self.target).map_err(|error| format!("line 1: the URL {error}"));
        }
        let host = self.host.as_deref().ok_or("it has no Host header: add the one it had")?;
        Target::new(scheme, host, &self.target).map_err(|error| {
            format!("the request line has {:?} and Host is {host:?}: {error}", self.target)
        })
    }
}

/// The first line, counted from 1, that makes the head unreadable.
fn broken_line(file: &[u8]) -> usize {
    let mut end = 0;
    for (number, line) in file.split_inclusive(|&byte| byte == b'\n').enumerate() {
        end += line.len();
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let read = httparse::Request::new(&mut slots).parse(file.get(..end).unwrap_or_default());
        if read.is_err() {
            return number + 1;
        }
    }
    1
}

/// The body: what follows the head, cut to Content-Length.
fn body_of(
    headers: &[(String, Vec<u8>)],
    rest: &[u8],
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, String> {
    if single(headers, "Transfer-Encoding")?.is_some() {
        return Err(
            "the body is in chunks (Transfer-Encoding): save the request with the body as \
                    the application got it, and without that header"
                .to_owned(),
        );
    }
    let Some(length) = single(headers, "Content-Length")? else {
        if !rest.is_empty() {
            let length = rest.len();
            notes.push(format!(
                "there is no Content-Length: all {length} bytes after the blank line are taken \
                 as the body"
            ));
        }
        return Ok(rest.to_vec());
    };
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    let length: usize = length
        .parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| format!("Content-Length is not a number: {length:?}"))?;
    let body = rest.get(..length).ok_or_else(|| {
        format!(
            "Content-Length says {length} bytes, but only {} follow the blank line: the file is \
             cut off, or its lines were converted",
            rest.len()
        )
    })?;
    let more = rest.len() - length;
    if more > 0 {
        notes.push(format!(
            "Content-Length says {length} bytes: {more} more at the end of the file are ignored"
        ));
    }
    Ok(body.to_vec())
}

/// The value of a field that a request has at most once.
fn single(headers: &[(String, Vec<u8>)], wanted: &str) -> Result<Option<String>, String> {
    let mut values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(format!("it has {wanted} twice, so it is not clear which one counts")),
        (Some((_, value)), None) => String::from_utf8(value.trim_ascii().to_vec())
            .map(Some)
            .map_err(|_| format!("{wanted} is not ASCII")),
        (None, None) => Ok(None),
    }
}
