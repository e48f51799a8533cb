//! `/v1/webhooks`: where events are sent, what became of them there, and sending them again.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::call::Call;
use super::fields::{array, flag, text};
use super::problem::Problem;
use super::time::{Time, time};
use super::values::{PageView, json};
use super::words;
use crate::domain::{
    Code, Delivery, DeliveryState, HeardType, MAX_WEBHOOK_TYPES, MAX_WEBHOOKS, Webhook,
    WebhookSignature,
};
use crate::services::{Replay, ReplayOutcome, Unchanged, UpdateWebhook, WebhookUrl};

/// An endpoint that events are sent to.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(super) struct View<'a> {
    #[schema(example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")]
    id: Uuid,
    /// The configuration's; null if a caller made it.
    #[schema(required = true)]
    name: Option<&'a str>,
    #[schema(example = "https://receiver.example/hooks")]
    url: &'a str,
    /// The types of events that it hears; `*` stands for all.
    #[schema(example = json!(["com.example.order.paid"]))]
    types: &'a [String],
    /// How deliveries are signed: `v1` is HMAC-SHA256, `v1a` is Ed25519.
    #[schema(value_type = words::WebhookSignature, example = "v1")]
    signature: &'static str,
    /// `active`: events are sent. `paused` and `disabled`: they wait.
    #[schema(value_type = words::WebhookState, example = "active")]
    state: &'static str,
    /// Why it is not active, where no caller paused it.
    #[schema(required = true)]
    reason: Option<&'a str>,
    created_at: Time,
}

impl<'a> View<'a> {
    fn of(webhook: &'a Webhook) -> Self {
        Self {
            id: webhook.id,
            name: webhook.name.as_deref(),
            url: &webhook.url,
            types: &webhook.types,
            signature: webhook.signature.as_str(),
            state: webhook.state.as_str(),
            reason: webhook.reason.as_deref(),
            created_at: Time(webhook.created_at),
        }
    }
}

/// A webhook that was made.
#[derive(Serialize, ToSchema)]
#[schema(as = CreatedWebhook)]
pub(super) struct CreatedView<'a> {
    #[serde(flatten)]
    webhook: View<'a>,
    /// What its receiver verifies with, shown only here: the secret (`whsec_…`), or with `v1a` the
    /// public key (`whpk_…`).
    #[schema(example = "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=")]
    secret: &'a str,
}

/// All webhooks, oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookList)]
pub(super) struct ListView<'a> {
    items: Vec<View<'a>>,
}

/// What became of an event at a webhook.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub(super) struct DeliveryView<'a> {
    /// The event, and the `webhook-id` that it is sent with.
    #[schema(example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")]
    event: Uuid,
    #[schema(example = 1207)]
    sequence: u64,
    /// `pending`: it is sent, or sent again. `dead`: it was given up.
    #[schema(value_type = words::WebhookDeliveryState, example = "delivered")]
    state: &'static str,
    #[schema(example = 1)]
    attempts: u32,
    #[schema(required = true)]
    next_attempt_at: Option<Time>,
    created_at: Time,
    #[schema(required = true)]
    last_attempt_at: Option<Time>,
    /// Of the last answer.
    #[schema(required = true, example = 204)]
    last_status: Option<u16>,
    /// Why the last attempt failed. It follows the receiver's name.
    #[schema(required = true, example = "answers 500")]
    last_error: Option<&'a str>,
}

impl<'a> DeliveryView<'a> {
    fn of(delivery: &'a Delivery) -> Self {
        Self {
            event: delivery.event,
            sequence: delivery.sequence,
            state: delivery.state.as_str(),
            attempts: delivery.attempts,
            next_attempt_at: delivery.next_attempt_at.map(Time),
            created_at: Time(delivery.created_at),
            last_attempt_at: delivery.attempted_at.map(Time),
            last_status: delivery.status,
            last_error: delivery.error.as_deref(),
        }
    }
}

/// A webhook to make.
#[derive(ToSchema)]
#[schema(as = NewWebhook)]
#[allow(dead_code, reason = "the form of the body, for the OpenAPI document")]
pub(super) struct NewBody {
    /// `https://`, without user and password.
    #[schema(example = "https://receiver.example/hooks")]
    url: String,
    /// The types of events that it hears; `*` stands for all.
    #[schema(min_items = 1, max_items = 100, example = json!(["com.example.order.paid"]))]
    types: Vec<String>,
    /// `v1` when left out.
    #[schema(value_type = Option<words::WebhookSignature>, nullable = false)]
    signature: Option<()>,
}

/// What to change in a webhook; at least one.
#[derive(ToSchema)]
#[schema(as = WebhookChange)]
#[allow(dead_code, reason = "the form of the body, for the OpenAPI document")]
pub(super) struct ChangeBody {
    #[schema(nullable = false)]
    url: Option<String>,
    #[schema(min_items = 1, max_items = 100, nullable = false)]
    types: Option<Vec<String>>,
    /// `true`: events wait. `false`: they are sent, also if it was disabled.
    #[schema(nullable = false)]
    paused: Option<bool>,
}

/// Which events to send again; one of both.
#[derive(ToSchema)]
#[schema(as = WebhookReplay)]
#[allow(dead_code, reason = "the form of the body, for the OpenAPI document")]
pub(super) struct ReplayBody {
    /// The id of an event of any type.
    #[schema(nullable = false)]
    event: Option<Uuid>,
    /// All events of this time or later that the webhook hears, also those that it took.
    #[schema(nullable = false)]
    since: Option<Time>,
}

/// Make a webhook: an endpoint that events are sent to from now on.
#[utoipa::path(
    post, path = "/v1/webhooks", operation_id = "create_webhook", tag = "webhooks",
    request_body(content = NewBody, example = json!({"url": "https://receiver.example/hooks", "types": ["com.example.order.paid"]})),
    responses((status = 201, description = "The webhook, and what its receiver verifies with.", body = CreatedView)),
    extensions(("x-errors" = json!(["outcome_unknown"]))),
)]
pub(super) async fn create(call: Call) -> Result<HttpResponse, Problem> {
    let private = call.state.config.webhooks.allow_private_addresses;
    let mut input = call.json()?;
    let url = input.required("url", text(|text| WebhookUrl::parse(text, private)));
    let types = input.required("types", array(1..=MAX_WEBHOOK_TYPES, |node| text(heard)(node)));
    let signature = input.optional("signature", text(signature)).unwrap_or(WebhookSignature::V1);
    let (url, types) = input.finish(|| Some((url?, types?)))?;
    let actor = call.caller.actor();
    let created = call.state.webhooks.create(&url, types, signature, actor).await?;
    let Some((webhook, secret)) = created else {
        let detail = format!("asks for one more than {MAX_WEBHOOKS} webhooks; delete one first");
        return Err(Problem::invalid_field("", detail));
    };
    let view = CreatedView { webhook: View::of(&webhook), secret: &secret };
    json(StatusCode::CREATED, &view)
}

/// List all webhooks, without their secrets.
#[utoipa::path(
    get, path = "/v1/webhooks", operation_id = "list_webhooks", tag = "webhooks",
    responses((status = 200, description = "All of them; there are at most 100.", body = ListView)),
)]
pub(super) async fn list(call: Call) -> Result<HttpResponse, Problem> {
    call.input().finish(|| Some(()))?;
    let webhooks = call.state.webhooks.list().await?;
    json(StatusCode::OK, &ListView { items: webhooks.iter().map(View::of).collect() })
}

/// Change, pause or resume a webhook. What waited for it is sent once it is resumed. One of the
/// configuration can only be paused and resumed.
#[utoipa::path(
    patch, path = "/v1/webhooks/{id}", operation_id = "change_webhook", tag = "webhooks",
    params(("id" = Uuid, Path, example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")),
    request_body(content = ChangeBody, example = json!({"paused": true})),
    responses((status = 200, description = "The webhook as it is now.", body = View)),
    extensions(("x-errors" = json!(["not_found", "webhook_configured", "outcome_unknown"]))),
)]
pub(super) async fn change(call: Call) -> Result<HttpResponse, Problem> {
    let private = call.state.config.webhooks.allow_private_addresses;
    let mut input = call.json()?;
    let id = input.path("id", id);
    if input.body_is_empty() {
        input.refuse("", "must have at least one of url, types and paused");
    }
    let url = input.optional("url", text(|text| WebhookUrl::parse(text, private)));
    let types = input.optional("types", array(1..=MAX_WEBHOOK_TYPES, |node| text(heard)(node)));
    let paused = input.optional("paused", flag);
    let (id, update) = input.finish(|| Some((id?, UpdateWebhook { url, types, paused })))?;
    let webhook = call.state.webhooks.update(id, update, call.caller.actor()).await?;
    json(StatusCode::OK, &View::of(&webhook.map_err(unchanged)?))
}

/// Delete a webhook that is not of the configuration, and what is left to send to it.
#[utoipa::path(
    delete, path = "/v1/webhooks/{id}", operation_id = "delete_webhook", tag = "webhooks",
    params(("id" = Uuid, Path, example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")),
    responses((status = 204, description = "Deleted.")),
    extensions(("x-errors" = json!(["not_found", "webhook_configured", "outcome_unknown"]))),
)]
pub(super) async fn delete(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let id = input.path("id", id);
    let id = input.finish(|| id)?;
    call.state.webhooks.delete(id, call.caller.actor()).await?.map_err(unchanged)?;
    Ok(HttpResponse::NoContent().finish())
}

/// List what became of events at a webhook, the newest event first.
#[utoipa::path(
    get, path = "/v1/webhooks/{id}/deliveries", operation_id = "list_webhook_deliveries", tag = "webhooks",
    params(
        ("id" = Uuid, Path, example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55"),
        ("state" = Option<words::WebhookDeliveryState>, Query, description = "Only these; all when left out", example = "dead"),
        ("limit" = Option<u32>, Query, description = "1 to 500; 50 when left out", example = 50),
        ("cursor" = Option<String>, Query, description = "next_cursor of the page before"),
    ),
    responses((status = 200, description = "A page.", body = PageView<DeliveryView>)),
    extensions(("x-errors" = json!(["not_found"]))),
)]
pub(super) async fn deliveries(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.input();
    let id = input.path("id", id);
    let state = input.query("state", |word| {
        DeliveryState::parse(word).ok_or("must be one of pending, delivered, dead")
    });
    let page = input.page();
    let id = input.finish(|| id)?;
    let page = call.state.webhooks.deliveries(id, state, &page).await?.ok_or_else(unknown)?;
    json(StatusCode::OK, &PageView::of(&page, DeliveryView::of))
}

/// Send one event again, or all since a time.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/replay", operation_id = "replay_webhook", tag = "webhooks",
    params(("id" = Uuid, Path, example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")),
    request_body(content = ReplayBody, example = json!({"since": "2026-01-02T03:04:05Z"})),
    responses((status = 202, description = "They are sent from now on.")),
    extensions(("x-errors" = json!(["not_found", "outcome_unknown"]))),
)]
pub(super) async fn replay(call: Call) -> Result<HttpResponse, Problem> {
    let mut input = call.json()?;
    let id = input.path("id", id);
    if input.fields().has("event") == input.fields().has("since") {
        input.refuse("", "must have either event or since");
    }
    let event = input.optional("event", text(self::id)).map(Replay::Event);
    let since = input.optional("since", text(time)).map(Replay::Since);
    let (id, replay) = input.finish(|| Some((id?, event.or(since)?)))?;
    match call.state.webhooks.replay(id, replay).await? {
        ReplayOutcome::Done => Ok(HttpResponse::Accepted().finish()),
        ReplayOutcome::UnknownWebhook => Err(unknown()),
        ReplayOutcome::UnknownEvent => {
            let detail = "the log does not have this event, or has not given it its place yet";
            Err(Problem::new(Code::NotFound, detail))
        }
    }
}

fn unknown() -> Problem {
    Problem::new(Code::NotFound, "there is no webhook with this id")
}

fn unchanged(why: Unchanged) -> Problem {
    match why {
        Unchanged::Unknown => unknown(),
        Unchanged::Configured => Problem::new(
            Code::WebhookConfigured,
            "the configuration of the service names this webhook; change it there",
        ),
    }
}

fn id(text: &str) -> Result<Uuid, &'static str> {
    Uuid::try_parse(text).map_err(|_| "must be a UUID")
}

fn heard(text: &str) -> Result<String, crate::domain::InvalidHeardType> {
    HeardType::parse(text).map(|heard| heard.as_str().to_owned())
}

fn signature(word: &str) -> Result<WebhookSignature, &'static str> {
    WebhookSignature::parse(word).ok_or("must be v1 (HMAC-SHA256) or v1a (Ed25519)")
}
