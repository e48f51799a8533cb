//! The sample webhook, with an event in each state. It is paused, and no receiver has its address.

use std::time::Duration;

use uuid::Uuid;

use super::event::event;
use crate::cli::Failure;
use crate::domain::{
    Actor, DeliveryState, EventData, NewEvent, OwnType, PageRequest, WebhookSignature, WebhookState,
};
use crate::services::Sealer;
use crate::storage::{
    AttemptOutcome, Attempted, DueDelivery, NewWebhook, Replayed, Store, WebhookChange,
};

/// The type of its events.
const KIND: &str = "sample.created";
/// How long a new event may wait for its place in the log until that is looked at again.
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct SampleWebhook {
    pub(super) id: Uuid,
    pub(super) secret: [u8; 32],
}

/// Makes the webhook and its deliveries, unless they are there, and returns whether it did.
pub(super) async fn make(
    store: &Store,
    sealer: &Sealer,
    sample: &SampleWebhook,
) -> Result<bool, Failure> {
    let id = sample.id;
    if is_whole(store, id).await? {
        return Ok(false);
    }
    // One that a run which was cut short has left.
    store.delete_webhook(id, event(OwnType::WebhookDeleted, id)).await?;
    let new = NewWebhook {
        id,
        name: None,
        url: "https://receiver.example/hooks".to_owned(),
        types: vec![KIND.to_owned()],
        signature: WebhookSignature::V1,
        secret: sealer.seal_webhook(&sample.secret, id)?,
    };
    if store.create_webhook(new, event(OwnType::WebhookCreated, id)).await?.is_none() {
        return Err(Failure::Refused("there are too many webhooks; seed an empty database".into()));
    }
    let state = Some((WebhookState::Paused, None));
    let pause = WebhookChange { state, ..WebhookChange::default() };
    store.change_webhook(id, pause, event(OwnType::WebhookChanged, id)).await?;
    let events = DeliveryState::ALL.iter().map(|state| {
        let data = EventData::kept(r#"{"sample":true}"#.to_owned());
        NewEvent::of_caller(KIND, Actor::Operator, state.as_str(), data)
    });
    let events = events.collect::<Result<Vec<_>, _>>();
    let events = events.map_err(|error| Failure::Failed(error.to_string()))?;
    for event in store.publish(events).await? {
        give(store, id, event).await?;
    }
    let given = store.deliveries(id, None, &page()).await?.items;
    let attempts = given.iter().zip([
        (AttemptOutcome::Delivered, 204, None),
        (AttemptOutcome::Dead, 500, Some("answers 500".to_owned())),
    ]);
    let attempts = attempts.map(|(delivery, (outcome, status, error))| Attempted {
        due: DueDelivery {
            webhook: id,
            sequence: delivery.sequence,
            event: delivery.event,
            attempts: delivery.attempts,
        },
        outcome,
        status: Some(status),
        error,
    });
    store.finish_deliveries(attempts.collect()).await?;
    Ok(true)
}

/// Makes an event a delivery, as soon as it has its place in the log.
async fn give(store: &Store, webhook: Uuid, event: Uuid) -> Result<(), Failure> {
    while store.replay_event(webhook, event).await? == Replayed::UnknownEvent {
        if store.link_events().await? == 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Whether it has a delivery in each state.
async fn is_whole(store: &Store, id: Uuid) -> Result<bool, Failure> {
    let deliveries = store.deliveries(id, None, &page()).await?.items;
    Ok(DeliveryState::ALL.iter().all(|state| deliveries.iter().any(|one| one.state == *state)))
}

const fn page() -> PageRequest {
    PageRequest { limit: 10, after: None }
}
