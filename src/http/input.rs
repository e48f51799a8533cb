//! Everything a call was given, from path, query, headers and body, read strictly in one place:
//! what is wrong anywhere comes back in one answer, and what nobody asked for is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use super::exchange::Exchange;
use super::fields::{Fields, Invalid, mistyped, whole_text, without_duplicates};
use super::node::{Member, Node};
use super::problem::Problem;
use crate::domain::{Cursor, Did, MAX_PAGE, Metadata, PageRequest};

const DEFAULT_PAGE: u32 = 50;

pub(super) struct Input<'a> {
    request: &'a HttpRequest,
    query: Vec<Member<'a>>,
    body: Fields<'a>,
    /// What `body` was read from.
    text: &'a [u8],
    invalid: Invalid,
}

impl<'a> Input<'a> {
    pub(super) fn without_body(request: &'a HttpRequest) -> Self {
        let mut invalid = Invalid::default();
        let query = read_query(request.query_string(), &mut invalid);
        Self { request, query, body: Fields::default(), text: &[], invalid }
    }

    /// Only the path, for what is asked before the rest is read.
    pub(super) fn of_path(request: &'a HttpRequest) -> Self {
        let (query, invalid) = (Vec::new(), Invalid::default());
        Self { request, query, body: Fields::default(), text: &[], invalid }
    }

    /// # Errors
    /// `validation_failed` when the body is not an object.
    pub(super) fn with_body(
        request: &'a HttpRequest,
        body: Node<'a>,
        text: &'a [u8],
    ) -> Result<Self, Problem> {
        let body = Fields::of(body).map_err(|invalid| Problem::invalid(invalid.into_errors()))?;
        Ok(Self { body, text, ..Self::without_body(request) })
    }

    /// A segment of the path, percent-decoded once.
    pub(super) fn path<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let raw = self.segment(name);
        match percent_decode_str(raw).decode_utf8() {
            Ok(text) => self.parsed(name, parse(&text)),
            Err(_) => self.parsed(name, Err("must be UTF-8")),
        }
    }

    /// A DID in the path: taken as it stands when it starts with `did:`, percent-decoded once
    /// when its first colon is encoded. (`%3A` may be part of a DID: did:web writes a port so.)
    pub(super) fn path_did(&mut self, name: &'static str) -> Option<Did> {
        let did = did_in_path(self.segment(name));
        self.parsed(name, did)
    }

    /// A parameter of the query.
    pub(super) fn query<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let at = self.query.iter().position(|(known, _)| known == name)?;
        match self.query.swap_remove(at).1 {
            Node::Text(text) => self.parsed(name, parse(&text)),
            _ => None,
        }
    }

    /// A parameter of the query that must be there.
    pub(super) fn required_query<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.query.iter().any(|(known, _)| known == name) {
            self.refuse(name, "is missing");
        }
        self.query(name, parse)
    }

    /// Every parameter whose name begins so, without that beginning.
    pub(super) fn queries(&mut self, prefix: &str) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        self.query.retain(|(name, value)| match (name.strip_prefix(prefix), value) {
            (Some(rest), Node::Text(text)) => {
                found.insert(rest.to_owned(), text.clone().into_owned());
                false
            }
            _ => true,
        });
        found
    }

    /// `limit`.
    pub(super) fn limit(&mut self) -> u32 {
        self.query("limit", whole_text(1..=MAX_PAGE)).unwrap_or(DEFAULT_PAGE)
    }

    /// `limit` and `cursor`.
    pub(super) fn page(&mut self) -> PageRequest {
        PageRequest { limit: self.limit(), after: self.query("cursor", Cursor::parse) }
    }

    /// A header that may be there once.
    pub(super) fn header<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let header = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let mut values = self.request.headers().get_all(header);
        let value = values.next()?;
        if values.next().is_some() {
            return self.parsed(name, Err("is there more than once"));
        }
        match value.to_str() {
            Ok(text) => self.parsed(name, parse(text)),
            Err(_) => self.parsed(name, Err("must be visible ASCII")),
        }
    }

    /// A header whose values together are one list.
    pub(super) fn header_list<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let header = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let values: Vec<_> = self.request.headers().get_all(header).map(|v| v.to_str()).collect();
        if values.is_empty() {
            return None;
        }
        match values.into_iter().collect::<Result<Vec<_>, _>>() {
            Ok(values) => self.parsed(name, parse(&values.join(", "))),
            Err(_) => self.parsed(name, Err("must be visible ASCII")),
        }
    }

    /// The body's members that are not read yet.
    pub(super) const fn fields(&mut self) -> &mut Fields<'a> {
        &mut self.body
    }

    pub(super) const fn body_is_empty(&self) -> bool {
        self.body.is_empty()
    }

    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Node<'a>) -> Result<T, Invalid>,
    ) -> Option<T> {
        self.body.required(name, read)
    }

    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Node<'a>) -> Result<T, Invalid>,
    ) -> Option<T> {
        self.body.optional(name, read)
    }

    /// The body's member `metadata`, from its text: a [`Node`] has rounded its numbers.
    pub(super) fn metadata(&mut self) -> Option<Metadata> {
        #[derive(serde::Deserialize)]
        struct Body<'t> {
            #[serde(borrow)]
            metadata: Option<&'t RawValue>,
        }

        let text = self.text;
        // A member that is there twice is refused already.
        let body: serde_json::Result<Body<'_>> = serde_json::from_slice(text);
        let raw = body.map(|body| body.metadata).map_err(|error| error.to_string());
        self.body.optional("metadata", |node| metadata(&node, raw?))
    }

    /// The body as it was sent.
    pub(super) const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Refuses the input for a reason that no single field shows.
    pub(super) fn refuse(&mut self, pointer: &str, detail: impl Into<String>) {
        self.invalid.push(pointer.to_owned(), detail);
    }

    /// Refuses the input for everything that is wrong with its body, where that was read apart.
    pub(super) fn refuse_all(&mut self, of_body: Invalid) {
        self.invalid.extend("", of_body);
    }

    /// Builds the input if nothing was wrong. `build` answers `None` only when something that it
    /// needs could not be read.
    ///
    /// # Errors
    /// `validation_failed` with everything that was wrong.
    pub(super) fn finish<T>(mut self, build: impl FnOnce() -> Option<T>) -> Result<T, Problem> {
        for (name, _) in &self.query {
            self.invalid.push(name.clone().into_owned(), "is not a known parameter");
        }
        self.invalid.extend("", self.body.into_invalid());
        if !self.invalid.is_empty() {
            return Err(Problem::invalid(self.invalid.into_errors()));
        }
        build().ok_or_else(|| Problem::internal("an input is incomplete, and nothing refused it"))
    }

    fn parsed<T, E: Display>(&mut self, name: &'static str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.invalid.push(name.to_owned(), error.to_string())).ok()
    }

    /// The undecoded segment of the path that the route's pattern calls `{name}`.
    fn segment(&self, name: &str) -> &'a str {
        segment(Exchange::of(self.request).route(), self.request.uri().path(), name)
    }
}

/// Reads metadata, from the node that it is and from its text.
pub(super) fn metadata(node: &Node<'_>, text: Option<&RawValue>) -> Result<Metadata, Invalid> {
    if !matches!(node, Node::Object(_)) {
        return Err(mistyped("an object", node));
    }
    let text = text.ok_or("is missing")?;
    Metadata::parse(text).map_err(|errors| {
        let mut invalid = Invalid::default();
        for error in errors {
            invalid.push(error.pointer, error.detail);
        }
        invalid
    })
}

/// The segment of `path` that stands where `pattern` has `{name}`.
fn segment<'p>(pattern: &str, path: &'p str, name: &str) -> &'p str {
    let is_named = |(at, _): &(usize, &str)| {
        let rest = pattern.get(at + 1..).and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with('}'))
    };
    let Some((at, _)) = pattern.match_indices('{').find(is_named) else { return "" };
    let slashes = pattern.bytes().take(at).filter(|byte| *byte == b'/').count();
    path.split('/').nth(slashes).unwrap_or("")
}

fn did_in_path(raw: &str) -> Result<Did, String> {
    let encoded = raw.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("did%3a"));
    let text = if encoded {
        percent_decode_str(raw).decode_utf8().map_err(|_| "must be UTF-8".to_owned())?
    } else {
        Cow::Borrowed(raw)
    };
    Did::parse(&text).map_err(|error| error.to_string())
}

fn read_query<'a>(query: &'a str, invalid: &mut Invalid) -> Vec<Member<'a>> {
    if query.is_empty() {
        return Vec::new();
    }
    let pairs = url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| (name, Node::Text(value)))
        .collect();
    let mut twice = Invalid::default();
    let members = without_duplicates(pairs, &mut twice);
    for error in twice.into_errors() {
        invalid.push(error.pointer.trim_start_matches('/').to_owned(), error.detail);
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_found_by_its_name_in_the_pattern() {
        let pattern = "/v1/sessions/{id}/nonces/{nonce}";
        let path = "/v1/sessions/a%20b/nonces/x%2Fy";
        assert_eq!(segment(pattern, path, "id"), "a%20b");
        assert_eq!(segment(pattern, path, "nonce"), "x%2Fy");
        assert_eq!(segment(pattern, path, "did"), "");
    }

    #[test]
    fn a_did_in_a_path_is_verbatim_or_decoded_once() {
        for (raw, did) in [
            ("did:web:example.com", "did:web:example.com"),
            ("did:web:example.com%3A8443", "did:web:example.com%3A8443"),
            ("did%3Aweb%3Aexample.com", "did:web:example.com"),
            ("did%3aweb%3aexample.com%253A8443", "did:web:example.com%3A8443"),
        ] {
            assert_eq!(did_in_path(raw).unwrap().as_str(), did);
        }
        for raw in
            ["", "did", "x", "%64id:web:a", "did%253Aweb%253Aa", "did%3Aweb%3A%ff", "did%3Aé"]
        {
            assert!(did_in_path(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn a_query_names_its_duplicates() {
        let mut invalid = Invalid::default();
        let members = read_query("a=1&b=x%20y&a=2", &mut invalid);
        assert_eq!(
            members,
            [("a".into(), Node::Text("1".into())), ("b".into(), Node::Text("x y".into()))]
        );
        let errors = invalid.into_errors();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].pointer, "a");
    }
}
