//! API tokens: who an operator lets in, and for what. Only a hash of a token is ever kept.

use std::fmt;

use uuid::Uuid;

use super::Timestamp;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenScope {
    Sessions,
    SessionKeys,
    Nonces,
    Dids,
    Revoke,
    Verify,
    /// Every other scope, and the operator's calls.
    Admin,
}

impl TokenScope {
    pub const ALL: [Self; 7] = [
        Self::Sessions,
        Self::SessionKeys,
        Self::Nonces,
        Self::Dids,
        Self::Revoke,
        Self::Verify,
        Self::Admin,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::SessionKeys => "session_keys",
            Self::Nonces => "nonces",
            Self::Dids => "dids",
            Self::Revoke => "revoke",
            Self::Verify => "verify",
            Self::Admin => "admin",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scopes of one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenScopes(Vec<TokenScope>);

impl TokenScopes {
    #[must_use]
    pub fn new(mut scopes: Vec<TokenScope>) -> Self {
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }

    /// Whether these scopes allow what needs `scope`.
    #[must_use]
    pub fn allow(&self, scope: TokenScope) -> bool {
        self.0.contains(&TokenScope::Admin) || self.0.contains(&scope)
    }

    #[must_use]
    pub fn as_slice(&self) -> &[TokenScope] {
        &self.0
    }
}

/// SHA-256 of a token's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    pub id: Uuid,
    pub name: String,
    pub scopes: TokenScopes,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// The database's clock when this row was read.
    pub observed_at: Timestamp,
}

impl ApiToken {
    /// Whether the token was valid when it was read.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| at > self.observed_at)
    }
}

/// A token to store.
#[derive(Debug, Clone)]
pub struct NewToken {
    pub id: Uuid,
    pub name: String,
    pub hash: TokenHash,
    pub scopes: TokenScopes,
    /// From now, by the database's clock; `None` never expires.
    pub ttl_seconds: Option<u32>,
}
