//! The one way a nonce is claimed.
//!
//! Callers wait in a bounded queue. Whatever is waiting is handed to the store as one batch; while
//! that batch is being committed the next one gathers. There is no timer: a claim never waits for
//! others to come. A full queue refuses at once.

mod batch;
mod queue;

use std::sync::Arc;

use super::ServiceError;
use crate::config;
use crate::domain::{Claim, Nonce, Outcome, SessionId, UsedNonce};
use crate::metrics::Metrics;
use crate::storage::{Store, StoreError};
use queue::Queue;

type Answer = Result<Vec<Outcome>, ServiceError>;

/// The queue of claims. Clones share it.
#[derive(Clone)]
pub struct Claims {
    store: Store,
    queue: Arc<Queue>,
}

impl Claims {
    /// Batches are committed on the current Tokio runtime.
    #[must_use]
    pub fn start(store: Store, config: &config::Claims, metrics: Arc<Metrics>) -> Self {
        let queue = Arc::new(Queue::new(store.clone(), config, metrics));
        Self { store, queue }
    }

    /// Spares a caller reading claims that there is no room for.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] while the queue is full.
    pub fn must_have_room(&self) -> Result<(), ServiceError> {
        self.queue.must_have_room()
    }

    /// Claims each nonce on its own and returns their outcomes in order, after the commit.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] when the queue has no room, and nothing was changed;
    /// [`StoreError::OutcomeUnknown`] when any of the claims may or may not have been accepted.
    pub async fn claim(&self, claims: Vec<Claim>) -> Answer {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        self.queue.push(claims)?.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown("the batch was abandoned".into()).into())
        })
    }

    /// Whether a nonce was used in a session. Never a licence to act: only a claim is.
    pub async fn used(
        &self,
        session: SessionId,
        nonce: &Nonce,
    ) -> Result<Option<UsedNonce>, ServiceError> {
        Ok(self.store.session_nonce(session, nonce).await?)
    }

    /// Refuses new claims, and returns when all that are waiting have their answer.
    pub async fn close(&self) {
        self.queue.close().await;
    }
}
