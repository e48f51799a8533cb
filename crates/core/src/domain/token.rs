//! API tokens: who an operator lets in, and for what. Only a hash of a token is ever kept.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Namespace, Timestamp};

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenScope {
    Sessions,
    SessionKeys,
    Nonces,
    Dids,
    Revoke,
    Verify,
    Records,
    /// Publishes events.
    Events,
    /// Reads events.
    Audit,
    /// Says where events are sent.
    Webhooks,
    /// Every other scope, and the operator's calls.
    Admin,
}

impl TokenScope {
    pub const ALL: [Self; 11] = [
        Self::Sessions,
        Self::SessionKeys,
        Self::Nonces,
        Self::Dids,
        Self::Revoke,
        Self::Verify,
        Self::Records,
        Self::Events,
        Self::Audit,
        Self::Webhooks,
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
            Self::Records => "records",
            Self::Events => "events",
            Self::Audit => "audit",
            Self::Webhooks => "webhooks",
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
    #[inline]
    #[must_use]
    pub fn allow(&self, scope: TokenScope) -> bool {
        self.0.contains(&TokenScope::Admin) || self.0.contains(&scope)
    }

    #[must_use]
    pub fn as_slice(&self) -> &[TokenScope] {
        &self.0
    }
}

/// A token's text: `og_` and 32 random bytes in base64url. It is shown once, to whoever
/// creates it.
#[derive(Clone)]
pub struct TokenText(Zeroizing<String>);

/// The text is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be `og_` and 43 characters of base64url (32 random bytes)")]
pub struct InvalidToken;

impl TokenText {
    const PREFIX: &str = "og_";

    #[must_use]
    pub fn from_random(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(format!("{}{}", Self::PREFIX, URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// # Errors
    /// [`InvalidToken`] when the text does not have a token's form.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let random = text.strip_prefix(Self::PREFIX).ok_or(InvalidToken)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(random).map_err(|_| InvalidToken)?);
        if bytes.len() == 32 {
            Ok(Self(Zeroizing::new(text.to_owned())))
        } else {
            Err(InvalidToken)
        }
    }

    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored, and looked up.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
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

/// What confines a token to one namespace: it claims and reads there, and does nothing else. Its
/// one scope is [`TokenScope::Nonces`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub namespace: Namespace,
    /// How far ahead a nonce that it claims may expire; at most [`super::MAX_EXPIRY_AHEAD_SECONDS`].
    pub max_ttl_seconds: u32,
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    pub id: Uuid,
    pub name: String,
    pub scopes: TokenScopes,
    pub binding: Option<Binding>,
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
    pub binding: Option<Binding>,
    /// From now, by the database's clock; `None` never expires.
    pub ttl_seconds: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_hides_itself() {
        let token = TokenText::from_random(&[7; 32]);
        assert_eq!(token.expose().len(), 46);
        let read = TokenText::parse(token.expose()).expect("its own text");
        assert_eq!(read.hash(), token.hash());
        assert_eq!(format!("{token:?} {:?}", token.hash()), "TokenText(…) TokenHash(…)");
    }

    #[test]
    fn other_texts_are_not_tokens() {
        let token = TokenText::from_random(&[7; 32]);
        let (short, bare) = (&token.expose()[..45], &token.expose()[3..]);
        for text in ["", "og_", short, bare, "og_!!!!", &format!("{}x", token.expose())] {
            assert_eq!(TokenText::parse(text).err(), Some(InvalidToken), "{text}");
        }
    }

    #[test]
    fn admin_allows_everything_and_others_only_themselves() {
        let admin = TokenScopes::new(vec![TokenScope::Admin]);
        let dids = TokenScopes::new(vec![TokenScope::Dids]);
        for scope in TokenScope::ALL {
            assert!(admin.allow(scope));
            assert_eq!(dids.allow(scope), scope == TokenScope::Dids);
        }
    }
}
