//! Webhooks that get nothing, events that were given up or wait for long, and receivers that are not
//! reached safely.

use std::time::Duration;

use super::Check;
use crate::config::{Config, Webhooks};
use crate::domain::{Webhook, WebhookState};
use crate::services::WebhookUrl;
use crate::storage::{Result, Store};

/// An event that has waited for longer is a warning.
const WAITS: Duration = Duration::from_hours(1);

/// One check for each finding.
pub(super) async fn checks(store: &Store, config: &Config) -> Vec<Check> {
    const NAME: &str = "webhooks";
    match warnings(store, &config.webhooks).await {
        Ok(warnings) if warnings.is_empty() => {
            vec![Check::ok(NAME, "all are active, and no event waits for long")]
        }
        Ok(warnings) => warnings.into_iter().map(|what| Check::warn(NAME, what)).collect(),
        Err(error) => vec![Check::fail(NAME, error.to_string())],
    }
}

async fn warnings(store: &Store, config: &Webhooks) -> Result<Vec<String>> {
    let all = store.webhooks().await?;
    let all: Vec<_> = all.into_iter().map(|sealed| sealed.webhook).collect();
    let is_unsafe = |webhook: &Webhook| WebhookUrl::parse(&webhook.url, false).is_err();
    let unsafe_advice = if config.allow_private_addresses {
        "webhooks.allow_private_addresses allows that; set it only where you trust the network"
    } else {
        "nothing is sent there without webhooks.allow_private_addresses; change the URL"
    };
    let mut warnings = Vec::new();
    warnings.extend(some(
        &all,
        |webhook| webhook.state == WebhookState::Disabled,
        "are disabled",
        "when the receiver is back, run `onceguard webhooks resume`",
    ));
    warnings.extend(some(
        &all,
        |webhook| webhook.state == WebhookState::Paused,
        "are paused",
        "events wait for `onceguard webhooks resume`",
    ));
    warnings.extend(some(
        &all,
        is_unsafe,
        "have a URL with plain http or a private address",
        unsafe_advice,
    ));
    let endpoints = &config.endpoints;
    warnings.extend(some(
        &all,
        |webhook| {
            webhook.name.as_ref().is_some_and(|name| endpoints.iter().all(|one| one.name != *name))
        },
        "are not in webhooks.endpoints any more",
        "`onceguard webhooks delete` deletes what shall go",
    ));
    let dead = store.delivery_counts().await?.dead;
    if dead > 0 {
        warnings.push(format!(
            "{dead} events were given up; `onceguard webhooks deliveries ID --state dead` shows them, \
             and `onceguard webhooks replay` sends them again"
        ));
    }
    let oldest = store.webhook_counts().await?.oldest_pending;
    if oldest > WAITS {
        warnings.push(format!(
            "an event has waited for {} minutes; `onceguard webhooks deliveries ID --state pending` \
             shows why",
            oldest.as_secs() / 60
        ));
    }
    Ok(warnings)
}

/// How many of all webhooks are so, and the first of them; `None` if there is none.
fn some(
    all: &[Webhook],
    is_so: impl Fn(&Webhook) -> bool,
    what: &str,
    advice: &str,
) -> Option<String> {
    let found: Vec<_> = all.iter().filter(|webhook| is_so(webhook)).collect();
    let first = found.first()?;
    let why = first.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    Some(format!("{} {what}, first {}{why}; {advice}", found.len(), first.id))
}
