//! Webhooks: who is sent which events. What sends them is [`Deliverer`].

mod deliverer;
mod endpoint;
mod url;

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
pub use deliverer::Deliverer;

/// Clones share the store.
#[derive(Clone)]
pub struct Webhooks {
    store: Store,
    sealer: Sealer,
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
    pub const fn new(store: Store, sealer: Sealer) -> Self {
        Self { store, sealer }
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
        let id = Uuid::now_v7();
        // A URL may have a secret in it.
        let data = json!({ "types": types, "signature": signature.as_str() });
        let new = NewWebhook {
            id,
            url: url.as_str().to_owned(),
            types,
            signature,
            secret: self.sealer.seal_webhook(&*secret, id)?,
        };
        let event = event(OwnType::WebhookCreated, actor, id, &data);
        let created = self.store.create_webhook(new, event).await?;
        let for_receiver = WebhookKey::new(signature, &secret).for_receiver();
        Ok(created.map(|webhook| (webhook, for_receiver)))
    }

    /// Every webhook, oldest first.
    pub async fn list(&self) -> Result<Vec<Webhook>, ServiceError> {
        let all = self.store.webhooks().await?;
        Ok(all.into_iter().map(|sealed| sealed.webhook).collect())
    }

    /// Changes a webhook; `None` if there is none.
    pub async fn update(
        &self,
        id: Uuid,
        update: UpdateWebhook,
        actor: Actor,
    ) -> Result<Option<Webhook>, ServiceError> {
        let UpdateWebhook { url, types, paused } = update;
        // What stays as it was is null.
        let data = json!({ "url_changed": url.is_some(), "types": types, "paused": paused });
        let change = WebhookChange {
            url: url.map(|url| url.as_str().to_owned()),
            types,
            state: paused.map(|paused| {
                (if paused { WebhookState::Paused } else { WebhookState::Active }, None)
            }),
        };
        let event = event(OwnType::WebhookChanged, actor, id, &data);
        Ok(self.store.change_webhook(id, change, event).await?)
    }

    /// Deletes a webhook and what is left to send to it. Returns whether there was one.
    pub async fn delete(&self, id: Uuid, actor: Actor) -> Result<bool, ServiceError> {
        let event = event(OwnType::WebhookDeleted, actor, id, &json!({}));
        Ok(self.store.delete_webhook(id, event).await?)
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
