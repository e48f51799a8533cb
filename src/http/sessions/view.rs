//! A session, as callers see it, and what its calls have in common.

use std::net::IpAddr;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::etag::etag;
use super::super::problem::Problem;
use super::super::time::Time;
use super::super::values::json;
use super::super::words;
use crate::domain::{Changed, Code, Metadata, Session, SessionState};

/// A session, without its key.
#[derive(Serialize, ToSchema)]
#[schema(as = Session, example = json!({
    "id": "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55",
    "client_did": "did:web:client.example",
    "server_did": "did:web:server.example",
    "state": "active",
    "created_at": "2026-01-02T03:04:05.678901Z",
    "expires_at": "2026-01-02T04:04:05.678901Z",
    "deadline": "2026-01-03T03:04:05.678901Z",
    "last_activity": "2026-01-02T03:04:05.678901Z",
    "idle_timeout_seconds": null,
    "max_claims": null,
    "claims": 0,
    "metadata": {"purpose": "tour"},
    "user_agent": "curl/8.5.0",
    "ip_address": "192.0.2.1",
    "ended_at": null,
    "end_reason": null,
}))]
pub(in crate::http) struct View<'a> {
    id: String,
    client_did: &'a str,
    server_did: &'a str,
    #[schema(value_type = words::SessionState)]
    state: &'static str,
    created_at: Time,
    expires_at: Time,
    /// No change moves `expires_at` past it.
    deadline: Time,
    /// Of an opening, a claim or a touch. With an idle timeout it moves when the last one is older
    /// than a tenth of it, at most 5 seconds; without one, when it is older than a minute.
    last_activity: Time,
    #[schema(required = true)]
    idle_timeout_seconds: Option<u32>,
    #[schema(required = true)]
    max_claims: Option<u64>,
    /// Exact where `max_claims` is set; elsewhere it moves with activity.
    claims: u64,
    #[schema(value_type = words::JsonObject)]
    metadata: &'a Metadata,
    #[schema(required = true)]
    user_agent: Option<&'a str>,
    #[schema(value_type = Option<String>, required = true)]
    ip_address: Option<IpAddr>,
    #[schema(required = true)]
    ended_at: Option<Time>,
    #[schema(value_type = Option<words::EndReason>, required = true)]
    end_reason: Option<&'static str>,
}

impl<'a> View<'a> {
    pub(in crate::http) fn of(session: &'a Session) -> Self {
        let state = session.state();
        let end = match state {
            SessionState::Active => None,
            SessionState::Over(end) => Some(end),
        };
        Self {
            id: session.id.to_string(),
            client_did: session.client_did.as_str(),
            server_did: session.server_did.as_str(),
            state: state.as_str(),
            created_at: Time(session.created_at),
            expires_at: Time(session.expires_at),
            deadline: Time(session.deadline),
            last_activity: Time(session.last_activity),
            idle_timeout_seconds: session.idle_timeout_seconds,
            max_claims: session.max_claims,
            claims: session.claims,
            metadata: &session.metadata,
            user_agent: session.user_agent.as_deref(),
            ip_address: session.ip_address,
            ended_at: end.map(|end| Time(end.at)),
            end_reason: end.map(|end| end.reason.as_str()),
        }
    }
}

/// A session as an answer, with its `ETag`.
pub(super) fn answer(status: StatusCode, session: &Session) -> Result<HttpResponse, Problem> {
    let mut response = json(status, &View::of(session))?;
    let tag = HeaderValue::from_str(&etag(session))
        .map_err(|error| Problem::internal(format!("an ETag cannot be written: {error}")))?;
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// The session after a change, or why it was not changed.
pub(super) fn done(changed: Changed) -> Result<Session, Problem> {
    match changed {
        Changed::Done(session) => Ok(session),
        Changed::NotFound => Err(Problem::session_not_found()),
        Changed::Over(session) => Err(Problem::session_over(&session)
            .unwrap_or_else(|| Problem::internal("a session over for the store is active"))),
        Changed::VersionMismatch(_) => Err(precondition_failed()),
    }
}

pub(super) fn precondition_failed() -> Problem {
    Problem::new(
        Code::PreconditionFailed,
        "the session has another ETag than If-Match names; it was not changed",
    )
}
