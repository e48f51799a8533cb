//! Audit events: who did what that cannot be undone or that touches somebody else's session.

use std::fmt;

use serde_json::Value;
use uuid::Uuid;

use super::Did;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An API token, by id and name.
    Token { id: Uuid, name: String },
    /// An agent, by its signature.
    Agent(Did),
    /// Somebody at the command line of the machine.
    Operator,
    /// A job of the service itself.
    Job(&'static str),
    /// A resolver, by what it read.
    Resolver(&'static str),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { id, name } => write!(f, "token:{name} ({id})"),
            Self::Agent(did) => did.fmt(f),
            Self::Operator => f.write_str("operator"),
            Self::Job(name) => write!(f, "job:{name}"),
            Self::Resolver(name) => write!(f, "resolver:{name}"),
        }
    }
}

/// One event, written in the transaction of the change that it records.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    pub actor: Actor,
    /// Such as `session.end` or `did.revoke`.
    pub action: &'static str,
    /// What was acted on: a session id, a DID, a token id.
    pub subject: String,
    /// An object without secrets. A store adds counts to it where it alone knows them.
    pub detail: Value,
}
