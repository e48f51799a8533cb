//! The queues of sessions: one for each kind of call, so that what is in the way of one kind is
//! not in the way of the others.
//!
//! A batch waits for nothing that another transaction has locked. What it skipped is asked again
//! off the line, and waits there, together with the calls that wait for the same, until its
//! patience ends.
//!
//! On SQLite only readings wait in a queue here: the writer's thread groups the other calls.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::kinds::Kind;
use crate::metrics::Metrics;
use crate::services::ServiceError;
use crate::services::queue::{Full, Queue, Sizes, Work};
use crate::storage::{Held, OnLock, Store, StoreError, Tried};

/// Calls of a kind that may wait; one more is refused.
const ROOM: usize = 4096;
const MAX_BATCH: usize = 256;
/// Calls that must wait before a second batch is sent beside the first, where a kind has two.
const CROWD: usize = 64;
/// For how long a call is asked again that a lock is in the way of: longer than a frozen instance
/// can keep one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Calls of a kind that may wait for locks; one more is refused.
const ROOM_BY_LOCK: usize = 1024;

/// The calls of one kind.
pub(super) struct Line<K: Kind> {
    store: Store,
    metrics: Arc<Metrics>,
    /// `None` where the store groups the calls.
    queues: Option<Queues<K>>,
}

struct Queues<K: Kind> {
    /// It waits for no lock.
    together: Arc<Queue<Asking<K>>>,
    /// Of what that skipped; it waits for one lock after the other, for a moment each.
    by_lock: Arc<Queue<Asking<K>>>,
}

impl<K: Kind> Line<K> {
    /// Batches are sent on the current Tokio runtime.
    pub(super) fn start(store: &Store, metrics: &Arc<Metrics>) -> Self {
        let queue = |on_lock, sizes| {
            let (store, metrics) = (store.clone(), Arc::clone(metrics));
            let depth = metrics.session_queue_depth.with_label_values(&[K::NAME]);
            let asking = Asking { store, metrics, on_lock, kind: PhantomData };
            Arc::new(Queue::new(asking, sizes, depth))
        };
        let together =
            Sizes { room: ROOM, max_batch: MAX_BATCH, flights: K::FLIGHTS, crowd: CROWD };
        let by_lock = Sizes { room: ROOM_BY_LOCK, flights: 1, ..together };
        let queues = (K::ON_SQLITE || matches!(store, Store::Postgres(_))).then(|| Queues {
            together: queue(OnLock::Skip, together),
            by_lock: queue(OnLock::Wait, by_lock),
        });
        Self { store: store.clone(), metrics: Arc::clone(metrics), queues }
    }

    /// # Errors
    /// [`ServiceError::Overloaded`] when the queue has no room, and nothing was changed.
    pub(super) async fn ask(&self, item: K::Item) -> Result<K::Answer, ServiceError> {
        let Some(queues) = &self.queues else {
            let tried = K::ask(&self.store, &[item], OnLock::Wait).await.pop();
            let answer = match tried.unwrap_or_else(|| Err(unanswered()))? {
                Tried::Done(answer) => answer,
                Tried::Busy(held) => return Err(StoreError::from(held).into()),
            };
            K::count(&self.metrics, &answer);
            return Ok(answer);
        };
        let ask = Ask { item, lock: None };
        let answer = send(&queues.together, ask).map_err(|Full| ServiceError::Overloaded)?;
        match told(answer).await {
            Told::Decided(decided) => Ok(decided?),
            // On the heap: this is rare.
            Told::Undecided(item, held, error) => {
                Ok(Box::pin(pursue(&queues.by_lock, item, held, error)).await?)
            }
        }
    }

    /// Refuses new calls, and returns when all that are waiting have their answer.
    pub(super) async fn close(&self) {
        if let Some(Queues { together, by_lock }) = &self.queues {
            together.close().await;
            by_lock.close().await;
        }
    }
}

/// Asks until that is decided, or a lock has been in its way for too long.
async fn pursue<K: Kind>(
    queue: &Arc<Queue<Asking<K>>>,
    mut item: K::Item,
    mut held: Held,
    mut error: StoreError,
) -> Result<K::Answer, StoreError> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let ask = Ask { item, lock: Some(Lock { held, until }) };
        let Ok(answer) = send(queue, ask) else { return Err(error) };
        match told(answer).await {
            Told::Decided(decided) => return decided,
            Told::Undecided(same, by, why) => (item, held, error) = (same, by, why),
        }
    }
    Err(error)
}

type Answered<K> = oneshot::Receiver<Vec<Told<K>>>;

fn send<K: Kind>(queue: &Arc<Queue<Asking<K>>>, ask: Ask<K>) -> Result<Answered<K>, Full> {
    queue.reserve(1)?.fill(vec![ask])
}

async fn told<K: Kind>(answered: Answered<K>) -> Told<K> {
    let abandoned = || StoreError::OutcomeUnknown("the batch was abandoned".into());
    let answer = answered.await.ok().and_then(|mut answers| answers.pop());
    answer.unwrap_or_else(|| Told::Decided(Err(abandoned())))
}

fn unanswered() -> StoreError {
    StoreError::Unexpected("the store left a call unanswered".into())
}

/// A call, as it waits.
struct Ask<K: Kind> {
    item: K::Item,
    /// `None` as long as nothing was in its way.
    lock: Option<Lock>,
}

/// What a call waits for.
struct Lock {
    held: Held,
    until: Instant,
}

/// What came of a call.
enum Told<K: Kind> {
    Decided(Result<K::Answer, StoreError>),
    /// Nothing was decided: another transaction holds this.
    Undecided(K::Item, Held, StoreError),
}

/// Calls as the work of a queue.
struct Asking<K> {
    store: Store,
    metrics: Arc<Metrics>,
    on_lock: OnLock,
    kind: PhantomData<K>,
}

impl<K: Kind> Work for Asking<K> {
    type Item = Ask<K>;
    type Answer = Told<K>;
    type Row = Held;

    fn row(&self, ask: &Ask<K>) -> Option<Held> {
        ask.lock.as_ref().map(|lock| lock.held.clone())
    }

    async fn run(&self, batch: Vec<Ask<K>>) -> Vec<Told<K>> {
        let now = Instant::now();
        let is_late = |ask: &Ask<K>| ask.lock.as_ref().is_some_and(|lock| lock.until <= now);
        let late = batch.iter().all(is_late);
        let (items, locks): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|ask| (ask.item, ask.lock)).unzip();
        let mut answers = if late {
            // It waited too long in the line: what comes after it must not wait for it.
            locks.into_iter().flatten().map(|lock| Ok(Tried::Busy(lock.held))).collect()
        } else {
            VecDeque::from(K::ask(&self.store, &items, self.on_lock).await)
        };
        let told = items.into_iter().map(|item| {
            match answers.pop_front().unwrap_or_else(|| Err(unanswered())) {
                Ok(Tried::Done(answer)) => Told::Decided(Ok(answer)),
                Ok(Tried::Busy(held)) => Told::Undecided(item, held.clone(), held.into()),
                // Which of the batch's locks it was is not known.
                Err(error @ StoreError::Locked(_)) => {
                    let held = Held::Session(K::id(&item));
                    Told::Undecided(item, held, error)
                }
                Err(error) => Told::Decided(Err(error)),
            }
        });
        told.collect()
    }

    fn count(&self, answers: &[Told<K>]) {
        for told in answers {
            if let Told::Decided(Ok(answer)) = told {
                K::count(&self.metrics, answer);
            }
        }
    }
}
