//! `POST /v1/sessions`.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::super::call::Call;
use super::super::fields::{text, whole};
use super::super::peer;
use super::super::problem::Problem;
use super::super::values::{MAX_CLAIMS, MAX_IDLE_TIMEOUT, MIN_IDLE_TIMEOUT, session_key};
use super::super::words;
use super::view::{View, answer};
use crate::domain::{Code, Did, Metadata, Opened, SessionId};
use crate::services::OpenSession;

/// The most characters of a `User-Agent` that are kept.
const MAX_USER_AGENT: usize = 512;

/// A session to open.
#[derive(ToSchema)]
#[schema(as = NewSession)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Body {
    /// A UUID, or the 22-character base64url form of its 16 bytes. The service chooses when it
    /// is left out. After a restore, only a new UUIDv7 will do. A UUIDv7 must not be of a later
    /// time.
    #[schema(value_type = Option<String>, example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55", nullable = false)]
    id: Option<SessionId>,
    #[schema(value_type = String, example = "did:web:client.example")]
    client_did: Did,
    #[schema(value_type = String, example = "did:web:server.example")]
    server_did: Did,
    /// 1 to 4096 bytes in standard padded base64. Sealed before it is stored.
    #[schema(value_type = Option<String>, format = Byte, nullable = false)]
    session_key: Option<Zeroizing<Vec<u8>>>,
    /// From now. At most the configured maximum (24 h), which is also the default's bound.
    #[schema(minimum = 1, maximum = 86400, example = 3600, nullable = false)]
    ttl_seconds: Option<u32>,
    /// The session expires when nobody uses it for so long.
    #[schema(minimum = 10, maximum = 86400, nullable = false)]
    idle_timeout_seconds: Option<u32>,
    /// The most nonces that may be claimed in the session.
    #[schema(minimum = 1, nullable = false)]
    max_claims: Option<u64>,
    /// Any object of at most 16 KiB. It reads as it was sent, but for the order of its members and
    /// the exponents of its numbers, which are written out.
    #[schema(value_type = Option<words::JsonObject>, example = json!({"purpose": "tour"}), nullable = false)]
    metadata: Option<Metadata>,
}

/// Open a session between a client and a server DID.
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "open_session", tag = "sessions",
    request_body(content = Body, example = json!({
        "client_did": "did:web:client.example",
        "server_did": "did:web:server.example",
        "ttl_seconds": 3600,
        "metadata": {"purpose": "tour"},
    })),
    responses((status = 201, description = "The session.", body = View, headers(
        ("Location" = String, description = "The session's path."),
        ("ETag" = String, description = "For If-Match."),
    ))),
    extensions(("x-errors" = json!(["did_revoked", "session_exists", "session_id_before_restore", "rate_limited", "overloaded", "outcome_unknown"]))),
)]
pub(in crate::http) async fn open(call: Call) -> Result<HttpResponse, Problem> {
    let asked = read(&call)?;
    if call.caller.is_agent_beside(Some(&asked.client_did), None) {
        return Err(Problem::new(
            Code::Forbidden,
            "an agent opens sessions as their client: client_did must be its own DID",
        ));
    }
    if let Some(agent) = call.caller.agent() {
        let peer = call.caller.peer(&call.request, &call.state.config.server);
        let allowed = call.state.agents.may_open(agent, &asked.server_did, peer).await?;
        allowed.map_err(|(too_many, wait)| Problem::rate_limited(too_many.to_string(), wait))?;
    }
    let opening = OpenSession {
        id: asked.id,
        client_did: asked.client_did,
        server_did: asked.server_did,
        session_key: asked.session_key,
        ttl_seconds: asked.ttl_seconds,
        idle_timeout_seconds: asked.idle_timeout_seconds,
        max_claims: asked.max_claims,
        metadata: asked.metadata.unwrap_or_default(),
        user_agent: user_agent(&call.request),
        ip_address: Some(peer::address(&call.request, &call.state.config.server)),
    };
    match call.state.sessions.open(opening).await? {
        Opened::Created(session) => {
            let mut response = answer(StatusCode::CREATED, &session)?;
            if let Ok(location) = HeaderValue::from_str(&format!("/v1/sessions/{}", session.id)) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            Ok(response)
        }
        Opened::Exists => Err(Problem::new(
            Code::SessionExists,
            "a session with this id exists, or ended too recently for the id to be used again",
        )),
        Opened::Revoked(did) => Err(Problem::party_revoked(&did)),
        Opened::BeforeRestore => Err(Problem::new(
            Code::SessionIdBeforeRestore,
            "the restored database may have forgotten a session with this id; leave id out, or \
             choose a UUIDv7 that is made now",
        )),
        Opened::Ahead => {
            Err(Problem::invalid_field("/id", "is a UUIDv7 of a later time than the database's"))
        }
    }
}

fn read(call: &Call) -> Result<Body, Problem> {
    let max_ttl = call.max_ttl_seconds();
    let mut input = call.json()?;
    let client_did = input.required("client_did", text(Did::parse));
    let server_did = input.required("server_did", text(Did::parse));
    let id = input.optional("id", text(SessionId::parse));
    let session_key = input.optional("session_key", session_key);
    let ttl_seconds = input.optional("ttl_seconds", whole(1..=max_ttl));
    let idle_timeout_seconds =
        input.optional("idle_timeout_seconds", whole(MIN_IDLE_TIMEOUT..=MAX_IDLE_TIMEOUT));
    let max_claims = input.optional("max_claims", whole(1..=MAX_CLAIMS));
    let metadata = input.metadata();
    input.finish(|| {
        Some(Body {
            id,
            client_did: client_did?,
            server_did: server_did?,
            session_key,
            ttl_seconds,
            idle_timeout_seconds,
            max_claims,
            metadata,
        })
    })
}

/// The caller's `User-Agent`, cut to what is kept.
fn user_agent(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(header::USER_AGENT)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let kept: String = text.chars().filter(|c| !c.is_control()).take(MAX_USER_AGENT).collect();
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_user_agent_is_cut_to_512_characters() {
        let agent = |text: &str| {
            user_agent(
                &TestRequest::default().insert_header(("user-agent", text)).to_http_request(),
            )
        };
        assert_eq!(agent("curl/8").as_deref(), Some("curl/8"));
        assert_eq!(agent(&"x".repeat(600)).map(|kept| kept.len()), Some(512));
        assert_eq!(agent(""), None);
        assert_eq!(user_agent(&TestRequest::default().to_http_request()), None);
    }
}
