//! Who acts.

use std::fmt;

use uuid::Uuid;

use crate::domain::Did;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An API token, by id and name.
    Token { id: Uuid, name: String },
    /// An agent, by its signature.
    Agent(Did),
    /// A person at the command line of the machine.
    Operator,
    /// A job of the service itself.
    Job(&'static str),
    /// A resolver, by what it read.
    Resolver(&'static str),
    /// The service itself, as it serves.
    Service,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { id, name } => write!(f, "token:{name} ({id})"),
            Self::Agent(did) => did.fmt(f),
            Self::Operator => f.write_str("operator"),
            Self::Job(name) => write!(f, "job:{name}"),
            Self::Resolver(name) => write!(f, "resolver:{name}"),
            Self::Service => f.write_str("service"),
        }
    }
}
