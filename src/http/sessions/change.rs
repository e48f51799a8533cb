//! Changing, touching and ending sessions.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::super::call::Call;
use super::super::etag::IfMatch;
use super::super::fields::{text, whole};
use super::super::problem::Problem;
use super::super::values::{json, session_key};
use super::super::words;
use super::view::{View, answer, done, precondition_failed};
use crate::domain::{Did, Metadata, Parties, SessionId};
use crate::services::UpdateSession;

/// What to change in a session; at least one.
#[derive(ToSchema)]
#[schema(as = SessionChange)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Change {
    /// Replaces the whole object, at most 16 KiB.
    #[schema(value_type = Option<words::JsonObject>, example = json!({"purpose": "tour"}), nullable = false)]
    metadata: Option<Metadata>,
    /// 1 to 4096 bytes in standard padded base64.
    #[schema(value_type = Option<String>, format = Byte, nullable = false)]
    session_key: Option<Zeroizing<Vec<u8>>>,
    /// From now, and never past the deadline.
    #[schema(minimum = 1, maximum = 86400, example = 3600, nullable = false)]
    ttl_seconds: Option<u32>,
}

/// Change a session's metadata, key or expiry.
#[utoipa::path(
    patch, path = "/v1/sessions/{id}", operation_id = "change_session", tag = "sessions",
    params(
        ("id" = String, Path, description = "A UUID, or its 22-character base64url form.",
            example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55"),
        ("If-Match" = Option<String>, Header, description = "Change it only if it still has one of these ETags.",
            example = "\"1767323045678901-1\""),
    ),
    request_body(content = Change, example = json!({"ttl_seconds": 3600})),
    responses((status = 200, description = "The session as it is now.", body = View,
        headers(("ETag" = String, description = "For If-Match.")))),
    extensions(("x-errors" = json!(["session_not_found", "session_ended", "session_expired", "precondition_failed"]))),
)]
pub(in crate::http) async fn change(call: Call) -> Result<HttpResponse, Problem> {
    let (id, change, if_match) = read(&call)?;
    let expected_version = match if_match {
        None | Some(IfMatch::Any) => None,
        Some(tags) => {
            let session = call.session(id).await?;
            if let Some(over) = Problem::session_over(&session) {
                return Err(over);
            }
            if !tags.matches(&session) {
                return Err(precondition_failed());
            }
            Some(session.version)
        }
    };
    let update = UpdateSession {
        metadata: change.metadata,
        session_key: change.session_key,
        ttl_seconds: change.ttl_seconds,
        expected_version,
    };
    let session = done(call.state.sessions.update(id, update, call.caller.actor()).await?)?;
    answer(StatusCode::OK, &session)
}

fn read(call: &Call) -> Result<(SessionId, Change, Option<IfMatch>), Problem> {
    let max_ttl = call.max_ttl_seconds();
    let mut input = call.json()?;
    let id = input.path("id", SessionId::parse);
    let if_match = input.header_list("If-Match", IfMatch::parse);
    if input.body_is_empty() {
        input.refuse("", "must have at least one of metadata, session_key and ttl_seconds");
    }
    let metadata = input.metadata();
    let session_key = input.optional("session_key", session_key);
    let ttl_seconds = input.optional("ttl_seconds", whole(1..=max_ttl));
    input.finish(|| Some((id?, Change { metadata, session_key, ttl_seconds }, if_match)))
}

/// Record activity, so that an idle timeout starts again.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/touch", operation_id = "touch_session", tag = "sessions",
    params(("id" = String, Path, description = "A UUID, or its 22-character base64url form.",
        example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")),
    responses((status = 204, description = "Recorded.")),
    extensions(("x-errors" = json!(["session_not_found", "session_ended", "session_expired", "overloaded", "outcome_unknown"]))),
)]
pub(in crate::http) async fn touch(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let id = input.path("id", SessionId::parse);
    let id = input.finish(|| id)?;
    call.must_be_party(id).await?;
    done(call.state.sessions.touch(id).await?)?;
    Ok(HttpResponse::NoContent().finish())
}

/// End a session: its key is wiped at once, its nonces stay spent.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}", operation_id = "end_session", tag = "sessions",
    params(("id" = String, Path, description = "A UUID, or its 22-character base64url form.",
        example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")),
    responses((status = 204, description = "Ended.")),
    extensions(("x-errors" = json!(["session_not_found", "session_ended", "session_expired", "overloaded", "outcome_unknown"]))),
)]
pub(in crate::http) async fn end(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let id = input.path("id", SessionId::parse);
    let id = input.finish(|| id)?;
    call.must_be_party(id).await?;
    done(call.state.sessions.end(id, call.caller.outsider().as_ref()).await?)?;
    Ok(HttpResponse::NoContent().finish())
}

/// Whose sessions to end; at least one. With both, those between the two.
#[derive(ToSchema)]
#[schema(as = SessionParties)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct EndParties {
    #[schema(value_type = Option<String>, example = "did:web:client.example", nullable = false)]
    client_did: Option<Did>,
    #[schema(value_type = Option<String>, example = "did:web:server.example", nullable = false)]
    server_did: Option<Did>,
}

/// How many sessions were ended.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionsEnded)]
pub(in crate::http) struct EndedView {
    #[schema(example = 3)]
    ended: u64,
}

/// End all sessions of a client, of a server, or between the two.
#[utoipa::path(
    post, path = "/v1/sessions/end", operation_id = "end_sessions", tag = "sessions",
    request_body(content = EndParties, example = json!({"client_did": "did:web:client.example"})),
    responses((status = 200, description = "How many were ended.", body = EndedView)),
    extensions(("x-errors" = json!(["signature_not_a_party"]))),
)]
pub(in crate::http) async fn end_all(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.json()?;
    if input.body_is_empty() {
        input.refuse("", "must have at least one of client_did and server_did");
    }
    let client_did = input.optional("client_did", text(Did::parse));
    let server_did = input.optional("server_did", text(Did::parse));
    let named = input.finish(|| Some(EndParties { client_did, server_did }))?;
    let parties = Parties { client_did: named.client_did, server_did: named.server_did };
    if call.caller.is_agent_beside(parties.client_did.as_ref(), parties.server_did.as_ref()) {
        return Err(Problem::not_a_party());
    }
    let outsider = call.caller.outsider();
    let ended = call.state.sessions.end_all(&parties, outsider.as_ref()).await?;
    json(StatusCode::OK, &EndedView { ended })
}
