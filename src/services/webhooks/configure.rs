//! Each start makes the webhooks as the configuration has them. Several instances of the same
//! configuration make one of each.

use serde_json::json;

use super::configured::ConfiguredWebhook;
use super::{Webhooks, event};
use crate::domain::{Actor, OwnType, Webhook};
use crate::services::ServiceError;
use crate::storage::{SealedWebhook, WebhookChange};

impl Webhooks {
    /// Makes the webhooks of the configuration, or changes them to what it says. Whether one is paused
    /// or disabled stays as it is. Returns whether there was room for all.
    pub async fn configure(&self) -> Result<bool, ServiceError> {
        for wanted in &*self.configured {
            let mut all = self.store.webhooks().await?.into_iter();
            let named = |one: &SealedWebhook| one.webhook.name.as_ref() == Some(&wanted.name);
            if let Some(found) = all.find(named) {
                self.conform(found, wanted).await?;
                continue;
            }
            let made = self.make(
                Some(wanted.name.clone()),
                &wanted.url,
                wanted.types.clone(),
                wanted.secret.signature,
                &wanted.secret.bytes,
                Actor::Service,
            );
            if made.await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn conform(
        &self,
        found: SealedWebhook,
        wanted: &ConfiguredWebhook,
    ) -> Result<(), ServiceError> {
        let SealedWebhook { webhook: Webhook { id, url, types, signature, .. }, secret } = found;
        // What cannot be opened is replaced.
        let opened = self.sealer.open_webhook(&secret, id).ok();
        let has_secret = signature == wanted.secret.signature
            && opened.is_some_and(|opened| opened.as_slice() == wanted.secret.bytes.as_slice());
        let change = WebhookChange {
            url: (url != wanted.url.as_str()).then(|| wanted.url.as_str().to_owned()),
            types: (types != wanted.types).then(|| wanted.types.clone()),
            secret: if has_secret {
                None
            } else {
                let sealed = self.sealer.seal_webhook(&*wanted.secret.bytes, id)?;
                Some((wanted.secret.signature, sealed))
            },
            state: None,
        };
        if change == WebhookChange::default() {
            return Ok(());
        }
        let data = json!({
            "url_changed": change.url.is_some(), "types": change.types, "paused": null,
            "secret_changed": change.secret.is_some(),
            "signature": (signature != wanted.secret.signature)
                .then(|| wanted.secret.signature.as_str()),
        });
        let event = event(OwnType::WebhookChanged, Actor::Service, id, &data);
        self.store.change_webhook(id, change, event).await?;
        Ok(())
    }
}
