//! Errors as RFC 9457 `application/problem+json`: the only place that turns a failure into an
//! answer.
//!
//! A 5xx says nothing about the inside: its cause goes to the log, beside the request id, once.

mod body;

use std::borrow::Cow;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};

use super::code::Meaning;
use super::fields::FieldError;
use super::time::Time;
use crate::domain::{Binding, Code, Did, End, Session, SessionState, Timestamp};
use crate::services::{Denied, ServiceError};

pub(super) use self::body::Body;

/// The challenge of every 401 that does not make it more exact; one for signatures comes with it.
const BEARER: HeaderValue = HeaderValue::from_static(r#"Bearer realm="onceguard""#);
/// `Retry-After` in seconds, where the code has none of its own.
const RETRY_AFTER: u32 = 5;

/// A refused or failed call.
#[derive(Debug)]
pub(super) struct Problem(Box<Content>);

#[derive(Debug)]
struct Content {
    code: Code,
    status: StatusCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether a 401 asks for a token; it always asks for a signature.
    takes_token: bool,
    /// Whether a 429 or a 503 passes by itself, so that it says when to try again.
    passes: bool,
    first_used_at: Option<Timestamp>,
    end: Option<End>,
    /// For the log alone.
    cause: Option<String>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Content {
            code,
            status: Meaning::of(code).status,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            takes_token: true,
            passes: true,
            first_used_at: None,
            end: None,
            cause: None,
        }))
    }

    /// A failure inside: the caller learns the code, the log the cause.
    fn inside(code: Code, cause: Option<String>) -> Self {
        let mut problem = Self::new(code, Meaning::of(code).explanation);
        problem.0.cause = cause;
        problem
    }

    pub(super) fn internal(cause: impl Into<String>) -> Self {
        Self::inside(Code::InternalError, Some(cause.into()))
    }

    pub(super) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [] => "the request is not valid".to_owned(),
            [one] if one.pointer.is_empty() => format!("the body {}", one.detail),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} things are wrong; `errors` names each", many.len()),
        };
        let mut problem = Self::new(Code::ValidationFailed, detail);
        problem.0.errors = errors;
        problem
    }

    /// Names each change of a batch whose precondition failed.
    pub(super) fn preconditions_failed(errors: Vec<FieldError>) -> Self {
        let detail = format!("{} preconditions failed; `errors` names each", errors.len());
        let mut problem = Self::new(Code::PreconditionFailed, detail);
        problem.0.errors = errors;
        problem
    }

    /// One thing is wrong, and was seen only after everything was read.
    pub(super) fn invalid_field(pointer: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(pointer, detail)])
    }

    /// 401 for a caller without a credential that does. `error` is RFC 6750's, for a token that
    /// was there.
    pub(super) fn unauthenticated(detail: &'static str, error: Option<&'static str>) -> Self {
        let bearer = match error {
            Some("invalid_token") => {
                HeaderValue::from_static(r#"Bearer realm="onceguard", error="invalid_token""#)
            }
            Some(_) => {
                HeaderValue::from_static(r#"Bearer realm="onceguard", error="invalid_request""#)
            }
            None => BEARER,
        };
        Self::new(Code::Unauthenticated, detail).with_header(header::WWW_AUTHENTICATE, bearer)
    }

    /// A signed request that did not pass, with the code of the check, in an answer of `status`.
    pub(super) fn denied(denied: &Denied, status: impl FnOnce(Code) -> StatusCode) -> Self {
        let code = Code::from(denied);
        let mut problem = Self::new(code, denied.to_string()).with_status(status(code));
        match denied {
            Denied::Replayed { first_used_at } => problem.0.first_used_at = Some(*first_used_at),
            Denied::SessionOver(end) => problem.0.end = Some(*end),
            _ => {}
        }
        problem
    }

    /// The agent that calls has no part in the session.
    pub(super) fn not_a_party() -> Self {
        Self::new(Code::SignatureNotAParty, Denied::NotAParty.to_string())
    }

    /// Too many in a while; another try is worth it after `wait`.
    pub(super) fn rate_limited(detail: String, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_add(1);
        Self::new(Code::RateLimited, detail).with_header(header::RETRY_AFTER, seconds.into())
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// A 401 challenges for a signature alone: no token of ours would do, as when the answer is
    /// about a request to somebody else.
    pub(super) fn for_signature_alone(mut self) -> Self {
        self.0.takes_token = false;
        self
    }

    /// However long the caller waits, the same call gets the same answer.
    pub(super) fn for_good(mut self) -> Self {
        self.0.passes = false;
        self
    }

    pub(super) const fn code(&self) -> Code {
        self.0.code
    }

    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.0.status
    }

    /// A party of the session to open, or to claim in, is revoked.
    pub(super) fn party_revoked(did: &Did) -> Self {
        Self::new(Code::DidRevoked, format!("{did} is revoked"))
    }

    /// The DID that was to be changed is revoked.
    pub(super) fn did_revoked_conflict(did: &Did) -> Self {
        let mut problem =
            Self::new(Code::DidRevoked, format!("{did} is revoked, and stays as it is for ever"));
        problem.0.status = StatusCode::CONFLICT;
        problem
    }

    pub(super) fn session_not_found() -> Self {
        Self::new(Code::SessionNotFound, Meaning::of(Code::SessionNotFound).explanation)
    }

    /// 410, by what the session was when it was read; `None` while it is active.
    pub(super) fn session_over(session: &Session) -> Option<Self> {
        match session.state() {
            SessionState::Active => None,
            SessionState::Over(end) => Some(Self::over(end)),
        }
    }

    /// 410, with when and why.
    pub(super) fn over(end: End) -> Self {
        let code = Code::from(end.reason);
        let mut problem = Self::new(code, Meaning::of(code).explanation);
        problem.0.end = Some(end);
        problem
    }

    pub(super) fn replayed(first_used_at: Timestamp) -> Self {
        let code = Code::NonceReplayed;
        let mut problem = Self::new(code, Meaning::of(code).explanation);
        problem.0.first_used_at = Some(first_used_at);
        problem
    }

    /// A token that is bound to a namespace is used elsewhere.
    pub(super) fn outside(binding: &Binding) -> Self {
        let Binding { namespace, .. } = binding;
        let detail = format!(
            "the token is bound to the namespace `{namespace}`: it can only claim and read there"
        );
        Self::new(Code::Forbidden, detail)
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The answer to the request of this id; `problems` is what is before a code in the URL of its
    /// page. Logs the cause of a failure.
    pub(super) fn into_response(self, problems: &str, request_id: &str) -> HttpResponse {
        let Content {
            code,
            status,
            detail,
            errors,
            headers,
            takes_token,
            passes,
            first_used_at,
            end,
            cause,
        } = *self.0;
        let meaning = Meaning::of(code);
        if let Some(cause) = cause {
            tracing::error!(code = code.as_str(), cause, "request failed");
        }
        let mut response = HttpResponse::build(status);
        let has = |wanted| headers.iter().any(|(name, _)| name == wanted);
        let has_challenge = has(header::WWW_AUTHENTICATE);
        let has_wait = has(header::RETRY_AFTER);
        for header in headers {
            response.append_header(header);
        }
        match status {
            StatusCode::UNAUTHORIZED => {
                if takes_token && !has_challenge {
                    response.append_header((header::WWW_AUTHENTICATE, BEARER));
                }
                let signature = format!("Signature error=\"{}\"", code.as_str());
                response.append_header((header::WWW_AUTHENTICATE, signature));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
                if passes && !has_wait =>
            {
                let seconds = meaning.retry_after.unwrap_or(RETRY_AFTER);
                response.append_header((header::RETRY_AFTER, seconds));
            }
            _ => {}
        }
        let body = Body {
            kind: [problems, code.as_str()].concat(),
            title: meaning.title,
            status: status.as_u16(),
            detail: &detail,
            code: code.as_str(),
            request_id,
            errors: &errors,
            first_used_at: first_used_at.map(Time),
            ended_at: end.map(|end| Time(end.at)),
            end_reason: end.map(|end| end.reason.as_str()),
        };
        response.content_type("application/problem+json");
        match serde_json::to_vec(&body) {
            Ok(bytes) => response.body(bytes),
            Err(error) => {
                tracing::error!(%error, "a problem could not be written as JSON");
                response.finish()
            }
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        let code = Code::from(&error);
        match error {
            // Where a DID's home was asked, the log has a line already.
            ServiceError::Overloaded | ServiceError::Upstream(_) | ServiceError::NoPlace { .. } => {
                Self::inside(code, None)
            }
            ServiceError::RateLimited => {
                Self::new(code, "a caller had this DID read from its home a moment ago")
            }
            ServiceError::InvalidCursor(invalid) => {
                Self::invalid_field("cursor", invalid.to_string())
            }
            ServiceError::Store(_) | ServiceError::Internal(_) => {
                Self::inside(code, Some(error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;

    async fn answer(problem: Problem) -> (HttpResponse<()>, Value) {
        let response = problem.into_response("/problems/", "r-1");
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body).await.unwrap();
        (head.drop_body(), serde_json::from_slice(&bytes).unwrap())
    }

    #[actix_web::test]
    async fn a_validation_problem_names_each_error() {
        let error = FieldError::new("/nonce", "is missing");
        let (head, body) = answer(Problem::invalid(vec![error])).await;
        assert_eq!(head.status(), 422);
        assert_eq!(head.headers().get("content-type").unwrap(), "application/problem+json");
        assert_eq!(
            body,
            json!({
                "type": "/problems/validation_failed",
                "title": Meaning::of(Code::ValidationFailed).title,
                "status": 422,
                "detail": "/nonce: is missing",
                "code": "validation_failed",
                "request_id": "r-1",
                "errors": [{"pointer": "/nonce", "detail": "is missing"}],
            })
        );
    }

    #[actix_web::test]
    async fn an_inner_failure_keeps_its_cause_to_itself() {
        let cause = || Some("secret".to_owned());
        for (problem, status, code) in [
            (Problem::inside(Code::StorageUnavailable, cause()), 503, "storage_unavailable"),
            (Problem::inside(Code::OutcomeUnknown, cause()), 503, "outcome_unknown"),
            (Problem::from(ServiceError::Internal("secret".into())), 500, "internal_error"),
            (Problem::from(ServiceError::Upstream("secret".into())), 503, "upstream_unavailable"),
        ] {
            let (head, body) = answer(problem).await;
            assert_eq!(head.status(), status);
            assert_eq!(body["code"], code);
            assert!(!body.to_string().contains("secret"), "{body}");
            assert_eq!(head.headers().contains_key("retry-after"), status == 503);
        }
    }

    #[actix_web::test]
    async fn an_unauthenticated_call_learns_both_ways_in() {
        let (head, _) = answer(Problem::unauthenticated("no", Some("invalid_token"))).await;
        let challenges: Vec<_> = head.headers().get_all("www-authenticate").collect();
        assert_eq!(
            challenges,
            [
                r#"Bearer realm="onceguard", error="invalid_token""#,
                r#"Signature error="unauthenticated""#
            ]
        );
    }
}
