//! `POST /v1/events`: one event, or many of which all are written or none.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::body::MAX_BODY;
use super::super::call::Call;
use super::super::exchange::Exchange;
use super::super::fields::{Fields, Invalid, array, text};
use super::super::idempotency::{IDEMPOTENCY_KEY, IdempotencyKey, mark_replayed};
use super::super::node::Node;
use super::super::problem::Problem;
use super::super::values::json;
use super::super::words::JsonObject;
use crate::domain::{
    Actor, CallersType, Code, EventData, InvalidMetadata, InvalidType, NewEvent, Published,
};
use crate::services::TooManyEvents;

/// One event, or many.
#[derive(ToSchema)]
#[schema(as = NewEvents)]
#[allow(dead_code, reason = "it describes the body")]
#[serde(untagged)]
pub(super) enum Body {
    One(NewEventBody),
    Many(Batch),
}

/// What happened.
#[derive(ToSchema)]
#[schema(as = NewEvent)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes the body")]
pub(super) struct NewEventBody {
    /// 1 to 255 letters, digits, dots, hyphens and underscores. It must not begin with `onceguard.`.
    #[schema(example = "com.example.order.paid")]
    r#type: String,
    /// What it is about: 1 to 2049 bytes without control characters.
    #[schema(example = "order 7")]
    subject: String,
    /// Anything; at most 16 KiB as compact JSON. `{}` when left out.
    #[schema(value_type = Option<JsonObject>, nullable = false)]
    data: Option<()>,
}

/// Events that are written together, or not at all.
#[derive(ToSchema)]
#[schema(as = NewEventBatch)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "it describes the body")]
pub(super) struct Batch {
    /// 1 to `events.max_batch`, which is 10000 unless it is configured.
    #[schema(min_items = 1)]
    events: Vec<NewEventBody>,
}

/// The event that was published.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishedEvent)]
pub(super) struct OneView {
    #[schema(example = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55")]
    id: Uuid,
}

/// The events that were published.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishedEvents)]
pub(super) struct ManyView {
    /// In the order of the events.
    ids: Vec<Uuid>,
}

/// Publish one event, or many of which all are written or none.
#[utoipa::path(
    post, path = "/v1/events", operation_id = "publish_events", tag = "events",
    params(("Idempotency-Key" = Option<String>, Header, example = "c0f1b2d8-6a0e-4c0b-8a34-3f6f3f1f7f10",
        description = "Fresh and random. The same events, repeated with it within a day, are not written again: the answer has the first ids.")),
    request_body(content = Body, example = json!(
        {"type": "com.example.order.paid", "subject": "order 7", "data": {"amount": 5}}
    )),
    responses(
        (status = 201, description = "The event was written.", body = OneView,
            headers(("Idempotency-Replayed" = String, description = "true when an earlier call with the same key wrote it."))),
        (status = 200, description = "All events were written.", body = ManyView,
            headers(("Idempotency-Replayed" = String, description = "true when an earlier call with the same key wrote them."))),
    ),
    extensions(("x-errors" = json!(["rate_limited", "overloaded", "outcome_unknown"]))),
)]
pub(in crate::http) async fn publish(call: Call) -> Result<HttpResponse, Problem> {
    let (read, key) = read_call(&call).await?;
    let key = key.map(|key| key.digest_of(&call.caller, [b"events".as_slice()]));
    let Read { events, is_one } = read;
    call.state.events.may_publish(&call.caller.identity(), events.len()).await.map_err(
        |TooManyEvents { most, wait }| {
            let detail = format!("this token published {most} events within a minute, the most");
            Problem::rate_limited(detail, wait)
        },
    )?;
    let (ids, repeated) = match call.state.events.publish(events, key).await? {
        Published::Done { ids, repeated } => (ids, repeated),
        Published::OtherContent => {
            let detail = "was used for other events; send a fresh one for new events";
            return Err(Problem::invalid_field(IDEMPOTENCY_KEY, detail));
        }
    };
    let mut response = match (is_one, ids.first()) {
        (true, Some(&id)) => json(StatusCode::CREATED, &OneView { id })?,
        _ => json(StatusCode::OK, &ManyView { ids })?,
    };
    if repeated {
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// A body that was read.
struct Read {
    events: Vec<NewEvent>,
    is_one: bool,
}

/// Why a body is none.
enum Unfit {
    NotJson(String),
    Invalid(Invalid),
}

impl From<Invalid> for Unfit {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

async fn read_call(call: &Call) -> Result<(Read, Option<IdempotencyKey>), Problem> {
    let body = call.json_bytes()?.clone();
    let max = usize::try_from(call.state.config.events.max_batch).unwrap_or(usize::MAX);
    let request_id = Exchange::of(&call.request).request_id().as_str().to_owned();
    let actor = call.caller.actor();
    let read = if body.len() <= MAX_BODY {
        read_body(&body, max, &actor, &request_id)
    } else {
        // It would keep the other requests of this thread waiting.
        tokio::task::spawn_blocking(move || read_body(&body, max, &actor, &request_id))
            .await
            .map_err(|error| Problem::internal(format!("a body was not read: {error}")))?
    };
    let mut input = call.input();
    let key = input.header(IDEMPOTENCY_KEY, IdempotencyKey::parse);
    let read = match read {
        Ok(read) => Some(read),
        Err(Unfit::Invalid(invalid)) => {
            input.refuse_all(invalid);
            None
        }
        Err(Unfit::NotJson(why)) => return Err(Problem::new(Code::InvalidRequest, why)),
    };
    input.finish(|| Some((read?, key)))
}

/// The texts of the events' data: a [`Node`] has rounded their numbers.
#[derive(serde::Deserialize)]
struct RawBody<'t> {
    #[serde(borrow)]
    data: Option<&'t RawValue>,
    #[serde(borrow)]
    events: Option<Vec<RawEvent<'t>>>,
}

#[derive(serde::Deserialize)]
struct RawEvent<'t> {
    #[serde(borrow)]
    data: Option<&'t RawValue>,
}

fn read_body(body: &Bytes, max: usize, actor: &Actor, request_id: &str) -> Result<Read, Unfit> {
    let node = Node::parse(body)
        .map_err(|error| Unfit::NotJson(format!("the body is not JSON: {error}")))?;
    // What is of another form is refused by its node.
    let raw: Option<RawBody<'_>> = serde_json::from_slice(body).ok();
    let (data, events) = raw.map_or((None, None), |raw| (raw.data, raw.events));
    let mut fields = Fields::of(node)?;
    let is_one = !fields.has("events");
    if is_one {
        let event = event(fields, data, actor, request_id)?;
        return Ok(Read { events: vec![event], is_one });
    }
    let mut texts = events.unwrap_or_default().into_iter().map(|event| event.data);
    let one = |node| event(Fields::of(node)?, texts.next().flatten(), actor, request_id);
    let events = fields.required("events", array(1..=max, one));
    let events = fields.finish(|| events)?;
    Ok(Read { events, is_one })
}

fn event(
    mut fields: Fields<'_>,
    raw: Option<&RawValue>,
    actor: &Actor,
    request_id: &str,
) -> Result<NewEvent, Invalid> {
    let kind = fields.required("type", text(callers_type));
    let subject = fields.required("subject", text(NewEvent::subject));
    let data =
        fields.optional("data", |_| EventData::parse(raw.ok_or("is missing")?).map_err(all_of));
    fields.finish(|| {
        let data = data.unwrap_or_default();
        let event = NewEvent::of_caller(&kind?, actor.clone(), &subject?, data).ok()?;
        Some(event.asked_by(Some(request_id.to_owned())))
    })
}

fn all_of(errors: Vec<InvalidMetadata>) -> Invalid {
    let mut invalid = Invalid::default();
    for InvalidMetadata { pointer, detail } in errors {
        invalid.push(pointer, detail);
    }
    invalid
}

fn callers_type(text: &str) -> Result<String, InvalidType> {
    CallersType::parse(text).map(|_| text.to_owned())
}
