//! What a caller may.

use actix_web::HttpRequest;

use super::caller::Caller;
use super::input::Input;
use super::problem::Problem;
use crate::domain::{Binding, Code, Did, Namespace, TokenScope};

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

    /// # Errors
    /// `forbidden`, naming the scope, or saying whose call it is; `validation_failed` when the path
    /// of an owner's call has no DID, or that of a bound token's no namespace.
    pub(super) fn admits(self, caller: &Caller, request: &HttpRequest) -> Result<(), Problem> {
        let Self { scope, or, agents, bound } = self;
        let wanted =
            || or.map_or_else(|| format!("`{scope}`"), |or| format!("`{scope}` or `{or}`"));
        let detail = match (caller, agents) {
            (Caller::Token(token), _)
                if caller.has(scope) || or.is_some_and(|or| caller.has(or)) =>
            {
                return token.binding.as_ref().map_or(Ok(()), |to| allows(to, bound, request));
            }
            (Caller::Agent(_), Agents::Parties) => return Ok(()),
            (Caller::Agent(agent), Agents::Owner) => {
                if path_did(request)? == *agent {
                    return Ok(());
                }
                format!(
                    "an agent may make this call only for its own DID; for another one, it needs a \
                     token with the scope {}",
                    wanted()
                )
            }
            (Caller::Token(_), _) => {
                format!("this call needs the scope {}, which the token does not have", wanted())
            }
            (Caller::Agent(_), Agents::None) => {
                format!("this call needs a token with the scope {}", wanted())
            }
        };
        Err(Problem::new(Code::Forbidden, detail))
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
