//! Webhooks that the configuration names.

use secrecy::ExposeSecret as _;

use super::url::{InvalidWebhookUrl, WebhookUrl};
use crate::config;
use crate::domain::WebhookSecret;

/// A webhook that the configuration names. It has no `Debug`.
pub struct ConfiguredWebhook {
    pub(super) name: String,
    pub(super) url: WebhookUrl,
    pub(super) types: Vec<String>,
    pub(super) secret: WebhookSecret,
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
