//! Profiles: what a use of signatures asks of a message, as data. The verifier knows no profile
//! by name; another one is another value of [`Profile`] and, where its keys are not named by
//! DID URLs, another key lookup.

use chrono::Duration;

use super::algorithms::Algorithm;
use super::components::{Component, Form};
use super::digest;
use super::request::{Body, Request, SESSION_FIELD};
use crate::domain::KeyType;

/// What a signature has to state and to cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub name: String,
    /// The `tag` that marks the signature to judge. `None` judges the only signature there is.
    pub tag: Option<String>,
    /// What is allowed. A key is used with the first algorithm of its type.
    pub algorithms: Vec<Algorithm>,
    /// Whether `alg` must be stated.
    pub alg_required: bool,
    /// In characters. `created`, `nonce` and `keyid` are required in every profile.
    pub min_nonce_len: usize,
    /// How long after `created` a signature without `expires` lasts. `None` requires `expires`.
    pub default_lifetime: Option<Duration>,
    /// The longest time from `created` to `expires`.
    pub max_window: Duration,
    /// How far the signer's clock may be from ours.
    pub skew: Duration,
    pub coverage: Coverage,
}

/// The components that must be covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Of each group, one alternative must be covered wholly. A signer takes the first.
    pub always: Vec<Vec<Vec<Component>>>,
    /// Covered when there is a body. If the verifier cannot see the body, unsafe methods count as
    /// having one: the digest must be covered, and the other fields if they were sent.
    pub with_body: Vec<Component>,
    /// Fields that must be covered when they were sent.
    pub when_sent: Vec<Component>,
}

impl Profile {
    /// `onceguard`: the profile of agents that sign for this service.
    #[must_use]
    pub fn onceguard() -> Self {
        Self {
            name: "onceguard".to_owned(),
            tag: Some("onceguard".to_owned()),
            algorithms: vec![Algorithm::Ed25519, Algorithm::Es256k, Algorithm::EcdsaP256Sha256],
            alg_required: false,
            min_nonce_len: 16,
            default_lifetime: None,
            max_window: Duration::seconds(300),
            skew: Duration::seconds(60),
            coverage: Coverage::whole_request(),
        }
    }

    /// `sage`: what SAGE's agents send. Their signatures have no tag, and may lack `expires`.
    #[must_use]
    pub fn sage() -> Self {
        Self {
            name: "sage".to_owned(),
            tag: None,
            algorithms: vec![Algorithm::Ed25519, Algorithm::Es256kKeccak],
            min_nonce_len: 1,
            default_lifetime: Some(Duration::seconds(300)),
            ..Self::onceguard()
        }
    }

    /// The algorithm that a key of this type is used with.
    #[must_use]
    pub fn algorithm_for(&self, key_type: KeyType) -> Option<Algorithm> {
        self.algorithms.iter().copied().find(|algorithm| algorithm.key_type() == key_type)
    }
}

impl Coverage {
    /// Method and whole target; digest and type of the body; the session.
    #[must_use]
    pub fn whole_request() -> Self {
        Self::of(vec![Component::Method, Component::TargetUri])
    }

    /// These components (the target also by its parts); digest and type of the body; the session.
    #[must_use]
    pub fn of(components: Vec<Component>) -> Self {
        let alternatives = |component| match component {
            Component::TargetUri => vec![
                vec![Component::TargetUri],
                vec![Component::Authority, Component::Path, Component::Query],
            ],
            other => vec![vec![other]],
        };
        Self {
            always: components.into_iter().map(alternatives).collect(),
            with_body: vec![Component::field(digest::FIELD), Component::field("content-type")],
            when_sent: vec![Component::field(digest::FIELD), Component::field(SESSION_FIELD)],
        }
    }

    /// What a signer covers of [`Self::always`].
    pub fn first_choice(&self) -> impl Iterator<Item = &Component> {
        self.always.iter().filter_map(|alternatives| alternatives.first()).flatten()
    }

    /// What this request must cover besides [`Self::always`].
    pub(super) fn conditional<'a>(
        &'a self,
        request: &'a Request<'_>,
    ) -> impl Iterator<Item = &'a Component> {
        let with_body = self.with_body.iter().filter(|component| match request.body {
            Body::Seen(content) => !content.is_empty(),
            Body::Awaited { announced } => announced,
            Body::Unseen => {
                !is_safe(request.method)
                    && (is_field(component, digest::FIELD) || is_sent(component, request))
            }
        });
        let when_sent = self.when_sent.iter().filter(|component| is_sent(component, request));
        with_body.chain(when_sent)
    }
}

/// RFC 9110, section 9.2.1.
fn is_safe(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
}

fn is_field(component: &Component, wanted: &str) -> bool {
    matches!(component, Component::Field(name, Form::Plain) if name == wanted)
}

fn is_sent(component: &Component, request: &Request<'_>) -> bool {
    matches!(component, Component::Field(name, _) if request.has_field(name))
}
