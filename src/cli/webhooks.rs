//! `onceguard webhooks`: says where events are sent. A running instance sends them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Failure, database, format, out};
use crate::config::Config;
use crate::domain::{
    Actor, Delivery, DeliveryState, HeardType, MAX_WEBHOOKS, PageRequest, Webhook, WebhookSignature,
};
use crate::services;
use crate::services::{
    ConfiguredWebhook, Replay, ReplayOutcome, Sealer, SealingKeys, Unchanged, UpdateWebhook,
    WebhookUrl, admit_keys,
};
use crate::storage::Store;

/// Deliveries that are shown.
const SHOWN: u32 = 50;

#[derive(Debug, Args)]
pub(super) struct Webhooks {
    #[command(subcommand)]
    act: Act,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// List webhooks, without their secrets
    #[command(after_help = "Example:\n  onceguard webhooks list --json")]
    List,
    /// Make a webhook and print its secret; it cannot be shown again
    #[command(after_help = "Example:\n  \
        onceguard webhooks create https://receiver.example/hooks --type com.example.order.paid")]
    Create {
        url: String,
        /// A type of events that it hears, or `*`. Can be given several times, or as a list with
        /// commas
        #[arg(long = "type", required = true, value_delimiter = ',', value_parser = HeardType::parse)]
        types: Vec<HeardType>,
        /// Sign with Ed25519, and print the public key
        #[arg(long)]
        ed25519: bool,
    },
    /// Let events wait
    #[command(
        after_help = "Example:\n  onceguard webhooks pause 0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55"
    )]
    Pause { id: Uuid },
    /// Send events, and those that waited
    #[command(
        after_help = "Example:\n  onceguard webhooks resume 0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55"
    )]
    Resume { id: Uuid },
    /// Delete a webhook, and what is left to send to it
    #[command(
        after_help = "Example:\n  onceguard webhooks delete 0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55"
    )]
    Delete { id: Uuid },
    /// Show what became of the newest events at a webhook
    #[command(after_help = "Example:\n  \
        onceguard webhooks deliveries 0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55 --state dead")]
    Deliveries {
        id: Uuid,
        /// pending, delivered or dead
        #[arg(long, value_parser = parse_state)]
        state: Option<DeliveryState>,
    },
    /// Send one event again, or all since a time
    #[command(after_help = "Example:\n  \
        onceguard webhooks replay 0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55 --since 2026-01-02T03:04:05Z")]
    Replay {
        id: Uuid,
        #[command(flatten)]
        what: What,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The id of an event
    #[arg(long)]
    event: Option<Uuid>,
    /// All events of this time or later that it hears, also those that it took
    #[arg(long, value_parser = format::parse_time)]
    since: Option<crate::domain::Timestamp>,
}

impl Webhooks {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        let sealer = Sealer::new(&SealingKeys::load(&config.sealing, &config.data_dir, false)?);
        let store = database::open_migrated(&config).await?;
        let result = self.act(&config, &store, sealer).await;
        store.close().await;
        result
    }

    async fn act(self, config: &Config, store: &Store, sealer: Sealer) -> Result<(), Failure> {
        let configured = ConfiguredWebhook::all(&config.webhooks)
            .map_err(|error| Failure::Usage(format!("webhooks.endpoints: {error}")))?;
        let webhooks = services::Webhooks::new(store.clone(), sealer.clone(), configured.into());
        let update = async |id, paused| {
            let update = UpdateWebhook { paused: Some(paused), ..UpdateWebhook::default() };
            let webhook = webhooks.update(id, update, Actor::Operator).await?;
            self.show(&webhook.map_err(|why| unchanged(id, why))?)
        };
        match &self.act {
            Act::List => self.list(&webhooks.list().await?),
            Act::Create { url, types, ed25519 } => {
                let url = WebhookUrl::parse(url, config.webhooks.allow_private_addresses)
                    .map_err(|error| Failure::Usage(format!("the URL {error}")))?;
                let types = types.iter().map(|heard| heard.as_str().to_owned()).collect();
                let signature = if *ed25519 { WebhookSignature::V1a } else { WebhookSignature::V1 };
                // What it seals must be opened by those that serve.
                admit_keys(&sealer, store).await?;
                let made = webhooks.create(&url, types, signature, Actor::Operator).await?;
                let Some((webhook, secret)) = made else {
                    return Err(Failure::Refused(format!(
                        "there are {MAX_WEBHOOKS} webhooks, the most; delete one first"
                    )));
                };
                if self.json {
                    let mut object = describe(&webhook);
                    if let Value::Object(fields) = &mut object {
                        fields.insert("secret".to_owned(), secret.as_str().into());
                    }
                    return out::json(&object);
                }
                let id = webhook.id;
                out::note(format!("webhook {id}; keep this, because it is not shown again:"));
                out::line(secret.as_str())
            }
            Act::Pause { id } => update(*id, true).await,
            Act::Resume { id } => update(*id, false).await,
            Act::Delete { id } => match webhooks.delete(*id, Actor::Operator).await? {
                Ok(()) if self.json => out::json(&json!({ "deleted": id })),
                Ok(()) => out::line(format!("{id}: deleted")),
                Err(why) => Err(unchanged(*id, why)),
            },
            Act::Deliveries { id, state } => {
                let page = PageRequest { limit: SHOWN, after: None };
                let page = webhooks.deliveries(*id, *state, &page).await?;
                self.deliveries(&page.ok_or_else(|| unknown(*id))?.items)
            }
            Act::Replay { id, what: What { event, since } } => {
                let replay = event.map(Replay::Event).or(since.map(Replay::Since));
                let Some(replay) = replay else {
                    return Err(Failure::Usage("give --event or --since".to_owned()));
                };
                match webhooks.replay(*id, replay).await? {
                    ReplayOutcome::Done if self.json => out::json(&json!({ "replayed": id })),
                    ReplayOutcome::Done => {
                        out::line(format!("{id}: sent again by those that serve"))
                    }
                    ReplayOutcome::UnknownWebhook => Err(unknown(*id)),
                    ReplayOutcome::UnknownEvent => Err(Failure::Failed(
                        "the log does not have this event, or has not given it its place yet"
                            .into(),
                    )),
                }
            }
        }
    }

    fn show(&self, webhook: &Webhook) -> Result<(), Failure> {
        if self.json {
            return out::json(&describe(webhook));
        }
        out::line(format!("{}: {}", webhook.id, webhook.state.as_str()))
    }

    fn list(&self, all: &[Webhook]) -> Result<(), Failure> {
        if self.json {
            return out::json(&json!({ "items": all.iter().map(describe).collect::<Vec<_>>() }));
        }
        let rows: Vec<_> = all.iter().map(row).collect();
        out::table(["ID", "NAME", "URL", "TYPES", "SIGNATURE", "STATE", "REASON"], &rows)
    }

    fn deliveries(&self, all: &[Delivery]) -> Result<(), Failure> {
        if self.json {
            let items: Vec<_> = all.iter().map(describe_delivery).collect();
            return out::json(&json!({ "items": items }));
        }
        let rows: Vec<_> = all.iter().map(row_of_delivery).collect();
        out::table(["EVENT", "STATE", "ATTEMPTS", "NEXT ATTEMPT", "LAST"], &rows)
    }
}

fn parse_state(word: &str) -> Result<DeliveryState, &'static str> {
    DeliveryState::parse(word).ok_or("must be pending, delivered or dead")
}

fn unknown(id: Uuid) -> Failure {
    Failure::Failed(format!(
        "there is no webhook {id}; `onceguard webhooks list` shows all webhooks"
    ))
}

fn unchanged(id: Uuid, why: Unchanged) -> Failure {
    match why {
        Unchanged::Unknown => unknown(id),
        Unchanged::Configured => Failure::Refused(format!(
            "the configuration names webhook {id}; take it out of [webhooks.endpoints] first"
        )),
    }
}

fn row(webhook: &Webhook) -> [String; 7] {
    [
        webhook.id.to_string(),
        webhook.name.clone().unwrap_or_default(),
        webhook.url.clone(),
        webhook.types.join(","),
        webhook.signature.as_str().to_owned(),
        webhook.state.as_str().to_owned(),
        webhook.reason.clone().unwrap_or_default(),
    ]
}

/// In the words of `GET /v1/webhooks`.
fn describe(webhook: &Webhook) -> Value {
    json!({
        "id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "types": webhook.types,
        "signature": webhook.signature.as_str(),
        "state": webhook.state.as_str(),
        "reason": webhook.reason,
        "created_at": format::time(webhook.created_at),
    })
}

fn row_of_delivery(delivery: &Delivery) -> [String; 5] {
    let status = delivery.status.map(|status| status.to_string());
    [
        delivery.event.to_string(),
        delivery.state.as_str().to_owned(),
        delivery.attempts.to_string(),
        delivery.next_attempt_at.map_or("none".to_owned(), format::time),
        delivery.error.clone().or(status).unwrap_or_default(),
    ]
}

/// In the words of `GET /v1/webhooks/{id}/deliveries`.
fn describe_delivery(delivery: &Delivery) -> Value {
    json!({
        "event": delivery.event,
        "sequence": delivery.sequence,
        "state": delivery.state.as_str(),
        "attempts": delivery.attempts,
        "next_attempt_at": delivery.next_attempt_at.map(format::time),
        "created_at": format::time(delivery.created_at),
        "last_attempt_at": delivery.attempted_at.map(format::time),
        "last_status": delivery.status,
        "last_error": delivery.error,
    })
}
