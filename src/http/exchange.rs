//! What is known about the request being served, beyond its bytes: its id, its route, its caller.
//! The middleware makes one per request; handlers fill it in; the access log reads it.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse};

use super::caller::Caller;
use super::problem::Problem;
use crate::budget::Serving;
use crate::domain::Code;
use crate::origin::RequestId;
use crate::services::{ACCEPTED, Seen};

/// Where the pages of the codes are, below the service's own URL.
pub(super) const PROBLEMS: &str = "/problems/";

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The route of a request that no route matches.
pub(super) const UNMATCHED: &str = "unmatched";

pub(super) struct Exchange {
    request_id: RequestId,
    /// What is before a code in the URL of its page.
    problems: Rc<str>,
    route: Cell<&'static str>,
    caller: OnceCell<Caller>,
    serving: OnceCell<Serving>,
    code: Cell<Option<Code>>,
    seen: Seen,
}

impl Exchange {
    /// Takes the caller's `X-Request-Id` if it is sane, else makes one.
    pub(super) fn new(headers: &HeaderMap, problems: Rc<str>) -> Self {
        let given =
            headers.get(REQUEST_ID).and_then(|value| RequestId::parse(value.to_str().ok()?));
        Self {
            request_id: given.unwrap_or_else(RequestId::generate),
            problems,
            route: Cell::new(UNMATCHED),
            caller: OnceCell::new(),
            serving: OnceCell::new(),
            code: Cell::new(None),
            seen: Seen::default(),
        }
    }

    /// The exchange of a request; a new one where no middleware made it.
    pub(super) fn of(request: &HttpRequest) -> Rc<Self> {
        let known = request.extensions().get::<Rc<Self>>().cloned();
        known.unwrap_or_else(|| Rc::new(Self::new(request.headers(), PROBLEMS.into())))
    }

    pub(super) fn request_id(&self) -> &RequestId {
        &self.request_id
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

    /// Keeps the connection from being taken for a stranger's until the request was answered.
    pub(super) fn set_serving(&self, serving: Serving) {
        let _ = self.serving.set(serving);
    }

    pub(super) fn caller(&self) -> Option<&Caller> {
        self.caller.get()
    }

    /// The answer that says why the call was refused or failed.
    pub(super) fn refuse(&self, problem: Problem) -> HttpResponse {
        self.code.set(Some(problem.code()));
        problem.into_response(&self.problems, self.request_id.as_str())
    }

    /// The code of the answer's problem, else `accepted` for a signed request that was.
    pub(super) fn code(&self) -> Option<&'static str> {
        let accepted = self.seen.is_accepted().then_some(ACCEPTED);
        self.code.get().map(Code::as_str).or(accepted)
    }

    /// What was found out of the signed request, if one was judged.
    pub(super) const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether no credential of the request was found to be valid.
    pub(super) fn is_stranger(&self) -> bool {
        self.caller().is_none() && !self.seen.is_accepted()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use uuid::Uuid;

    use super::*;

    fn id_for(given: &'static str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static(given));
        Exchange::new(&headers, PROBLEMS.into()).request_id().as_str().to_owned()
    }

    #[test]
    fn keeps_a_sane_id_and_replaces_any_other_by_a_uuid_v7() {
        assert_eq!(id_for("a.B_9-z"), "a.B_9-z");
        for given in ["", "a b", "a/b", "a\"b"] {
            let id = Uuid::parse_str(&id_for(given)).unwrap();
            assert_eq!(id.get_version_num(), 7, "{given:?}");
        }
    }
}
