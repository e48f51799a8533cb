//! Who waits, and the batches that are on their way.
//!
//! A flight commits one batch after the other, as long as somebody waits. Whoever comes while
//! there is none starts one; whoever comes meanwhile just stands in line, and is taken when the
//! flight has committed: no thread is woken for each claim. Only a long line starts a second one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::future::join;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Answer, batch};
use crate::config;
use crate::domain::{Claim, Outcome};
use crate::metrics::Metrics;
use crate::services::ServiceError;
use crate::storage::{Result, Store, StoreError};

/// Claims that must wait before a second batch is committed beside the first. Smaller batches are
/// faster one after the other.
const PARALLEL_FROM: usize = 256;

pub(super) struct Queue {
    store: Store,
    metrics: Arc<Metrics>,
    /// Claims that may wait.
    room: usize,
    max_batch: usize,
    runtime: Handle,
    flights: TaskTracker,
    /// Somebody was refused, and no batch has left since.
    full: AtomicBool,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// Claims in `waiting`.
    claims: usize,
    flying: usize,
    closed: bool,
}

/// One caller's claims, and where their outcomes go.
struct Waiting {
    claims: Vec<Claim>,
    answer: oneshot::Sender<Answer>,
}

impl Queue {
    /// Flights are run by the current Tokio runtime.
    pub(super) fn new(store: Store, config: &config::Claims, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            metrics,
            room: config.queue,
            max_batch: config.max_batch,
            runtime: Handle::current(),
            flights: TaskTracker::new(),
            full: AtomicBool::new(false),
            line: Mutex::default(),
        }
    }

    /// Lets claims wait for their batch.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] when there is no room for all of them, or the queue is closed.
    pub(super) fn push(
        self: &Arc<Self>,
        claims: Vec<Claim>,
    ) -> std::result::Result<oneshot::Receiver<Answer>, ServiceError> {
        let count = claims.len();
        let (answer, answered) = oneshot::channel();
        let flight = {
            let mut line = self.line();
            if line.closed || count > self.room.saturating_sub(line.claims) {
                // Whoever waits now is in a batch that will leave, and say that there is room.
                self.full.store(line.claims > 0, Ordering::Relaxed);
                return Err(self.overloaded());
            }
            line.claims += count;
            line.waiting.push_back(Waiting { claims, answer });
            self.metrics.claim_queue_depth.add(signed(count));
            self.take_off(&mut line)
        };
        if let Some((flight, first)) = flight {
            self.runtime.spawn(flight.fly(first));
        }
        Ok(answered)
    }

    /// Spares a caller reading claims that there is no room for.
    ///
    /// # Errors
    /// [`ServiceError::Overloaded`] from when the queue refused somebody until a batch has left it.
    pub(super) fn must_have_room(&self) -> std::result::Result<(), ServiceError> {
        if self.full.load(Ordering::Relaxed) { Err(self.overloaded()) } else { Ok(()) }
    }

    fn overloaded(&self) -> ServiceError {
        self.metrics.claims_refused_overloaded.inc();
        ServiceError::Overloaded
    }

    /// Refuses whoever comes from now on, and returns when all that wait have their answer.
    pub(super) async fn close(&self) {
        self.line().closed = true;
        self.flights.close();
        self.flights.wait().await;
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another flight and its first batch, if it is time for one. Who waits is sure to be waited
    /// for by [`Self::close`] from here on.
    fn take_off(self: &Arc<Self>, line: &mut Line) -> Option<(Flight, Vec<Waiting>)> {
        let enough = if line.flying == 0 { 1 } else { PARALLEL_FROM };
        if line.claims < enough || line.flying >= self.store.claim_connections() {
            return None;
        }
        line.flying += 1;
        let flight = Flight { queue: Arc::clone(self), _tracked: self.flights.token() };
        Some((flight, self.next_batch(line)))
    }

    /// The next batch of a flight; `None` if nobody waits, or so few that another will take them.
    fn fly_on(&self) -> Option<Vec<Waiting>> {
        let mut line = self.line();
        let enough = if line.flying == 1 { 1 } else { PARALLEL_FROM };
        (line.claims >= enough).then(|| self.next_batch(&mut line))
    }

    /// The oldest callers whose claims fit into one batch, at least one.
    fn next_batch(&self, line: &mut Line) -> Vec<Waiting> {
        let (mut callers, mut taken) = (0, 0);
        for Waiting { claims, .. } in &line.waiting {
            if callers > 0 && taken + claims.len() > self.max_batch {
                break;
            }
            callers += 1;
            taken += claims.len();
        }
        line.claims -= taken;
        self.full.store(false, Ordering::Relaxed);
        self.metrics.claim_queue_depth.sub(signed(taken));
        line.waiting.drain(..callers).collect()
    }

    /// It runs to its end even if all callers leave.
    async fn decide(&self, batch: Vec<Waiting>) -> Decided {
        let mut callers = Vec::with_capacity(batch.len());
        let mut claims: Vec<Claim> = Vec::with_capacity(batch.len());
        for Waiting { claims: own, answer } in batch {
            callers.push((own.len(), answer));
            claims.extend(own);
        }
        #[allow(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
        self.metrics.claim_batch_size.observe(claims.len() as f64);
        let started = Instant::now();
        let outcomes = batch::decide(&self.store, &claims).await;
        self.metrics.claim_commit_seconds.observe(started.elapsed().as_secs_f64());
        Decided { callers, outcomes }
    }
}

/// It counts as flying until it is dropped, however it ends.
struct Flight {
    queue: Arc<Queue>,
    _tracked: TaskTrackerToken,
}

impl Flight {
    async fn fly(self, first: Vec<Waiting>) {
        let queue = &*self.queue;
        let mut decided: Option<Decided> = None;
        let mut next = Some(first);
        while let Some(batch) = next {
            // The next batch is sent before the callers of the last one are told.
            let telling = async {
                if let Some(decided) = decided.take() {
                    yield_now().await;
                    decided.tell(&queue.metrics);
                }
            };
            let (now_decided, ()) = join(queue.decide(batch), telling).await;
            next = queue.fly_on();
            if next.is_some() {
                decided = Some(now_decided);
            } else {
                now_decided.tell(&queue.metrics);
                next = queue.fly_on();
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let another = {
            let mut line = self.queue.line();
            line.flying -= 1;
            // Somebody may have come since this one looked last.
            self.queue.take_off(&mut line)
        };
        if let Some((flight, first)) = another {
            self.queue.runtime.spawn(flight.fly(first));
        }
    }
}

/// A batch after its commit, whose callers do not know yet.
struct Decided {
    callers: Vec<(usize, oneshot::Sender<Answer>)>,
    outcomes: Vec<Result<Outcome>>,
}

impl Decided {
    fn tell(self, metrics: &Metrics) {
        let mut outcomes = self.outcomes.into_iter();
        for (count, answer) in self.callers {
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
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
