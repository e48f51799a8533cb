//! Claims as the work of a queue: how a batch of them is asked, and what is measured of it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use super::batch::{self, Answered, Manner, Way};
use crate::domain::{Claim, Outcome, Scope};
use crate::metrics::Metrics;
use crate::services::queue::Work;
use crate::storage::Store;

pub(super) struct Asking {
    store: Store,
    metrics: Arc<Metrics>,
    manner: Manner,
    hasher: RandomState,
}

impl Asking {
    pub(super) fn new(store: Store, metrics: Arc<Metrics>, manner: Manner) -> Self {
        Self { store, metrics, manner, hasher: RandomState::new() }
    }
}

impl Work for Asking {
    type Item = Claim;
    type Answer = Answered;
    /// A digest. That of two rows may be the same: then their claims are asked together.
    type Row = u64;

    /// Claims that wait for locks must not wait for each other's. One in a session that does not
    /// limit them can only wait for another claim of its nonce.
    fn row(&self, claim: &Claim) -> Option<u64> {
        if self.manner.way != Way::ByRow {
            return None;
        }
        Some(match &claim.scope {
            Scope::Session(id) if self.manner.counted => self.hasher.hash_one(id),
            Scope::Session(id) => self.hasher.hash_one((id, &claim.nonce)),
            Scope::Signer { did, session, .. } => self.hasher.hash_one((did, session)),
            Scope::Namespace { namespace, .. } => self.hasher.hash_one(namespace),
        })
    }

    async fn run(&self, batch: Vec<Claim>) -> Vec<Answered> {
        #[allow(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
        self.metrics.claim_batch_size.observe(batch.len() as f64);
        let started = Instant::now();
        let answered = batch::decide(&self.store, batch, self.manner).await;
        self.metrics.claim_commit_seconds.observe(started.elapsed().as_secs_f64());
        answered
    }

    fn count(&self, answers: &[Answered]) {
        for answered in answers {
            match answered {
                Answered::Decided(Ok(outcome)) => self.metrics.claim_decided(outcome),
                Answered::Replayed(_, at) => {
                    self.metrics.claim_decided(&Outcome::Replayed { first_used_at: *at });
                }
                Answered::Decided(Err(_)) | Answered::Undecided(..) => {}
            }
        }
    }
}
