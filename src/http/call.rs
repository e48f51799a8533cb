//! The door of every guarded route: size, then credential, then scope, in this order and before
//! anything of the body is read. A handler cannot be registered without passing through it.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web::{self, Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::State;
use super::auth::{Access, Caller};
use super::code::Code;
use super::exchange::Exchange;
use super::input::Input;
use super::node::Node;
use super::problem::Problem;
use crate::domain::SessionId;

/// The most bytes of a body.
const MAX_BODY: usize = 256 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A call that is allowed: who makes it, and what it carries.
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) state: web::Data<State>,
    pub(super) request: HttpRequest,
    body: Bytes,
}

impl Call {
    /// # Errors
    /// `payload_too_large`, `unauthenticated`, why a signature is refused, `forbidden`, or 503 when the credential cannot be
    /// checked.
    pub(super) async fn admit(
        request: HttpRequest,
        payload: web::Payload,
        access: Access,
        exchange: &Exchange,
    ) -> Result<Self, Problem> {
        let body = read_body(&request, payload).await?;
        let state = state_of(&request)?;
        let caller = Caller::authenticate(&request, &body, &state).await?;
        exchange.set_caller(caller.clone());
        caller.may(access)?;
        Ok(Self { caller, state, request, body })
    }

    /// An agent acts in its own sessions alone; tokens are not asked.
    ///
    /// # Errors
    /// `session_not_found`, `signature_not_a_party`.
    pub(super) async fn must_be_party(&self, id: SessionId) -> Result<(), Problem> {
        if self.caller.agent().is_none() {
            return Ok(());
        }
        let session = self.state.sessions.read(id).await?;
        self.caller.must_be_party(&session.ok_or_else(Problem::session_not_found)?)
    }

    /// The input of a call that takes no body; one that is there is ignored.
    pub(super) fn input(&self) -> Input<'_> {
        Input::without_body(&self.request)
    }

    /// The input of a call whose body is a JSON object.
    ///
    /// # Errors
    /// `unsupported_media_type`, `invalid_request`, or `validation_failed` when the body is JSON
    /// but no object.
    pub(super) fn json(&self) -> Result<Input<'_>, Problem> {
        self.must_be_json()?;
        let body = Node::parse(&self.body).map_err(|error| {
            Problem::new(Code::InvalidRequest, format!("the body is not JSON: {error}"))
        })?;
        Input::with_body(&self.request, body)
    }

    /// The longest life of a session.
    pub(super) fn max_ttl_seconds(&self) -> u32 {
        u32::try_from(self.state.config.sessions.max_ttl.as_secs()).unwrap_or(u32::MAX)
    }

    fn must_be_json(&self) -> Result<(), Problem> {
        let headers = self.request.headers();
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.map(|text| text.split(';').next().unwrap_or_default().trim());
        if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "the Content-Type must be application/json",
            ));
        }
        let coding = headers.get(header::CONTENT_ENCODING).map(header::HeaderValue::as_bytes);
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "the body must not have a Content-Encoding",
            ));
        }
        Ok(())
    }
}

pub(super) fn state_of(request: &HttpRequest) -> Result<web::Data<State>, Problem> {
    let state = request.app_data::<web::Data<State>>();
    state.cloned().ok_or_else(|| Problem::internal("the state is not part of the app"))
}

async fn read_body(request: &HttpRequest, payload: web::Payload) -> Result<Bytes, Problem> {
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > MAX_BODY) {
        return Err(too_large());
    }
    tokio::time::timeout(BODY_TIMEOUT, collect(payload)).await.unwrap_or_else(|_| {
        let detail = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
        Err(Problem::new(Code::InvalidRequest, detail))
    })
}

/// Most bodies come in one piece, which is not copied.
async fn collect(mut payload: web::Payload) -> Result<Bytes, Problem> {
    let Some(first) = payload.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(|error| unreadable(&error))?;
    if first.len() > MAX_BODY {
        return Err(too_large());
    }
    let Some(second) = payload.next().await else { return Ok(first) };
    let mut body = BytesMut::from(first);
    let mut next = Some(second);
    while let Some(piece) = next {
        let piece = piece.map_err(|error| unreadable(&error))?;
        if body.len() + piece.len() > MAX_BODY {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
        next = payload.next().await;
    }
    Ok(body.freeze())
}

fn too_large() -> Problem {
    Problem::new(Code::PayloadTooLarge, format!("the body may have {MAX_BODY} bytes"))
}

fn unreadable(error: &actix_web::error::PayloadError) -> Problem {
    Problem::new(Code::InvalidRequest, format!("the body could not be read: {error}"))
}
