//! Sends events to webhooks. Each instance does, and each takes attempts that are due for a while, so
//! that of several instances one makes each. A crash loses nothing: what was taken is taken again.
//!
//! Each receiver has its own queue and its own workers: one that is slow or gone holds up no other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::endpoint::{Done, Endpoint, Taken, Tools};
use crate::clock::Clock;
use crate::config;
use crate::domain::{
    Actor, NewEvent, OwnType, SealedKey, Webhook, WebhookKey, WebhookState, webhook_body,
};
use crate::metrics::Metrics;
use crate::resolvers::Sender;
use crate::services::{Sealer, ServiceError};
use crate::storage::{
    AttemptOutcome, Attempted, DueDelivery, HAND_BATCH, SealedWebhook, Store, WebhookChange,
};

/// How often it looks by itself: for webhooks that changed, for retries, for what others linked.
const LOOK: Duration = Duration::from_secs(1);
/// For so long beyond two time-outs an attempt is this instance's: one to wait, and one to be made.
const MARGIN: Duration = Duration::from_secs(15);
/// For each attempt at a receiver, so many wait in memory.
const AHEAD: usize = 4;
/// Batches of events that become deliveries in a round.
const HANDED_AT_ONCE: usize = 4;
/// How long a stop waits for attempts under way. The rest is made again later.
const GRACE: Duration = Duration::from_secs(3);
/// Why a webhook is disabled.
const ANSWERED_GONE: &str = "its receiver answered 410 Gone";

pub struct Deliverer {
    store: Store,
    sealer: Sealer,
    metrics: Arc<Metrics>,
    timeout: Duration,
    per_endpoint: usize,
    in_all: usize,
    tools: Tools,
    done: UnboundedReceiver<Done>,
    workers: JoinSet<()>,
    known: HashMap<Uuid, Known>,
    looked: Option<Instant>,
    /// Attempts that the database does not know of yet.
    unsaved: Vec<Done>,
}

/// An active webhook.
struct Known {
    webhook: Webhook,
    secret: SealedKey,
    endpoint: Arc<Endpoint>,
}

impl Deliverer {
    #[must_use]
    pub fn new(
        store: Store,
        sealer: Sealer,
        sender: Sender,
        config: &config::Webhooks,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let most = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let (sending, done) = unbounded_channel();
        Self {
            store,
            sealer,
            metrics,
            timeout: config.timeout,
            per_endpoint: most(config.max_in_flight_per_endpoint),
            in_all: most(config.max_in_flight),
            tools: Tools { sender, clock, done: sending },
            done,
            workers: JoinSet::new(),
            known: HashMap::new(),
            looked: None,
            unsaved: Vec::new(),
        }
    }

    /// Sends whenever something is due, until it is told to stop. `linked` tells of new events.
    pub async fn run(mut self, linked: Arc<Notify>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.round().await {
                tracing::warn!(%error, "events are not sent to webhooks now");
                // No attempt is lost: those under way go on, and are told of later.
                let _ = tokio::time::timeout(LOOK, stop.cancelled()).await;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some(done) = self.done.recv() => self.unsaved.push(done),
                () = linked.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        self.stop().await;
    }

    async fn round(&mut self) -> Result<(), ServiceError> {
        self.save().await?;
        self.look().await?;
        if self.known.is_empty() {
            return Ok(());
        }
        for _ in 0..HANDED_AT_ONCE {
            if self.store.hand_events().await? < u64::from(HAND_BATCH) {
                break;
            }
        }
        self.take().await?;
        self.start_workers();
        Ok(())
    }

    /// Says in the database how attempts went.
    async fn save(&mut self) -> Result<(), ServiceError> {
        while let Ok(done) = self.done.try_recv() {
            self.unsaved.push(done);
        }
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let attempts = self.unsaved.iter().map(|done| done.attempted.clone()).collect();
        self.store.finish_deliveries(attempts).await?;
        let gone = self.unsaved.iter().filter(|done| done.gone);
        let gone: HashSet<Uuid> = gone.map(|done| done.attempted.due.webhook).collect();
        for done in self.unsaved.drain(..) {
            count(&self.metrics, &done.attempted);
        }
        for webhook in gone {
            self.disable(webhook).await?;
        }
        Ok(())
    }

    async fn disable(&mut self, id: Uuid) -> Result<(), ServiceError> {
        let Some(known) = self.known.remove(&id) else { return Ok(()) };
        known.endpoint.close();
        let data = json!({ "reason": ANSWERED_GONE });
        let event = NewEvent::own(OwnType::WebhookDisabled, Actor::Service, id, &data);
        let state = Some((WebhookState::Disabled, Some(ANSWERED_GONE.to_owned())));
        let change = WebhookChange { state, ..WebhookChange::default() };
        self.store.change_webhook(id, change, event).await?;
        tracing::warn!(webhook = %id, "disabled: {ANSWERED_GONE}");
        Ok(())
    }

    /// Reads the active webhooks anew, once in a while.
    async fn look(&mut self) -> Result<(), ServiceError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return Ok(());
        }
        let all = self.store.webhooks().await?;
        self.looked = Some(Instant::now());
        let active = all.into_iter().filter(|one| one.webhook.state == WebhookState::Active);
        let mut before = std::mem::take(&mut self.known);
        for SealedWebhook { webhook, secret } in active {
            let id = webhook.id;
            let same = |known: &Known| known.webhook.url == webhook.url && known.secret == secret;
            let known = match before.remove(&id) {
                Some(known) if same(&known) => known,
                other => {
                    if let Some(known) = other {
                        known.endpoint.close();
                    }
                    match self.endpoint(&webhook, &secret) {
                        Ok(endpoint) => Known { webhook, secret, endpoint: Arc::new(endpoint) },
                        Err(error) => {
                            tracing::error!(webhook = %id, %error, "nothing can be sent");
                            continue;
                        }
                    }
                }
            };
            self.known.insert(id, known);
        }
        for known in before.into_values() {
            known.endpoint.close();
        }
        Ok(())
    }

    fn endpoint(&self, webhook: &Webhook, secret: &SealedKey) -> Result<Endpoint, ServiceError> {
        let broken = |what: &str| ServiceError::Internal(format!("a webhook has {what}"));
        let url = webhook.url.parse().map_err(|_| broken("no URL"))?;
        let opened = self.sealer.open_webhook(secret, webhook.id)?;
        let secret: [u8; WebhookKey::LEN] =
            opened.as_slice().try_into().map_err(|_| broken("a secret of another length"))?;
        Ok(Endpoint::new(url, WebhookKey::new(webhook.signature, &Zeroizing::new(secret))))
    }

    /// Takes attempts that are due, as far as there is room for them.
    async fn take(&mut self) -> Result<(), ServiceError> {
        let due = self.store.due_webhooks().await?;
        let waiting: usize = self.known.values().map(|known| known.endpoint.waiting()).sum();
        let mut free = (self.in_all * AHEAD).saturating_sub(waiting);
        let mut room = Vec::new();
        for id in due {
            let Some(Known { endpoint, .. }) = self.known.get(&id) else { continue };
            let most = if endpoint.is_failing() { 1 } else { self.per_endpoint * AHEAD };
            let waits = endpoint.waiting();
            // Not for every single one.
            if waits > most / 2 {
                continue;
            }
            // A receiver for which nothing waits always has one.
            let more = (most - waits).min(free.max(usize::from(waits == 0)));
            free = free.saturating_sub(more);
            room.push((id, u32::try_from(more).unwrap_or(u32::MAX)));
        }
        room.retain(|(_, more)| *more > 0);
        if room.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + self.timeout + MARGIN;
        let lease = self.timeout * 2 + MARGIN * 2;
        let taken = self.store.take_deliveries(room, lease).await?;
        let ids: HashSet<Uuid> = taken.iter().map(|due| due.event).collect();
        let events = self.store.events_by_id(ids.into_iter().collect()).await?;
        let bodies: HashMap<Uuid, Vec<u8>> = events
            .iter()
            .filter(|event| event.kind != OwnType::Erased.as_str())
            .map(|event| (event.id, webhook_body(event)))
            .collect();
        for due in taken {
            let Some(known) = self.known.get(&due.webhook) else { continue };
            match bodies.get(&due.event) {
                Some(body) => known.endpoint.push(Taken { due, body: body.clone(), until }),
                None => self.unsaved.push(nothing_to_send(due)),
            }
        }
        Ok(())
    }

    /// A receiver always has one worker. The others share what is left of the places.
    fn start_workers(&mut self) {
        while self.workers.try_join_next().is_some() {}
        let mut places = self.in_all.saturating_sub(self.workers.len());
        for Known { endpoint, .. } in self.known.values() {
            let most = if endpoint.is_failing() { 1 } else { self.per_endpoint };
            let wanted = most.min(endpoint.waiting());
            for number in endpoint.workers()..wanted {
                if number > 0 && places == 0 {
                    break;
                }
                places = places.saturating_sub(1);
                self.workers.spawn(endpoint.work(self.tools.clone()));
            }
        }
    }

    /// Lets attempts end that are under way, for a moment, and says how they went.
    async fn stop(mut self) {
        for known in self.known.values() {
            known.endpoint.close();
        }
        let ended = async { while self.workers.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, ended).await;
        self.workers.abort_all();
        if let Err(error) = self.save().await {
            tracing::warn!(%error, "what was sent to webhooks last will be sent again");
        }
    }
}

/// An event that was erased, or that left the log.
fn nothing_to_send(due: DueDelivery) -> Done {
    let error = Some("the event was erased, or is not in the log any more".to_owned());
    let attempted = Attempted { due, outcome: AttemptOutcome::Dead, status: None, error };
    Done { attempted, gone: false }
}

fn count(metrics: &Metrics, attempted: &Attempted) {
    let counts = &metrics.webhooks;
    match attempted.outcome {
        AttemptOutcome::Delivered => counts.delivered.inc(),
        AttemptOutcome::Again(_) => counts.failed.inc(),
        AttemptOutcome::Dead => counts.dead.inc(),
    }
}
