//! Webhooks: who is sent which events. What sends them is [`Deliverer`].

mod configure;
mod configured;
mod deliverer;
mod endpoint;
mod url;

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Sealer, ServiceError, event};
use crate::domain::{
    Actor, Delivery, DeliveryState, OwnType, Page, PageRequest, Timestamp, Webhook, WebhookKey,
    WebhookSignature, WebhookState,
};
use crate::storage::{NewWebhook, Replayed, Store, WebhookChange};

pub use self::url::{InvalidWebhookUrl, WebhookUrl};
pub use configured::{ConfiguredWebhook, InvalidEndpoint};
pub use deliverer::Deliverer;

/// Clones share the store.
#[derive(Clone)]
pub struct Webhooks {
    store: Store,
    sealer: Sealer,
    /// What the configuration names.
    configured: Arc<[ConfiguredWebhook]>,
}

/// Why a webhook is not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchanged {
    /// There is none.
    Unknown,
    /// The configuration names it, and says what it is.
    Configured,
}

/// What to change in a webhook.
#[derive(Debug, Clone, Default)]
pub struct UpdateWebhook {
    pub url: Option<WebhookUrl>,
    pub types: Option<Vec<String>>,
    pub paused: Option<bool>,
}

/// Which events to send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    Event(Uuid),
    Since(Timestamp),
}

/// What became of the wish to send events again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOutcome {
    Done,
    UnknownWebhook,
    UnknownEvent,
}

impl Webhooks {
    #[must_use]
    pub const fn new(store: Store, sealer: Sealer, configured: Arc<[ConfiguredWebhook]>) -> Self {
        Self { store, sealer, configured }
    }

    /// Makes a webhook, and returns it with what its receiver verifies with. `None` if there are as
    /// many as may be.
    pub async fn create(
        &self,
        url: &WebhookUrl,
        types: Vec<String>,
        signature: WebhookSignature,
        actor: Actor,
    ) -> Result<Option<(Webhook, Zeroizing<String>)>, ServiceError> {
        let mut secret = Zeroizing::new([0; WebhookKey::LEN]);
        getrandom::fill(&mut *secret)
            .map_err(|error| ServiceError::Internal(format!("no random bytes: {error}")))?;
        let created = self.make(None, url, types, signature, &secret, actor).await?;
        let for_receiver = WebhookKey::new(signature, &secret).for_receiver();
        Ok(created.map(|webhook| (webhook, for_receiver)))
    }

    async fn make(
        &self,
        name: Option<String>,
        url: &WebhookUrl,
        types: Vec<String>,
        signature: WebhookSignature,
        secret: &[u8; WebhookKey::LEN],
        actor: Actor,
    ) -> Result<Option<Webhook>, ServiceError> {
        let id = Uuid::now_v7();
        // A URL may have a secret in it.
        let data = json!({ "name": name, "types": types, "signature": signature.as_str() });
        let new = NewWebhook {
            id,
            name,
            url: url.as_str().to_owned(),
            types,
            signature,
            secret: self.sealer.seal_webhook(secret, id)?,
        };
        let event = event(OwnType::WebhookCreated, actor, id, &data);
        Ok(self.store.create_webhook(new, event).await?)
    }

    /// Every webhook, oldest first.
    pub async fn list(&self) -> Result<Vec<Webhook>, ServiceError> {
        let all = self.store.webhooks().await?;
        Ok(all.into_iter().map(|sealed| sealed.webhook).collect())
    }

    /// Changes a webhook. One of the configuration can only be paused and resumed.
    pub async fn update(
        &self,
        id: Uuid,
        update: UpdateWebhook,
        actor: Actor,
    ) -> Result<Result<Webhook, Unchanged>, ServiceError> {
        let UpdateWebhook { url, types, paused } = update;
        if (url.is_some() || types.is_some()) && self.is_configured(id).await? {
            return Ok(Err(Unchanged::Configured));
        }
        // What stays as it was is null.
        let data = json!({ "url_changed": url.is_some(), "types": types, "paused": paused });
        let change = WebhookChange {
            url: url.map(|url| url.as_str().to_owned()),
            types,
            secret: None,
            state: paused.map(|paused| {
                (if paused { WebhookState::Paused } else { WebhookState::Active }, None)
            }),
        };
        let event = event(OwnType::WebhookChanged, actor, id, &data);
        Ok(self.store.change_webhook(id, change, event).await?.ok_or(Unchanged::Unknown))
    }

    /// Deletes a webhook, unless it is of the configuration, and what is left to send to it.
    pub async fn delete(
        &self,
        id: Uuid,
        actor: Actor,
    ) -> Result<Result<(), Unchanged>, ServiceError> {
        if self.is_configured(id).await? {
            return Ok(Err(Unchanged::Configured));
        }
        let event = event(OwnType::WebhookDeleted, actor, id, &json!({}));
        let deleted = self.store.delete_webhook(id, event).await?;
        Ok(if deleted { Ok(()) } else { Err(Unchanged::Unknown) })
    }

    /// Whether the configuration names it. A webhook keeps its name.
    async fn is_configured(&self, id: Uuid) -> Result<bool, ServiceError> {
        if self.configured.is_empty() {
            return Ok(false);
        }
        let found = self.list().await?.into_iter().find(|webhook| webhook.id == id);
        let name = found.and_then(|webhook| webhook.name);
        Ok(name.is_some_and(|name| self.configured.iter().any(|one| one.name == name)))
    }

    /// What became of events at a webhook, the newest event first; `None` if there is no such webhook.
    pub async fn deliveries(
        &self,
        id: Uuid,
        state: Option<DeliveryState>,
        page: &PageRequest,
    ) -> Result<Option<Page<Delivery>>, ServiceError> {
        let page = self.store.deliveries(id, state, page).await?;
        let is_there = !page.items.is_empty() || self.list().await?.iter().any(|one| one.id == id);
        Ok(is_there.then_some(page))
    }

    /// Sends events again.
    pub async fn replay(&self, id: Uuid, replay: Replay) -> Result<ReplayOutcome, ServiceError> {
        let replayed = match replay {
            Replay::Event(event) => self.store.replay_event(id, event).await?,
            Replay::Since(since) => self.store.replay_since(id, since).await?,
        };
        Ok(match replayed {
            Replayed::Done => ReplayOutcome::Done,
            Replayed::UnknownWebhook => ReplayOutcome::UnknownWebhook,
            Replayed::UnknownEvent => ReplayOutcome::UnknownEvent,
        })
    }
}
