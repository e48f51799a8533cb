//! Who calls.

use std::sync::Arc;

use actix_web::HttpRequest;

use super::peer;
use crate::budget::{Account, Standing};
use crate::config::Server;
use crate::domain::{Actor, ApiToken, Binding, Did, Peer, Session, TokenScope};

/// One whose credential was checked.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    Token(Arc<ApiToken>),
    /// Who signed the request.
    Agent(Did),
}

impl Caller {
    /// Whether its token has this scope.
    pub(super) fn has(&self, scope: TokenScope) -> bool {
        matches!(self, Self::Token(token) if token.scopes.allow(scope))
    }

    /// The agent, if it is one.
    pub(super) const fn agent(&self) -> Option<&Did> {
        match self {
            Self::Token(_) => None,
            Self::Agent(did) => Some(did),
        }
    }

    /// What confines its token to a namespace.
    pub(super) fn binding(&self) -> Option<&Binding> {
        match self {
            Self::Token(token) => token.binding.as_ref(),
            Self::Agent(_) => None,
        }
    }

    /// Whether this is an agent, and neither of these.
    pub(super) fn is_agent_beside(&self, client: Option<&Did>, server: Option<&Did>) -> bool {
        self.agent().is_some_and(|agent| ![client, server].contains(&Some(agent)))
    }

    /// Whether this caller may know that the session exists: an agent knows only its own.
    pub(super) fn may_know(&self, session: &Session) -> bool {
        self.agent().is_none_or(|did| session.has_party(did))
    }

    /// On whose account this caller's requests are served.
    pub(super) fn peer(&self, request: &HttpRequest, server: &Server) -> Peer {
        match self {
            Self::Token(token) => Peer::Holder(token.id),
            Self::Agent(_) => peer::of(request, server),
        }
    }

    /// On whose shares this caller's requests are counted. An agent has two: that of its DID, of
    /// which it can make as many as it likes, and that of the peer it calls from.
    pub(super) fn accounts(
        &self,
        request: &HttpRequest,
        server: &Server,
    ) -> (Standing, Vec<Account>) {
        let peer = Account::Peer(self.peer(request, server));
        match self {
            Self::Token(_) => (Standing::Holder, vec![peer]),
            Self::Agent(did) => (Standing::Agent, vec![peer, Account::Did(did.signer_key())]),
        }
    }

    pub(super) fn actor(&self) -> Actor {
        match self {
            Self::Token(token) => Actor::Token { id: token.id, name: token.name.clone() },
            Self::Agent(did) => Actor::Agent(did.clone()),
        }
    }

    /// The actor, where it acts in a session without being a party; an agent always is one.
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
