//! Takes what is waiting in the queue and keeps the store busy with it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Waiting, batch};
use crate::domain::Claim;
use crate::metrics::Metrics;
use crate::services::ServiceError;
use crate::storage::{Store, StoreError};

/// Claims that must have gathered before a second batch is committed beside the first. Smaller
/// batches are faster one after the other.
const PARALLEL_FROM: usize = 256;

pub(super) struct Dispatcher {
    store: Store,
    metrics: Arc<Metrics>,
    max_batch: usize,
    receiver: mpsc::UnboundedReceiver<Waiting>,
    closing: CancellationToken,
    gathered: Vec<Waiting>,
    /// Claims in `gathered`.
    weight: usize,
}

impl Dispatcher {
    pub(super) fn new(
        store: Store,
        metrics: Arc<Metrics>,
        max_batch: usize,
        receiver: mpsc::UnboundedReceiver<Waiting>,
        closing: CancellationToken,
    ) -> Self {
        Self { store, metrics, max_batch, receiver, closing, gathered: Vec::new(), weight: 0 }
    }

    /// Runs until it is told to close and everybody who waited has an answer.
    pub(super) async fn run(mut self) {
        let most_flights = self.store.claim_connections();
        let mut flights = JoinSet::new();
        let mut open = true;
        while open || !self.gathered.is_empty() || !flights.is_empty() {
            let before = self.gathered.len();
            tokio::select! {
                biased;
                Some(_) = flights.join_next() => {}
                received = self.receiver.recv_many(&mut self.gathered, self.max_batch),
                    if open && self.weight < self.max_batch => open = received > 0,
                () = self.closing.cancelled(), if !self.receiver.is_closed() => {
                    self.receiver.close();
                }
            }
            let arrived = self.gathered.iter().skip(before);
            self.weight += arrived.map(|waiting| waiting.claims.len()).sum::<usize>();
            let enough = if flights.is_empty() { 1 } else { PARALLEL_FROM };
            if self.weight >= enough && flights.len() < most_flights {
                let batch = self.next_batch();
                flights.spawn(commit(self.store.clone(), self.metrics.clone(), batch));
            }
        }
    }

    /// The oldest callers whose claims fit into one batch, at least one.
    fn next_batch(&mut self) -> Vec<Waiting> {
        let mut weight = 0;
        let fitting = self
            .gathered
            .iter()
            .take_while(|waiting| {
                weight += waiting.claims.len();
                weight <= self.max_batch
            })
            .count();
        let batch: Vec<_> = self.gathered.drain(..fitting.clamp(1, self.gathered.len())).collect();
        let taken = batch.iter().map(|waiting| waiting.claims.len()).sum::<usize>();
        self.weight -= taken;
        self.metrics.claim_queue_depth.sub(i64::try_from(taken).unwrap_or(i64::MAX));
        batch
    }
}

/// Commits one batch and answers everybody in it. It runs to its end even if all callers left.
async fn commit(store: Store, metrics: Arc<Metrics>, batch: Vec<Waiting>) {
    let mut callers = Vec::with_capacity(batch.len());
    let mut claims: Vec<Claim> = Vec::with_capacity(batch.len());
    for Waiting { claims: own, answer, room } in batch {
        callers.push((own.len(), answer));
        claims.extend(own);
        drop(room);
    }
    #[allow(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
    metrics.claim_batch_size.observe(claims.len() as f64);
    let started = Instant::now();
    let mut outcomes = batch::decide(&store, &claims).await.into_iter();
    metrics.claim_commit_seconds.observe(started.elapsed().as_secs_f64());
    for (count, answer) in callers {
        let own = batch::answer(outcomes.by_ref().take(count));
        match &own {
            Ok(outcomes) => outcomes.iter().for_each(|outcome| metrics.claim_decided(outcome)),
            Err(ServiceError::Store(StoreError::OutcomeUnknown(_))) => {
                metrics.claims_outcome_unknown.inc_by(count as u64);
            }
            Err(_) => {}
        }
        // A caller that has gone away is not an error: the claim stands, or not, all the same.
        let _ = answer.send(own);
    }
}
