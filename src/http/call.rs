//! The door of every guarded route: size, then credential, then scope, then what the route asks
//! beside them, in this order, and only then is the body read. A handler cannot be registered without passing through it.

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{self, Bytes};

use super::body::Incoming;
use super::caller::Caller;
use super::entry::Entry;
use super::exchange::Exchange;
use super::input::Input;
use super::node::Node;
use super::problem::Problem;
use super::{State, credentials};
use crate::domain::{Code, Session, SessionId};

/// A call that is allowed: who makes it, and what it carries.
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) state: web::Data<State>,
    pub(super) request: HttpRequest,
    body: Bytes,
}

impl Call {
    /// # Errors
    /// `payload_too_large`, `unauthenticated`, why a signature is refused, `forbidden`, 503 when
    /// the credential cannot be checked, or why the body could not be read.
    pub(super) async fn admit(
        request: HttpRequest,
        payload: web::Payload,
        entry: Entry,
        exchange: &Exchange,
    ) -> Result<Self, Problem> {
        let mut body = Incoming::of(&request, payload, entry.max_body)?;
        let state = state_of(&request)?;
        match Self::receive(&request, &mut body, entry, &state, exchange).await {
            Ok((caller, body)) => Ok(Self { caller, state, request, body }),
            Err(refused) => {
                body.discard(&request).await;
                Err(refused)
            }
        }
    }

    async fn receive(
        request: &HttpRequest,
        body: &mut Incoming,
        entry: Entry,
        state: &web::Data<State>,
        exchange: &Exchange,
    ) -> Result<(Caller, Bytes), Problem> {
        // A request with a signature is judged by it alone, whatever token comes with it.
        if credentials::is_signed(request) {
            // On the heap: a call by token must not carry the room that a verdict takes.
            let agent = Box::pin(credentials::by_signature(request, body, entry, state)).await?;
            exchange.set_caller(agent.0.clone());
            return Ok(agent);
        }
        let caller = credentials::by_token(request, state).await?;
        exchange.set_caller(caller.clone());
        entry.let_in(&caller, request, state).await?;
        let body = body.read(request, &caller, state).await?;
        Ok((caller, body))
    }

    /// A session that the caller may know of. For an agent, one of others is not there: the answer,
    /// and what is done for it, are the same as for one that does not exist.
    ///
    /// # Errors
    /// `session_not_found`.
    pub(super) async fn session(&self, id: SessionId) -> Result<Session, Problem> {
        let session = self.state.sessions.read(id).await?;
        let known = session.filter(|session| self.caller.may_know(session));
        known.ok_or_else(Problem::session_not_found)
    }

    /// An agent acts in its own sessions alone; a token is not asked.
    ///
    /// # Errors
    /// `session_not_found`.
    pub(super) async fn must_be_party(&self, id: SessionId) -> Result<(), Problem> {
        match self.caller.agent() {
            Some(_) => self.session(id).await.map(drop),
            None => Ok(()),
        }
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
        let (body, text) = self.json_node()?;
        Input::with_body(&self.request, body, text)
    }

    /// A body that is said to be JSON.
    ///
    /// # Errors
    /// `unsupported_media_type`.
    pub(super) fn json_bytes(&self) -> Result<&Bytes, Problem> {
        self.must_be_json()?;
        Ok(&self.body)
    }

    /// A JSON body as a tree, and as its text.
    ///
    /// # Errors
    /// `unsupported_media_type`, or `invalid_request`.
    pub(super) fn json_node(&self) -> Result<(Node<'_>, &[u8]), Problem> {
        self.must_be_json()?;
        let body = Node::parse(&self.body).map_err(|error| {
            Problem::new(Code::InvalidRequest, format!("the body is not JSON: {error}"))
        })?;
        Ok((body, &self.body))
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
            let detail = "the Content-Type must be application/json";
            let accepted = HeaderValue::from_static("application/json");
            return Err(Problem::new(Code::UnsupportedMediaType, detail)
                .with_header(header::ACCEPT, accepted));
        }
        let mut codings = headers.get_all(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        if codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            let detail = "the body must not have a Content-Encoding: send it as it is";
            let accepted = HeaderValue::from_static("identity");
            return Err(Problem::new(Code::UnsupportedMediaType, detail)
                .with_header(header::ACCEPT_ENCODING, accepted));
        }
        Ok(())
    }
}

pub(super) fn state_of(request: &HttpRequest) -> Result<web::Data<State>, Problem> {
    let state = request.app_data::<web::Data<State>>();
    state.cloned().ok_or_else(|| Problem::internal("the state is not part of the app"))
}
