//! `[agents]`: limits on agents, because anyone can make the keys that they sign with.

use serde_json::Value;

use super::reader::{Given, Reader, Show};
use crate::domain::Did;

/// `[agents]`.
#[derive(Debug, Clone)]
pub struct Agents {
    /// Who may call with a signature instead of a token.
    pub allow: AllowedAgents,
    /// Sessions that agents may open in a minute: one agent; all agents of one peer; all agents of
    /// one peer with one server; all agents.
    pub sessions_per_minute: u32,
    pub sessions_per_minute_per_peer: u32,
    pub sessions_per_minute_per_server: u32,
    pub sessions_per_minute_in_all: u32,
    /// Live sessions that one agent may be the client of.
    pub live_sessions: u32,
    /// When there are this many live sessions, agents may open no more.
    pub live_sessions_in_all: u64,
}

/// The agents that may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedAgents {
    Any,
    None,
    Listed(Vec<AllowedAgent>),
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedAgent {
    Did(Did),
    /// Every DID of a method, such as `key`.
    Method(String),
}

impl Agents {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let parse = |given: &Given| {
            AllowedAgents::parse(given).ok_or_else(|| {
                "must be \"any\", \"none\", or a list of DIDs and methods, such as \
                 [\"did:web:agent.example.com\", \"did:key\"]"
                    .to_owned()
            })
        };
        let any = AllowedAgents::Any;
        let allow = reader.value("agents.allow", Show::Plain, any, parse, AllowedAgents::shown);
        let mut a_minute = |key, default| reader.number(key, default, 1..=1_000_000);
        Self {
            allow,
            sessions_per_minute: a_minute("agents.sessions_per_minute", 60),
            sessions_per_minute_per_peer: a_minute("agents.sessions_per_minute_per_peer", 600),
            sessions_per_minute_per_server: a_minute("agents.sessions_per_minute_per_server", 300),
            sessions_per_minute_in_all: a_minute("agents.sessions_per_minute_in_all", 6000),
            live_sessions: reader.number("agents.live_sessions", 1000, 1..=100_000),
            live_sessions_in_all: reader.number(
                "agents.live_sessions_in_all",
                1_000_000,
                1..=1_000_000_000_000,
            ),
        }
    }
}

impl AllowedAgents {
    /// Whether this agent may call.
    #[must_use]
    pub fn allow(&self, did: &Did) -> bool {
        match self {
            Self::Any => true,
            Self::None => false,
            Self::Listed(listed) => listed.iter().any(|one| match one {
                AllowedAgent::Did(listed) => listed == did,
                AllowedAgent::Method(method) => did.method() == method,
            }),
        }
    }

    fn parse(given: &Given) -> Option<Self> {
        match given.text() {
            Some("any") => return Some(Self::Any),
            Some("none") => return Some(Self::None),
            _ => {}
        }
        let listed: Option<Vec<_>> = given.texts()?.into_iter().map(AllowedAgent::parse).collect();
        // Some readers would take an empty list for "none", others for "any".
        listed.filter(|listed| !listed.is_empty()).map(Self::Listed)
    }

    fn shown(&self) -> Value {
        match self {
            Self::Any => "any".into(),
            Self::None => "none".into(),
            Self::Listed(listed) => listed
                .iter()
                .map(|one| match one {
                    AllowedAgent::Did(did) => did.to_string(),
                    AllowedAgent::Method(method) => format!("did:{method}"),
                })
                .collect(),
        }
    }
}

impl AllowedAgent {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(did) = Did::parse(text) {
            return Some(Self::Did(did));
        }
        let method = text.strip_prefix("did:")?;
        let valid = !method.is_empty()
            && method.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        valid.then(|| Self::Method(method.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_allows_dids_and_whole_methods() {
        let given = Given::Text("did:web:a.example, did:key".to_owned());
        let allowed = AllowedAgents::parse(&given).expect("a list");
        let allows = |did: &str| allowed.allow(&Did::parse(did).expect("a DID"));
        assert!(allows("did:web:a.example"));
        assert!(allows("did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw"));
        assert!(!allows("did:web:b.example"));
        assert!(!allows("did:web:a.example:path"));
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for text in ["", "did:", "did:web:a.example,", "web", "all", "did:Key"] {
            assert_eq!(AllowedAgents::parse(&Given::Text(text.to_owned())), None, "{text:?}");
        }
        let empty = Given::Toml(toml::Value::Array(Vec::new()));
        assert_eq!(AllowedAgents::parse(&empty), None);
    }
}
