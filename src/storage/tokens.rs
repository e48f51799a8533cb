//! API tokens, by their hash.

use uuid::Uuid;

use super::{Result, Store, on};
use crate::domain::{ApiToken, Binding, Namespace, NewEvent, NewToken, TokenHash};

/// The columns say no binding.
pub(super) struct Unreadable;

/// What confines a token, by its columns. A token whose columns cannot be read is none: without its
/// binding it could do more.
pub(super) fn binding(
    namespace: Option<&str>,
    max_ttl_seconds: Option<i64>,
) -> std::result::Result<Option<Binding>, Unreadable> {
    match (namespace, max_ttl_seconds) {
        (None, None) => Ok(None),
        (Some(namespace), Some(seconds)) => {
            let namespace = Namespace::parse(namespace).map_err(|_| Unreadable)?;
            let max_ttl_seconds = u32::try_from(seconds).map_err(|_| Unreadable)?;
            Ok(Some(Binding { namespace, max_ttl_seconds }))
        }
        _ => Err(Unreadable),
    }
}

impl Store {
    pub async fn create_token(&self, new: NewToken, audit: NewEvent) -> Result<ApiToken> {
        on!(self, store => store.create_token(new, audit).await)
    }

    /// The tokens with these hashes that exist, valid or not, in no order. One that cannot be
    /// read is an error of its own.
    pub async fn tokens(
        &self,
        hashes: Vec<TokenHash>,
    ) -> Result<Vec<(TokenHash, Result<ApiToken>)>> {
        on!(self, store => store.tokens(hashes).await)
    }

    /// Every token, oldest first.
    pub async fn list_tokens(&self) -> Result<Vec<ApiToken>> {
        on!(self, store => store.list_tokens().await)
    }

    /// Revokes a token; the first revocation stands. `None` when there is no such token.
    pub async fn revoke_token(&self, id: Uuid, audit: NewEvent) -> Result<Option<ApiToken>> {
        on!(self, store => store.revoke_token(id, audit).await)
    }

    /// Records that a token was used just now.
    pub async fn token_used(&self, id: Uuid) -> Result<()> {
        on!(self, store => store.token_used(id).await)
    }
}
