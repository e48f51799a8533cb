//! Webhooks that the configuration names. Each start makes them as they are there. Several instances of
//! the same configuration make one of each.

use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{InvalidWebhookUrl, WebhookUrl, Webhooks, event};
use crate::config;
use crate::domain::{Actor, OwnType, Webhook, WebhookSecret, WebhookSignature};
use crate::services::ServiceError;
use crate::storage::{SealedWebhook, WebhookChange};

/// A webhook that the configuration names. It has no `Debug`.
pub struct ConfiguredWebhook {
    pub(super) name: String,
    url: WebhookUrl,
    types: Vec<String>,
    secret: WebhookSecret,
}

/// The URL of an endpoint of the configuration is none.
#[derive(Debug, thiserror::Error)]
#[error("{name}.url {why}")]
pub struct InvalidEndpoint {
    name: String,
    why: InvalidWebhookUrl,
}

impl ConfiguredWebhook {
    /// What `[webhooks.endpoints]` has.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] when a URL is none that events may be sent to.
    pub fn all(config: &config::Webhooks) -> Result<Vec<Self>, InvalidEndpoint> {
        let read = |endpoint: &config::WebhookEndpoint| {
            let url = endpoint.url.expose_secret();
            let url = WebhookUrl::parse(url, config.allow_private_addresses)
                .map_err(|why| InvalidEndpoint { name: endpoint.name.clone(), why })?;
            Ok(Self {
                name: endpoint.name.clone(),
                url,
                types: endpoint.types.clone(),
                secret: endpoint.secret.clone(),
            })
        };
        config.endpoints.iter().map(read).collect()
    }
}

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
                WebhookSignature::V1,
                &wanted.secret.0,
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
        let SealedWebhook { webhook: Webhook { id, url, types, .. }, secret } = found;
        // What cannot be opened is replaced.
        let opened = self.sealer.open_webhook(&secret, id).ok();
        let has_secret =
            opened.is_some_and(|opened| opened.as_slice() == wanted.secret.0.as_slice());
        let change = WebhookChange {
            url: (url != wanted.url.as_str()).then(|| wanted.url.as_str().to_owned()),
            types: (types != wanted.types).then(|| wanted.types.clone()),
            secret: if has_secret {
                None
            } else {
                Some(self.sealer.seal_webhook(&*wanted.secret.0, id)?)
            },
            state: None,
        };
        if change == WebhookChange::default() {
            return Ok(());
        }
        let data = json!({
            "url_changed": change.url.is_some(), "types": change.types, "paused": null,
            "secret_changed": change.secret.is_some(),
        });
        let event = event(OwnType::WebhookChanged, Actor::Service, id, &data);
        self.store.change_webhook(id, change, event).await?;
        Ok(())
    }
}
