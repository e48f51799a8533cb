//! API tokens: `og_` and 256 random bits. The store keeps a hash; what was found is remembered
//! for a few seconds, so that a call does not cost a query, and neither does a made-up token.

mod lookups;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use secrecy::ExposeSecret;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use lookups::Lookups;

use super::{Journal, ServiceError, event};
use crate::clock::Clock;
use crate::config;
use crate::data_dir;
use crate::domain::{
    Actor, ApiToken, Binding, NewToken, OwnType, TokenHash, TokenScope, TokenScopes, TokenText,
};
use crate::origin::Origin;
use crate::storage::{Act, Store};

/// The file in the data folder that holds the first admin token.
pub const ADMIN_TOKEN_FILE: &str = "admin.token";

/// For how long an answer about a token is remembered: a revoked one works at most this long.
const REMEMBERED: Duration = Duration::from_secs(5);
/// `last_used_at` is written at most this often for one token.
const USE_RECORDED_EVERY: Duration = Duration::from_mins(1);
const REMEMBERED_TOKENS: u64 = 10_000;
/// The same of tokens that do not exist. They are remembered apart, so that no number of them
/// displaces one that does.
const REMEMBERED_UNKNOWN: u64 = 10_000;

/// Where the operator finds the admin token after a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminToken {
    /// This start created it, and wrote it to this file (mode 0600).
    Created(PathBuf),
    /// It is in this file since an earlier start.
    InFile(PathBuf),
    /// The configuration gives it.
    Configured,
    /// The database has tokens, and this data folder holds none of them.
    Elsewhere,
    /// Every token that the database has was revoked or has expired.
    NoneValid,
}

/// The tokens. Clones share the cache.
#[derive(Clone)]
pub struct Tokens {
    store: Store,
    clock: Clock,
    lookups: Arc<Lookups>,
    remembered: Cache<TokenHash, Arc<ApiToken>>,
    unknown: Cache<TokenHash, ()>,
    use_recorded: Cache<Uuid, ()>,
    /// Without one, a recovery cannot learn again what was revoked here.
    journal: Option<Journal>,
}

impl Tokens {
    /// Tokens are looked up on the current Tokio runtime.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self {
            lookups: Arc::new(Lookups::new(store.clone())),
            store,
            clock,
            remembered: Cache::builder()
                .max_capacity(REMEMBERED_TOKENS)
                .time_to_live(REMEMBERED)
                .build(),
            unknown: Cache::builder()
                .max_capacity(REMEMBERED_UNKNOWN)
                .time_to_live(REMEMBERED)
                .build(),
            use_recorded: Cache::builder()
                .max_capacity(REMEMBERED_TOKENS)
                .time_to_live(USE_RECORDED_EVERY)
                .build(),
            journal: None,
        }
    }

    /// Writes revocations to this journal, too.
    #[must_use]
    pub fn journaled(self, journal: Journal) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// The token with this text, if it is valid now (or was less than 5 seconds ago).
    ///
    /// # Errors
    /// When the database cannot be asked: that a token could not be checked is not a "no".
    pub async fn authenticate(&self, text: &str) -> Result<Option<Arc<ApiToken>>, ServiceError> {
        let Ok(token) = TokenText::parse(text) else { return Ok(None) };
        let hash = token.hash();
        let found = match self.remembered.get(&hash).await {
            Some(token) => Some(token),
            None if self.unknown.contains_key(&hash) => None,
            // On the heap: a call whose token is remembered must not carry the room of a query.
            None => Box::pin(self.look_up(hash)).await?,
        };
        let now = self.clock.now();
        Ok(found.filter(|token| token.expires_at.is_none_or(|at| at > now)))
    }

    async fn look_up(&self, hash: TokenHash) -> Result<Option<Arc<ApiToken>>, ServiceError> {
        let found = self.lookups.find(hash).await?;
        if let Some(token) = &found {
            self.remembered.insert(hash, Arc::clone(token)).await;
            self.record_use(token.id).await;
        } else {
            self.unknown.insert(hash, ()).await;
        }
        Ok(found)
    }

    /// The token with this text, valid or not, as the database has it.
    async fn stored(&self, text: &TokenText) -> Result<Option<ApiToken>, ServiceError> {
        let found = self.store.tokens(vec![text.hash()]).await?.pop();
        Ok(found.map(|(_, token)| token).transpose()?)
    }

    /// Writes `last_used_at` down, now and then, without making the caller wait.
    async fn record_use(&self, id: Uuid) {
        let entry = self.use_recorded.entry(id).or_insert(()).await;
        if entry.is_fresh() {
            let store = self.store.clone();
            tokio::spawn(Origin::current().run(async move {
                if let Err(error) = store.token_used(id).await {
                    tracing::debug!(%error, "a token's last use was not recorded");
                }
            }));
        }
    }

    /// Creates a token. Its text exists nowhere but in the answer.
    pub async fn create(
        &self,
        name: &str,
        scopes: TokenScopes,
        binding: Option<Binding>,
        ttl_seconds: Option<u32>,
        actor: Actor,
    ) -> Result<(ApiToken, TokenText), ServiceError> {
        let text = generate()?;
        let token = self.store_token(&text, name, scopes, binding, ttl_seconds, actor).await?;
        Ok((token, text))
    }

    /// Every token, oldest first.
    pub async fn list(&self) -> Result<Vec<ApiToken>, ServiceError> {
        Ok(self.store.list_tokens().await?)
    }

    /// Revokes a token; running instances forget it within 5 seconds.
    pub async fn revoke(&self, id: Uuid, actor: Actor) -> Result<Option<ApiToken>, ServiceError> {
        let event = event(OwnType::TokenRevoked, actor, id, &json!({}));
        let revoked = self.store.revoke_token(id, event).await?;
        self.remembered.invalidate_all();
        if let (Some(journal), Some(token)) = (&self.journal, &revoked) {
            let at = token.revoked_at.unwrap_or(token.observed_at);
            journal.write(at, Act::RevokeToken(id)).await;
        }
        Ok(revoked)
    }

    /// Sees to it that somebody can log in: a database without any token gets an admin token,
    /// the configured one, the one in the data folder, or a new one in the data folder.
    pub async fn ensure_admin(
        &self,
        config: &config::Auth,
        folder: &Path,
    ) -> Result<AdminToken, ServiceError> {
        let file = folder.join(ADMIN_TOKEN_FILE);
        if let Some(text) = &config.admin_token {
            let text = TokenText::parse(text.expose_secret())
                .map_err(|error| ServiceError::Internal(format!("auth.admin_token: {error}")))?;
            return match self.stored(&text).await? {
                Some(token) if token.is_valid() => Ok(AdminToken::Configured),
                Some(_) => Err(ServiceError::Internal(
                    "auth.admin_token: this token was revoked; configure another, or none".into(),
                )),
                None => self.store_admin(&text).await.map(|()| AdminToken::Configured),
            };
        }
        let in_file =
            match data_dir::read_secret(&file)? {
                Some(text) => Some(TokenText::parse(text.trim()).map_err(|error| {
                    ServiceError::Internal(format!("{}: {error}", file.display()))
                })?),
                None => None,
            };
        let tokens = self.store.list_tokens().await?;
        let has_tokens = !tokens.is_empty();
        let is_any_valid = tokens.iter().any(ApiToken::is_valid);
        let others = if is_any_valid { AdminToken::Elsewhere } else { AdminToken::NoneValid };
        match in_file {
            Some(text) if !has_tokens => {
                self.store_admin(&text).await?;
                Ok(AdminToken::InFile(file))
            }
            Some(text) => Ok(match self.stored(&text).await? {
                Some(token) if token.is_valid() => AdminToken::InFile(file),
                _ => others,
            }),
            None if has_tokens => Ok(others),
            None => {
                let text = generate()?;
                data_dir::write_secret(&file, text.expose())?;
                self.store_admin(&text).await?;
                Ok(AdminToken::Created(file))
            }
        }
    }

    async fn store_admin(&self, text: &TokenText) -> Result<(), ServiceError> {
        let scopes = TokenScopes::new(vec![TokenScope::Admin]);
        self.store_token(text, "admin", scopes, None, None, Actor::Job("start")).await.map(drop)
    }

    async fn store_token(
        &self,
        text: &TokenText,
        name: &str,
        scopes: TokenScopes,
        binding: Option<Binding>,
        ttl_seconds: Option<u32>,
        actor: Actor,
    ) -> Result<ApiToken, ServiceError> {
        let id = Uuid::now_v7();
        let words: Vec<_> = scopes.as_slice().iter().map(|scope| scope.as_str()).collect();
        let data = match &binding {
            None => json!({ "name": name, "scopes": words }),
            Some(Binding { namespace, max_ttl_seconds }) => json!({
                "name": name,
                "scopes": words,
                "namespace": namespace.as_str(),
                "max_ttl_seconds": max_ttl_seconds,
            }),
        };
        let event = event(OwnType::TokenCreated, actor, id, &data);
        let (name, hash) = (name.to_owned(), text.hash());
        let new = NewToken { id, name, hash, scopes, binding, ttl_seconds };
        Ok(self.store.create_token(new, event).await?)
    }
}

fn generate() -> Result<TokenText, ServiceError> {
    let mut random = Zeroizing::new([0_u8; 32]);
    getrandom::fill(&mut *random)
        .map_err(|error| ServiceError::Internal(format!("no random bytes: {error}")))?;
    Ok(TokenText::from_random(&random))
}
