//! Who calls. A credential is checked before anything else of a request is looked at, and its
//! text goes nowhere but to that check.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header::{self, HeaderName};

use super::State;
use super::code::Code;
use super::problem::Problem;
use super::target;
use crate::domain::{Actor, ApiToken, Did, Session, TokenScope};
use crate::services::Case;
use crate::signatures::{Body, Request};

const PROXY_TOKEN: HeaderName = HeaderName::from_static("x-onceguard-token");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// Somebody whose credential was checked.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    Token(Arc<ApiToken>),
    /// Who signed the request.
    Agent(Did),
}

/// Who may make a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    /// What a token needs.
    scope: TokenScope,
    /// The handler decides what an agent may do, by who is a party.
    agents: bool,
}

impl From<TokenScope> for Access {
    fn from(scope: TokenScope) -> Self {
        Self { scope, agents: false }
    }
}

/// For agents, too.
pub(super) const fn or_agent(scope: TokenScope) -> Access {
    Access { scope, agents: true }
}

impl Caller {
    /// Reads and checks the request's credential. A request with a signature is judged by it
    /// alone, whatever token comes with it.
    ///
    /// # Errors
    /// `unauthenticated` when there is none that does, or why the signature is refused; 503 when
    /// it cannot be checked.
    pub(super) async fn authenticate(
        request: &HttpRequest,
        body: &[u8],
        state: &State,
    ) -> Result<Self, Problem> {
        let headers = request.headers();
        if headers.contains_key(SIGNATURE) || headers.contains_key(SIGNATURE_INPUT) {
            // On the heap: a call by token must not carry the room that a verdict takes.
            Box::pin(Self::by_signature(request, body, state)).await
        } else {
            Self::by_token(request, state).await
        }
    }

    async fn by_signature(
        request: &HttpRequest,
        body: &[u8],
        state: &State,
    ) -> Result<Self, Problem> {
        let headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let request = Request {
            method: request.method().as_str(),
            target: target::of(request, &state.config.server)?,
            headers: &headers,
            body: Body::Seen(body),
        };
        match state.verdicts.judge(&Case { request, profile: None, session: None }).await? {
            Ok(verdict) => Ok(Self::Agent(verdict.did)),
            Err(denied) => Err(Problem::denied(&denied, |code| code.meaning().status)),
        }
    }

    /// By `Authorization: Bearer`.
    pub(super) async fn by_token(request: &HttpRequest, state: &State) -> Result<Self, Problem> {
        let mut credentials = request.headers().get_all(header::AUTHORIZATION);
        let Some(credential) = credentials.next() else {
            return Err(Problem::unauthenticated(
                "the request has no credential; send Authorization: Bearer and a token, or sign it",
                None,
            ));
        };
        if credentials.next().is_some() {
            return Err(Problem::unauthenticated(
                "the request has more than one Authorization header",
                Some("invalid_request"),
            ));
        }
        let Some(token) = credential.to_str().ok().and_then(bearer_token) else {
            return Err(Problem::unauthenticated(
                "the Authorization header must be the word Bearer, a space and a token",
                Some("invalid_request"),
            ));
        };
        Self::with_token(token, state).await
    }

    /// The token of a proxy: in a header of its own, since `Authorization` may be a part of the
    /// request to judge.
    pub(super) async fn of_proxy(request: &HttpRequest, state: &State) -> Result<Self, Problem> {
        let mut tokens = request.headers().get_all(PROXY_TOKEN);
        match (tokens.next(), tokens.next()) {
            (None, _) => Self::by_token(request, state).await,
            (Some(token), None) => Self::with_token(token.to_str().unwrap_or(""), state).await,
            (Some(_), Some(_)) => Err(Problem::unauthenticated(
                "the request has more than one X-Onceguard-Token header",
                Some("invalid_request"),
            )),
        }
    }

    async fn with_token(token: &str, state: &State) -> Result<Self, Problem> {
        match state.tokens.authenticate(token).await? {
            Some(token) => Ok(Self::Token(token)),
            None => Err(Problem::unauthenticated(
                "the token is unknown, expired or revoked",
                Some("invalid_token"),
            )),
        }
    }

    /// # Errors
    /// `forbidden`, naming the scope.
    pub(super) fn may(&self, access: Access) -> Result<(), Problem> {
        let Access { scope, agents } = access;
        let detail = match self {
            Self::Token(token) if token.scopes.allow(scope) => return Ok(()),
            Self::Agent(_) if agents => return Ok(()),
            Self::Token(_) => {
                format!("this call needs the scope `{scope}`, which the token does not have")
            }
            Self::Agent(_) => format!("this call needs a token with the scope `{scope}`"),
        };
        Err(Problem::new(Code::Forbidden, detail))
    }

    /// The agent, if it is one.
    pub(super) const fn agent(&self) -> Option<&Did> {
        match self {
            Self::Token(_) => None,
            Self::Agent(did) => Some(did),
        }
    }

    /// Whether this is an agent, and neither of these.
    pub(super) fn is_agent_beside(&self, client: Option<&Did>, server: Option<&Did>) -> bool {
        self.agent().is_some_and(|agent| ![client, server].contains(&Some(agent)))
    }

    /// An agent acts in its own sessions alone.
    ///
    /// # Errors
    /// `signature_not_a_party`.
    pub(super) fn must_be_party(&self, session: &Session) -> Result<(), Problem> {
        match self.agent() {
            Some(did) if !session.has_party(did) => Err(Problem::not_a_party()),
            _ => Ok(()),
        }
    }

    pub(super) fn actor(&self) -> Actor {
        match self {
            Self::Token(token) => Actor::Token { id: token.id, name: token.name.clone() },
            Self::Agent(did) => Actor::Agent(did.clone()),
        }
    }

    /// Whoever acts in a session without being a party; an agent always is one.
    pub(super) fn outsider(&self) -> Option<Actor> {
        match self {
            Self::Token(_) => Some(self.actor()),
            Self::Agent(_) => None,
        }
    }

    /// For logs.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Token(token) => &token.name,
            Self::Agent(did) => did.as_str(),
        }
    }

    /// What tells this caller from every other one: an `Idempotency-Key` is its own alone.
    pub(super) fn identity(&self) -> [u8; 16] {
        match self {
            Self::Token(token) => *token.id.as_bytes(),
            Self::Agent(did) => did.signer_key().0,
        }
    }
}

/// The token of `Bearer <token>`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer_token(credential: &str) -> Option<&str> {
    let (scheme, token) = credential.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_bearer_token() {
        assert_eq!(bearer_token("Bearer og_x"), Some("og_x"));
        assert_eq!(bearer_token("bEARER  og_x "), Some("og_x"));
        for text in ["", "Bearer", "Bearer ", "Basic og_x", "og_x", "Bearerog_x"] {
            assert_eq!(bearer_token(text), None, "{text:?}");
        }
    }
}
