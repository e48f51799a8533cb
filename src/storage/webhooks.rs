//! Webhooks, and the events that each is given. An event becomes a delivery in the transaction that
//! says so of its webhook: a crash loses none and makes none twice. Only linked events do, in order.

use std::time::Duration;

use uuid::Uuid;

use super::{Result, Store, StoreError, on};
use crate::domain::{
    Delivery, DeliveryState, Event, InvalidCursor, MAX_WEBHOOKS, NewEvent, Page, PageRequest,
    SealedKey, Timestamp, Webhook, WebhookSignature, WebhookState,
};

/// The most events that become deliveries in one transaction.
pub const HAND_BATCH: u32 = 1_000;
/// Why webhooks are paused after a recovery.
pub(super) const RECOVERED: &str =
    "the database was recovered; resume it if this copy is the one that shall send";

/// A webhook to make.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    pub id: Uuid,
    /// The configuration's. There is one webhook of a name.
    pub name: Option<String>,
    pub url: String,
    pub types: Vec<String>,
    pub signature: WebhookSignature,
    pub secret: SealedKey,
}

/// A webhook with its sealed secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedWebhook {
    pub webhook: Webhook,
    pub secret: SealedKey,
}

/// What to change in a webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookChange {
    pub url: Option<String>,
    pub types: Option<Vec<String>>,
    /// A secret, and what is signed with it.
    pub secret: Option<(WebhookSignature, SealedKey)>,
    /// A state, and why.
    pub state: Option<(WebhookState, Option<String>)>,
}

/// What became of the wish to send an event again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    Done,
    UnknownWebhook,
    /// The log does not have it, or it is not linked yet.
    UnknownEvent,
}

/// An attempt that is due, taken by one instance for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDelivery {
    pub webhook: Uuid,
    pub sequence: u64,
    pub event: Uuid,
    /// Attempts that were made before.
    pub attempts: u32,
}

/// How an attempt went.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempted {
    pub due: DueDelivery,
    pub outcome: AttemptOutcome,
    pub status: Option<u16>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AttemptOutcome {
    Delivered,
    /// The next attempt is due after this.
    Again(Duration),
    Dead,
}

impl AttemptOutcome {
    pub(super) const fn state(self) -> DeliveryState {
        match self {
            Self::Delivered => DeliveryState::Delivered,
            Self::Again(_) => DeliveryState::Pending,
            Self::Dead => DeliveryState::Dead,
        }
    }
}

/// For the gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookCounts {
    pub active: u64,
    pub paused: u64,
    /// The paused ones that a recovery paused.
    pub recovered: u64,
    pub disabled: u64,
    /// For how long the oldest event has waited that was not delivered and not given up.
    pub oldest_pending: Duration,
}

/// For operators: deliveries are counted one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    pub pending: u64,
    pub dead: u64,
}

impl Store {
    /// Makes a webhook that hears what is linked from now on, unless there is one of its name, which
    /// another instance made: then that is returned. `None` if there are [`MAX_WEBHOOKS`].
    pub async fn create_webhook(
        &self,
        new: NewWebhook,
        event: NewEvent,
    ) -> Result<Option<Webhook>> {
        on!(self, store => store.create_webhook(new, MAX_WEBHOOKS, event).await)
    }

    /// Every webhook, oldest first.
    pub async fn webhooks(&self) -> Result<Vec<SealedWebhook>> {
        on!(self, store => store.webhooks().await)
    }

    /// Changes a webhook; `None` if there is none.
    pub async fn change_webhook(
        &self,
        id: Uuid,
        change: WebhookChange,
        event: NewEvent,
    ) -> Result<Option<Webhook>> {
        on!(self, store => store.change_webhook(id, change, event).await)
    }

    /// Deletes a webhook with its deliveries, and returns whether there was one.
    pub async fn delete_webhook(&self, id: Uuid, event: NewEvent) -> Result<bool> {
        on!(self, store => store.delete_webhook(id, event).await)
    }

    /// The deliveries of a webhook in this state, or in any, the newest event first.
    pub async fn deliveries(
        &self,
        id: Uuid,
        state: Option<DeliveryState>,
        page: &PageRequest,
    ) -> Result<Page<Delivery>> {
        let before = before(page)?;
        on!(self, store => store.deliveries(id, state, before, page.limit).await)
    }

    /// Sends one event of any type again.
    pub async fn replay_event(&self, id: Uuid, event: Uuid) -> Result<Replayed> {
        on!(self, store => store.replay_event(id, event).await)
    }

    /// Sends everything again that the webhook hears and that was written at this time or later.
    pub async fn replay_since(&self, id: Uuid, since: Timestamp) -> Result<Replayed> {
        on!(self, store => store.replay_since(id, since).await)
    }

    /// Turns up to [`HAND_BATCH`] events into deliveries of one webhook, and returns how many events
    /// were looked at. None if every webhook has all, or other instances are at it.
    pub async fn hand_events(&self) -> Result<u64> {
        on!(self, store => store.hand_events().await)
    }

    /// The active webhooks for which an attempt is due.
    pub async fn due_webhooks(&self) -> Result<Vec<Uuid>> {
        on!(self, store => store.due_webhooks().await)
    }

    /// Takes attempts that are due, at most so many for each of these webhooks. Until `lease` has
    /// passed, no other instance gets them.
    pub async fn take_deliveries(
        &self,
        room: Vec<(Uuid, u32)>,
        lease: Duration,
    ) -> Result<Vec<DueDelivery>> {
        on!(self, store => store.take_deliveries(room, lease).await)
    }

    /// Says how attempts went. What was delivered meanwhile by another instance stays so.
    pub async fn finish_deliveries(&self, attempts: Vec<Attempted>) -> Result<()> {
        on!(self, store => store.finish_deliveries(attempts).await)
    }

    /// Linked events by their ids, in no order.
    pub async fn events_by_id(&self, ids: Vec<Uuid>) -> Result<Vec<Event>> {
        on!(self, store => store.events_by_id(ids).await)
    }

    pub async fn webhook_counts(&self) -> Result<WebhookCounts> {
        on!(self, store => store.webhook_counts().await)
    }

    pub async fn delivery_counts(&self) -> Result<DeliveryCounts> {
        on!(self, store => store.delivery_counts().await)
    }

    /// Replaces a sealed secret if it still is `old`.
    pub async fn reseal_webhook(&self, id: Uuid, old: &SealedKey, new: &SealedKey) -> Result<bool> {
        on!(self, store => store.reseal_webhook(id, old, new).await)
    }
}

/// The place before which a page begins.
fn before(page: &PageRequest) -> Result<Option<i64>> {
    let place = |position: &[u8]| position.try_into().map(i64::from_be_bytes);
    let after = page.after.as_ref().map(|cursor| place(cursor.position()));
    after.transpose().map_err(|_| StoreError::InvalidCursor(InvalidCursor))
}

/// The page that begins with these deliveries, of which one more than asked for was read.
pub(super) fn page_of(mut items: Vec<Delivery>, limit: u32) -> Page<Delivery> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().map(|last| last.sequence.to_be_bytes().to_vec());
    Page { items, next: last.filter(|_| more).map(crate::domain::Cursor::new) }
}
