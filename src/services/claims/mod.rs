//! The one way a nonce is claimed.
//!
//! Callers wait in a bounded queue. A dispatcher takes whatever is waiting and hands it to the
//! store as one batch; while that batch is being committed the next one gathers. There is no
//! timer: a claim never waits for others to come. A full queue refuses at once.

mod batch;
mod dispatcher;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ServiceError;
use crate::config;
use crate::domain::{Claim, Nonce, Outcome, SessionId, UsedNonce};
use crate::metrics::Metrics;
use crate::storage::{Store, StoreError};
use dispatcher::Dispatcher;

type Answer = Result<Vec<Outcome>, ServiceError>;

/// The queue of claims. Clones share it.
#[derive(Clone)]
pub struct Claims {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    metrics: Arc<Metrics>,
    sender: mpsc::UnboundedSender<Waiting>,
    /// How many more claims may wait: this is what bounds the channel.
    room: Arc<Semaphore>,
    closing: CancellationToken,
    dispatcher: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// One caller's claims, in the queue.
struct Waiting {
    claims: Vec<Claim>,
    answer: oneshot::Sender<Answer>,
    /// Gives the room back when the claims leave the queue.
    room: OwnedSemaphorePermit,
}

impl Claims {
    /// Starts the dispatcher on the current Tokio runtime.
    #[must_use]
    pub fn start(store: Store, config: &config::Claims, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let closing = CancellationToken::new();
        let dispatcher = Dispatcher::new(
            store.clone(),
            metrics.clone(),
            config.max_batch,
            receiver,
            closing.clone(),
        );
        let shared = Shared {
            store,
            metrics,
            sender,
            room: Arc::new(Semaphore::new(config.queue)),
            closing,
            dispatcher: tokio::sync::Mutex::new(Some(tokio::spawn(dispatcher.run()))),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Claims each nonce on its own and returns their outcomes in order, after the commit.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] when the queue has no room, and nothing was changed;
    /// [`StoreError::OutcomeUnknown`] when any of the claims may or may not have been accepted.
    pub async fn claim(&self, claims: Vec<Claim>) -> Answer {
        let Shared { room, sender, metrics, .. } = &*self.shared;
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let count = u32::try_from(claims.len()).unwrap_or(u32::MAX);
        let Ok(room) = room.clone().try_acquire_many_owned(count) else {
            metrics.claims_refused_overloaded.inc_by(u64::from(count));
            return Err(ServiceError::Overloaded);
        };
        let (answer, answered) = oneshot::channel();
        metrics.claim_queue_depth.add(i64::from(count));
        if sender.send(Waiting { claims, answer, room }).is_err() {
            metrics.claim_queue_depth.sub(i64::from(count));
            return Err(ServiceError::Overloaded);
        }
        answered.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown("the batch was abandoned".into()).into())
        })
    }

    /// Whether a nonce was used in a session. Never a licence to act: only a claim is.
    pub async fn used(
        &self,
        session: SessionId,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>, ServiceError> {
        Ok(self.shared.store.session_nonce(session, nonce).await?)
    }

    /// Refuses new claims, and returns when all that are waiting have their answer.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        if let Some(dispatcher) = self.shared.dispatcher.lock().await.take() {
            let _ = dispatcher.await;
        }
    }
}
