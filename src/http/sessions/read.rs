//! `GET /v1/sessions/{id}`, its key, and the list.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::super::call::Call;
use super::super::problem::Problem;
use super::super::values::{PageView, base64, json};
use super::super::words;
use super::view::{View, answer};
use crate::domain::{Code, Did, SessionFilter, SessionId, StateFilter};

/// Read a session.
#[utoipa::path(
    get, path = "/v1/sessions/{id}", operation_id = "read_session", tag = "sessions",
    params(("id" = String, Path, description = "A UUID, or its 22-character base64url form.",
        example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")),
    responses((status = 200, description = "The session, never its key.", body = View,
        headers(("ETag" = String, description = "For If-Match.")))),
    extensions(("x-errors" = json!(["session_not_found", "session_ended", "session_expired", "overloaded"]))),
)]
pub(in crate::http) async fn read(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let id = input.path("id", SessionId::parse);
    let id = input.finish(|| id)?;
    let session = call.session(id).await?;
    match Problem::session_over(&session) {
        Some(over) => Err(over),
        None => answer(StatusCode::OK, &session),
    }
}

/// A session's key.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionKey)]
pub(in crate::http) struct KeyView<'a> {
    /// In standard padded base64.
    #[schema(format = Byte, example = "c2hhcmVkIHNlY3JldA==")]
    session_key: &'a str,
}

/// Read the opened session key.
///
/// Refused on a listener that is neither loopback nor TLS, unless `server.allow_plaintext_keys`.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/key", operation_id = "read_session_key", tag = "sessions",
    params(("id" = String, Path, description = "A UUID, or its 22-character base64url form.",
        example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")),
    responses((status = 200, description = "The key; never cached.", body = KeyView)),
    extensions(("x-errors" = json!(["session_not_found", "not_found", "session_ended", "session_expired", "did_revoked"]))),
)]
pub(in crate::http) async fn key(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let id = input.path("id", SessionId::parse);
    let id = input.finish(|| id)?;
    let server = &call.state.config.server;
    let private = server.listen.ip().is_loopback() || server.tls.is_some();
    if !private && !server.allow_plaintext_keys {
        return Err(Problem::new(
            Code::Forbidden,
            "session keys are not sent over a listener that is neither loopback nor TLS; set server.tls, or server.allow_plaintext_keys where a proxy ends TLS",
        ));
    }
    // Before anything is unsealed.
    call.must_be_party(id).await?;
    let found = call.state.sessions.key(id).await?;
    let (session, key) = found.ok_or_else(Problem::session_not_found)?;
    if let Some(over) = Problem::session_over(&session) {
        return Err(over);
    }
    if let Some(did) = call.state.sessions.revoked_party(&session).await? {
        return Err(Problem::party_revoked(&did));
    }
    let key = key.ok_or_else(|| Problem::new(Code::NotFound, "the session has no key"))?;
    call.state.sessions.record_key_reading(&session, call.caller.actor()).await?;
    let session_key = Zeroizing::new(base64(&key));
    json(StatusCode::OK, &KeyView { session_key: &session_key })
}

/// List sessions, newest first.
#[utoipa::path(
    get, path = "/v1/sessions", operation_id = "list_sessions", tag = "sessions",
    params(
        ("client_did" = Option<String>, Query, example = "did:web:client.example"),
        ("server_did" = Option<String>, Query, example = "did:web:server.example"),
        ("state" = Option<words::SessionStateFilter>, Query, description = "`active` when left out", example = "active"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "1 to 500; 50 when left out. A page of long metadata ends earlier, and has a next_cursor.", example = 50),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
    ),
    responses((status = 200, description = "A page.", body = PageView<View>)),
)]
pub(in crate::http) async fn list(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let filter = SessionFilter {
        client_did: input.query("client_did", Did::parse),
        server_did: input.query("server_did", Did::parse),
        state: input.query("state", state).unwrap_or_default(),
    };
    let page = input.page();
    input.finish(|| Some(()))?;
    if call.caller.is_agent_beside(filter.client_did.as_ref(), filter.server_did.as_ref()) {
        return Err(Problem::new(
            Code::Forbidden,
            "an agent lists its own sessions: client_did or server_did must be its own DID",
        ));
    }
    let page = call.state.sessions.list(&filter, &page).await?;
    json(StatusCode::OK, &PageView::of(&page, View::of))
}

fn state(text: &str) -> Result<StateFilter, &'static str> {
    match text {
        "active" => Ok(StateFilter::Active),
        "ended" => Ok(StateFilter::Ended),
        "expired" => Ok(StateFilter::Expired),
        "all" => Ok(StateFilter::All),
        _ => Err("must be one of active, ended, expired, all"),
    }
}
