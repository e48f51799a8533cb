//! Errors as RFC 9457 `application/problem+json`: one exhaustive table from code to status, title
//! and text, and the only place that turns a failure into an answer.
//!
//! A 5xx says nothing about the inside: its cause goes to the log, beside the request id, once.

use std::borrow::Cow;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::exchange::Exchange;
use super::values::Time;
use crate::domain::{Did, EndReason, Session, SessionState, Timestamp};
use crate::services::ServiceError;
use crate::storage::StoreError;

/// Every way in which a call can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    Unauthenticated,
    Forbidden,
    DidRevoked,
    SessionNotFound,
    DidNotFound,
    NonceUnused,
    NotFound,
    MethodNotAllowed,
    PreconditionFailed,
    NonceReplayed,
    SessionExists,
    SessionEnded,
    SessionExpired,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationFailed,
    DidUnresolvable,
    ClaimQuotaReached,
    StorageUnavailable,
    Overloaded,
    OutcomeUnknown,
    InternalError,
}

/// What is said about a code, in answers and on its page.
pub(super) struct Meaning {
    pub(super) word: &'static str,
    pub(super) status: StatusCode,
    pub(super) title: &'static str,
    pub(super) explanation: &'static str,
    pub(super) remedy: &'static str,
    /// `Retry-After`, in seconds.
    pub(super) retry_after: Option<u32>,
}

impl Code {
    pub(super) const ALL: [Self; 23] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::DidRevoked,
        Self::SessionNotFound,
        Self::DidNotFound,
        Self::NonceUnused,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::PreconditionFailed,
        Self::NonceReplayed,
        Self::SessionExists,
        Self::SessionEnded,
        Self::SessionExpired,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::ValidationFailed,
        Self::DidUnresolvable,
        Self::ClaimQuotaReached,
        Self::StorageUnavailable,
        Self::Overloaded,
        Self::OutcomeUnknown,
        Self::InternalError,
    ];

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.meaning().word == word)
    }

    pub(super) const fn meaning(self) -> Meaning {
        let (word, status, title, explanation, remedy) = match self {
            Self::InvalidRequest => (
                "invalid_request",
                StatusCode::BAD_REQUEST,
                "The body is not JSON",
                "The request's body could not be read, or is not a JSON text in UTF-8.",
                "Send one complete JSON value (RFC 8259).",
            ),
            Self::Unauthenticated => (
                "unauthenticated",
                StatusCode::UNAUTHORIZED,
                "No valid credential",
                "The request carries no credential, or one that is unknown, expired or revoked.",
                "Send Authorization: Bearer with a token made by `onceguard token create`.",
            ),
            Self::Forbidden => (
                "forbidden",
                StatusCode::FORBIDDEN,
                "Not allowed",
                "The caller is known, and may not do this.",
                "Use a token with the scope that the detail names, or the way that it names.",
            ),
            Self::DidRevoked => (
                "did_revoked",
                StatusCode::FORBIDDEN,
                "The DID is revoked",
                "A DID in this request was revoked. A revocation is final: nothing that needs the DID is done any more.",
                "Use another DID. The status is 409 where the DID itself was to be changed.",
            ),
            Self::SessionNotFound => (
                "session_not_found",
                StatusCode::NOT_FOUND,
                "No such session",
                "There is no session with this id, or it ended so long ago that its record is gone.",
                "Check the id; open a session.",
            ),
            Self::DidNotFound => (
                "did_not_found",
                StatusCode::NOT_FOUND,
                "No such DID",
                "The DID is not stored here, and no resolver knows it.",
                "Check the DID; store its key with PUT /v1/dids/{did}.",
            ),
            Self::NonceUnused => (
                "nonce_unused",
                StatusCode::NOT_FOUND,
                "The nonce was not used",
                "Nobody has claimed this nonce in this session so far. Somebody may do so at any moment.",
                "Claim the nonce to use it: this answer is no licence to act.",
            ),
            Self::NotFound => (
                "not_found",
                StatusCode::NOT_FOUND,
                "Not found",
                "There is nothing at this path, or the thing has no such part.",
                "Compare the path with /openapi.json.",
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
                "The path exists, but not with this method.",
                "Use a method that the Allow header names.",
            ),
            Self::PreconditionFailed => (
                "precondition_failed",
                StatusCode::PRECONDITION_FAILED,
                "The session was changed meanwhile",
                "The session does not have an ETag that If-Match names. Nothing was changed.",
                "Read the session again, and repeat the change with its new ETag.",
            ),
            Self::NonceReplayed => (
                "nonce_replayed",
                StatusCode::CONFLICT,
                "The nonce was used before",
                "This nonce was already accepted in this scope. Whoever sends it again replays.",
                "Refuse the message that carries it. To send a new message, take a new random nonce.",
            ),
            Self::SessionExists => (
                "session_exists",
                StatusCode::CONFLICT,
                "The session id is taken",
                "A session with this id exists, or ended too recently for its id to be used again.",
                "Choose another id, or leave it out.",
            ),
            Self::SessionEnded => (
                "session_ended",
                StatusCode::GONE,
                "The session has ended",
                "The session was ended: by a call, by the revocation of a party, or by a restore.",
                "Open a new session.",
            ),
            Self::SessionExpired => (
                "session_expired",
                StatusCode::GONE,
                "The session has expired",
                "The session passed its expiry, or nobody used it for longer than its idle timeout.",
                "Open a new session.",
            ),
            Self::PayloadTooLarge => (
                "payload_too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The body is too large",
                "A request's body may have 262144 bytes (256 KiB).",
                "Send less at once: split a batch.",
            ),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The body is not declared as JSON",
                "The Content-Type is not application/json, or the body is compressed.",
                "Send Content-Type: application/json, and no Content-Encoding.",
            ),
            Self::ValidationFailed => (
                "validation_failed",
                StatusCode::UNPROCESSABLE_ENTITY,
                "Something in the request is not as it must be",
                "Something is missing, unknown, there twice, of the wrong type or out of range. `errors` names each, by JSON pointer (RFC 6901) into the body or by the name of the parameter or header. Nothing was changed.",
                "Correct what `errors` names.",
            ),
            Self::DidUnresolvable => (
                "did_unresolvable",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The DID cannot be resolved",
                "The DID is well-formed, but cannot be read as its method asks, or gives no key that can be used.",
                "Check the DID and what its owner publishes.",
            ),
            Self::ClaimQuotaReached => (
                "claim_quota_reached",
                StatusCode::TOO_MANY_REQUESTS,
                "No more claims",
                "The session has used all of its max_claims, or the signer holds as many live nonces as it may.",
                "Open a new session, or wait until the signer's nonces expire. Nothing is evicted to make room.",
            ),
            Self::StorageUnavailable => (
                "storage_unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "The database cannot be reached",
                "The service cannot say anything safely without its database. Nothing was changed.",
                "Repeat the request after Retry-After. Treat a claim as not accepted.",
            ),
            Self::Overloaded => (
                "overloaded",
                StatusCode::SERVICE_UNAVAILABLE,
                "Too much at once",
                "More claims are waiting than the service takes. Nothing was changed.",
                "Repeat the request after Retry-After, more slowly.",
            ),
            Self::OutcomeUnknown => (
                "outcome_unknown",
                StatusCode::SERVICE_UNAVAILABLE,
                "It is not known whether it happened",
                "The change was sent to the database, and the connection died before its answer.",
                "Treat a claim as not accepted. With the Idempotency-Key of the first try, a repeat within 10 minutes gets the true outcome.",
            ),
            Self::InternalError => (
                "internal_error",
                StatusCode::INTERNAL_SERVER_ERROR,
                "The service failed",
                "Something happened that should not. The service's log has it, beside the request id.",
                "Give the operator the request id.",
            ),
        };
        let retry_after = match self {
            Self::ClaimQuotaReached => Some(60),
            Self::StorageUnavailable => Some(5),
            Self::Overloaded | Self::OutcomeUnknown => Some(1),
            _ => None,
        };
        Meaning { word, status, title, explanation, remedy, retry_after }
    }
}

/// One thing that is wrong in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldError {
    /// A JSON pointer into the body, or the name of a parameter or header.
    pub(super) pointer: String,
    /// What is wrong, and what is allowed.
    pub(super) detail: String,
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body<'a> {
    /// The page of the code.
    #[serde(rename = "type")]
    #[schema(example = "/problems/validation_failed")]
    kind: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    /// With `validation_failed`.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, required = false)]
    errors: &'a [FieldError],
    /// With `nonce_replayed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    first_used_at: Option<Time>,
    /// With `session_ended` and `session_expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ended_at: Option<Time>,
    /// With `session_ended` and `session_expired`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    end_reason: Option<&'a str>,
}

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
    first_used_at: Option<Timestamp>,
    ended: Option<(Timestamp, EndReason)>,
    /// For the log alone.
    cause: Option<String>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Content {
            code,
            status: code.meaning().status,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            first_used_at: None,
            ended: None,
            cause: None,
        }))
    }

    /// A failure inside: the caller learns the code, the log the cause.
    fn inside(code: Code, cause: Option<String>) -> Self {
        let mut problem = Self::new(code, code.meaning().explanation);
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

    /// One thing is wrong, and was seen only after everything was read.
    pub(super) fn invalid_field(pointer: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError { pointer: pointer.to_owned(), detail: detail.into() }])
    }

    /// 401, with a challenge for each way to authenticate. `error` is RFC 6750's, for a
    /// credential that was there and did not do.
    pub(super) fn unauthenticated(detail: &'static str, error: Option<&'static str>) -> Self {
        let bearer = match error {
            Some("invalid_token") => r#"Bearer realm="onceguard", error="invalid_token""#,
            Some(_) => r#"Bearer realm="onceguard", error="invalid_request""#,
            None => r#"Bearer realm="onceguard""#,
        };
        Self::new(Code::Unauthenticated, detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(bearer))
            .with_header(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(r#"Signature error="unauthenticated""#),
            )
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
        Self::new(Code::SessionNotFound, Code::SessionNotFound.meaning().explanation)
    }

    /// 410, by what the session was when it was read; `None` while it is active.
    pub(super) fn session_over(session: &Session) -> Option<Self> {
        match session.state() {
            SessionState::Active => None,
            SessionState::Expired { at, reason } => {
                Some(Self::over(Code::SessionExpired, at, reason))
            }
            SessionState::Ended { at, reason } => Some(Self::over(Code::SessionEnded, at, reason)),
        }
    }

    /// 410, with when and why.
    pub(super) fn over(code: Code, at: Timestamp, reason: EndReason) -> Self {
        let mut problem = Self::new(code, code.meaning().explanation);
        problem.0.ended = Some((at, reason));
        problem
    }

    pub(super) fn replayed(first_used_at: Timestamp) -> Self {
        let code = Code::NonceReplayed;
        let mut problem = Self::new(code, code.meaning().explanation);
        problem.0.first_used_at = Some(first_used_at);
        problem
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The answer. Logs the cause of a failure.
    pub(super) fn respond(self, exchange: &Exchange) -> HttpResponse {
        let Content { code, status, detail, errors, headers, first_used_at, ended, cause } =
            *self.0;
        let meaning = code.meaning();
        let request_id = exchange.request_id();
        if let Some(cause) = cause {
            tracing::error!(request_id, code = meaning.word, cause, "request failed");
        }
        let mut response = HttpResponse::build(status);
        for header in headers {
            response.append_header(header);
        }
        if let Some(seconds) = meaning.retry_after {
            response.append_header((header::RETRY_AFTER, seconds));
        }
        let body = Body {
            kind: format!("/problems/{}", meaning.word),
            title: meaning.title,
            status: status.as_u16(),
            detail: &detail,
            code: meaning.word,
            request_id,
            errors: &errors,
            first_used_at: first_used_at.map(Time),
            ended_at: ended.map(|(at, _)| Time(at)),
            end_reason: ended.map(|(_, reason)| reason.as_str()),
        };
        response.content_type("application/problem+json");
        match serde_json::to_vec(&body) {
            Ok(bytes) => response.body(bytes),
            Err(error) => {
                tracing::error!(request_id, %error, "a problem could not be written as JSON");
                response.finish()
            }
        }
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Overloaded => Self::inside(Code::Overloaded, None),
            ServiceError::Internal(cause) => Self::internal(cause),
            ServiceError::Store(error) => {
                let code = match error {
                    StoreError::Unavailable(_) | StoreError::Migration(_) => {
                        Code::StorageUnavailable
                    }
                    StoreError::OutcomeUnknown(_) => Code::OutcomeUnknown,
                    StoreError::Unexpected(_) => Code::InternalError,
                    StoreError::InvalidCursor(invalid) => {
                        return Self::invalid_field("cursor", invalid.to_string());
                    }
                };
                Self::inside(code, Some(error.to_string()))
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        ServiceError::Store(error).into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use actix_web::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;

    async fn answer(problem: Problem) -> (HttpResponse<()>, Value) {
        let response = problem.respond(&Exchange::with_request_id("r-1"));
        let (head, body) = response.into_parts();
        let bytes = to_bytes(body).await.unwrap();
        (head.drop_body(), serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn words_are_unique_and_read_back() {
        let words: HashSet<_> = Code::ALL.iter().map(|code| code.meaning().word).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::parse(code.meaning().word), Some(code));
        }
        assert_eq!(Code::parse("nonsense"), None);
    }

    #[test]
    fn what_may_be_repeated_says_when() {
        for code in Code::ALL {
            let meaning = code.meaning();
            let retried = [429, 503].contains(&meaning.status.as_u16());
            assert_eq!(meaning.retry_after.is_some(), retried, "{}", meaning.word);
        }
    }

    #[actix_web::test]
    async fn a_validation_problem_names_each_error() {
        let error = FieldError { pointer: "/nonce".into(), detail: "is missing".into() };
        let (head, body) = answer(Problem::invalid(vec![error])).await;
        assert_eq!(head.status(), 422);
        assert_eq!(head.headers().get("content-type").unwrap(), "application/problem+json");
        assert_eq!(
            body,
            json!({
                "type": "/problems/validation_failed",
                "title": Code::ValidationFailed.meaning().title,
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
        for (error, status, code) in [
            (StoreError::Unavailable("secret".into()), 503, "storage_unavailable"),
            (StoreError::Migration("secret".into()), 503, "storage_unavailable"),
            (StoreError::OutcomeUnknown("secret".into()), 503, "outcome_unknown"),
            (StoreError::Unexpected("secret".into()), 500, "internal_error"),
        ] {
            let (head, body) = answer(error.into()).await;
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
