//! Who calls, and what a caller may.

use std::sync::Arc;

use actix_web::HttpRequest;

use super::input::Input;
use super::peer;
use super::problem::Problem;
use crate::budget::{Account, Standing};
use crate::config::Server;
use crate::domain::{Actor, ApiToken, Binding, Code, Did, Namespace, Peer, Session, TokenScope};

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
    pub(super) scope: TokenScope,
    /// What does as well.
    pub(super) or: Option<TokenScope>,
    pub(super) agents: Agents,
    pub(super) bound: Bound,
}

/// Which tokens that are bound to a namespace may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    None,
    /// Only those that are bound to the namespace in the path.
    Namespace,
    /// The handler decides, by what the body names.
    Body,
}

/// Which agents may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agents {
    None,
    /// The handler decides what an agent may do, by who is a party.
    Parties,
    /// Only the one whose DID is in the path. Its sessions with others do not matter.
    Owner,
}

impl Agents {
    pub(super) fn some_may(self) -> bool {
        self != Self::None
    }
}

impl From<TokenScope> for Access {
    fn from(scope: TokenScope) -> Self {
        Self { scope, or: None, agents: Agents::None, bound: Bound::None }
    }
}

impl Access {
    pub(super) const fn bound(self, bound: Bound) -> Self {
        Self { bound, ..self }
    }
}

/// For agents, too.
pub(super) const fn or_agent(scope: TokenScope) -> Access {
    Access { scope, or: None, agents: Agents::Parties, bound: Bound::None }
}

/// For the agent whose DID is in the path, too.
pub(super) const fn or_owner(scope: TokenScope) -> Access {
    Access { scope, or: None, agents: Agents::Owner, bound: Bound::None }
}

/// For a token with either of these.
pub(super) const fn either(scope: TokenScope, or: TokenScope) -> Access {
    Access { scope, or: Some(or), agents: Agents::None, bound: Bound::None }
}

/// For the namespace in the path: also for a token that is bound to it.
pub(super) const fn in_namespace(scope: TokenScope) -> Access {
    Access { scope, or: None, agents: Agents::None, bound: Bound::Namespace }
}

impl Caller {
    /// # Errors
    /// `forbidden`, naming the scope, or saying whose call it is; `validation_failed` when the path
    /// of an owner's call has no DID, or that of a bound token's no namespace.
    pub(super) fn may(&self, access: Access, request: &HttpRequest) -> Result<(), Problem> {
        let Access { scope, or, agents, bound } = access;
        let wanted =
            || or.map_or_else(|| format!("`{scope}`"), |or| format!("`{scope}` or `{or}`"));
        let detail = match (self, agents) {
            (Self::Token(token), _) if self.has(scope) || or.is_some_and(|or| self.has(or)) => {
                return token.binding.as_ref().map_or(Ok(()), |to| allows(to, bound, request));
            }
            (Self::Agent(_), Agents::Parties) => return Ok(()),
            (Self::Agent(agent), Agents::Owner) => {
                if path_did(request)? == *agent {
                    return Ok(());
                }
                format!(
                    "an agent may make this call only for its own DID; for another one, it needs a \
                     token with the scope {}",
                    wanted()
                )
            }
            (Self::Token(_), _) => {
                format!("this call needs the scope {}, which the token does not have", wanted())
            }
            (Self::Agent(_), Agents::None) => {
                format!("this call needs a token with the scope {}", wanted())
            }
        };
        Err(Problem::new(Code::Forbidden, detail))
    }

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

/// Whether a token with this binding may make a call.
fn allows(binding: &Binding, bound: Bound, request: &HttpRequest) -> Result<(), Problem> {
    let may = match bound {
        Bound::None => false,
        Bound::Namespace => path_namespace(request)? == binding.namespace,
        Bound::Body => true,
    };
    if may { Ok(()) } else { Err(Problem::outside(binding)) }
}

/// The namespace in the path.
fn path_namespace(request: &HttpRequest) -> Result<Namespace, Problem> {
    let mut input = Input::of_path(request);
    let namespace = input.path("namespace", Namespace::parse);
    input.finish(|| namespace)
}

/// The DID in the path.
fn path_did(request: &HttpRequest) -> Result<Did, Problem> {
    let mut input = Input::of_path(request);
    let did = input.path_did("did");
    input.finish(|| did)
}
