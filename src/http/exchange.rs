//! What is known about the request being served, beyond its bytes: its id, its route, its caller.
//! The middleware makes one per request; handlers fill it in; the access log reads it.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest};
use uuid::Uuid;

use super::auth::Caller;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The route of a request that no route matches.
pub(super) const UNMATCHED: &str = "unmatched";

pub(super) struct Exchange {
    /// ASCII by construction.
    request_id: HeaderValue,
    route: Cell<&'static str>,
    caller: OnceCell<Caller>,
}

impl Exchange {
    /// Takes the caller's `X-Request-Id` if it is sane, else makes one.
    pub(super) fn new(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).filter(|value| is_sane(value.as_bytes()));
        let request_id = given.cloned().unwrap_or_else(|| {
            let id = Uuid::now_v7();
            let mut buffer = Uuid::encode_buffer();
            HeaderValue::from_str(id.hyphenated().encode_lower(&mut buffer))
                .unwrap_or_else(|_| HeaderValue::from_static("-"))
        });
        Self { request_id, route: Cell::new(UNMATCHED), caller: OnceCell::new() }
    }

    #[cfg(test)]
    pub(super) fn with_request_id(id: &'static str) -> Self {
        Self {
            request_id: HeaderValue::from_static(id),
            route: Cell::new(UNMATCHED),
            caller: OnceCell::new(),
        }
    }

    /// The exchange of a request; a new one where no middleware made it.
    pub(super) fn of(request: &HttpRequest) -> Rc<Self> {
        let known = request.extensions().get::<Rc<Self>>().cloned();
        known.unwrap_or_else(|| Rc::new(Self::new(request.headers())))
    }

    pub(super) fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    pub(super) fn request_id_header(&self) -> HeaderValue {
        self.request_id.clone()
    }

    pub(super) fn set_route(&self, pattern: &'static str) {
        self.route.set(pattern);
    }

    /// The matched route's pattern.
    pub(super) fn route(&self) -> &'static str {
        self.route.get()
    }

    pub(super) fn set_caller(&self, caller: Caller) {
        // A request is authenticated once.
        let _ = self.caller.set(caller);
    }

    pub(super) fn caller(&self) -> Option<&Caller> {
        self.caller.get()
    }
}

/// 1 to 128 characters that neither a log nor a header can misread.
fn is_sane(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(given: &'static str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static(given));
        Exchange::new(&headers).request_id().to_owned()
    }

    #[test]
    fn keeps_a_sane_id() {
        assert_eq!(id_for("a.B_9-z"), "a.B_9-z");
    }

    #[test]
    fn replaces_any_other_id_by_a_uuid_v7() {
        for given in [
            "",
            "a b",
            "a/b",
            "a\"b",
            concat!(
                "0123456789abcdef0123456789abcdef",
                "0123456789abcdef0123456789abcdef",
                "0123456789abcdef0123456789abcdef",
                "0123456789abcdef0123456789abcdefX"
            ),
        ] {
            let id = Uuid::parse_str(&id_for(given)).unwrap();
            assert_eq!(id.get_version_num(), 7, "{given:?}");
        }
    }
}
