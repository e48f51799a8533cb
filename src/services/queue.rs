//! Who waits for the database, and the batches that are on their way: the one way in which
//! services group what is asked of it. What is grouped is a [`Work`].
//!
//! A flight commits one batch after the other, as long as somebody waits. Whoever comes while
//! there is none starts one; whoever comes meanwhile just stands in line, and is taken when the
//! flight has committed: no thread is woken for each item. There is no timer: nothing ever waits
//! for others to come. Only a long line starts a second flight, and a full one refuses at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join;
use prometheus::IntGauge;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::origin::Origin;

/// What a queue groups.
pub(super) trait Work: Send + Sync + 'static {
    type Item: Send;
    type Answer: Send;
    /// What all items of a batch have in common, if there is such a thing.
    type Row: Clone + PartialEq + Send;

    /// `None` where any items go together. Of one row, no two batches are on their way.
    fn row(&self, item: &Self::Item) -> Option<Self::Row>;

    /// An answer for each item, in order. It runs to its end even if all callers leave.
    fn run(&self, batch: Vec<Self::Item>) -> impl Future<Output = Vec<Self::Answer>> + Send;

    /// Counts answers that a caller is about to be told, or would be if it had not gone.
    fn count(&self, answers: &[Self::Answer]);
}

/// The sizes of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Items that may wait.
    pub(super) room: usize,
    pub(super) max_batch: usize,
    /// The most batches that are on their way at a time.
    pub(super) flights: usize,
    /// Items that must wait before another batch is run beside the first.
    pub(super) crowd: usize,
}

pub(super) struct Queue<W: Work> {
    work: W,
    sizes: Sizes,
    /// What is left of the room.
    free: AtomicUsize,
    /// How many items wait.
    depth: IntGauge,
    runtime: Handle,
    flights: TaskTracker,
    line: Mutex<Line<W>>,
}

struct Line<W: Work> {
    waiting: VecDeque<Waiting<W>>,
    /// Items in `waiting`.
    items: usize,
    flying: usize,
    /// The rows of the batches on their way.
    rows: Vec<W::Row>,
    closed: bool,
}

/// One caller's items, at least one, and where their answers go.
struct Waiting<W: Work> {
    items: Vec<W::Item>,
    origin: Origin,
    answer: oneshot::Sender<Vec<W::Answer>>,
}

impl<W: Work> Waiting<W> {
    fn row(&self, work: &W) -> Option<W::Row> {
        self.items.first().and_then(|item| work.row(item))
    }
}

/// The queue has no room, or is closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Room for some items that are about to come.
pub(super) struct Reserved<W: Work> {
    queue: Arc<Queue<W>>,
    items: usize,
}

impl<W: Work> Drop for Reserved<W> {
    fn drop(&mut self) {
        self.queue.free.fetch_add(self.items, Ordering::Relaxed);
    }
}

impl<W: Work> Reserved<W> {
    /// Lets the items, for which this is room, wait for their batch; all at once, and all of one
    /// row. The receiver fails if the batch is abandoned, which only a bug does.
    pub(super) fn fill(
        mut self,
        items: Vec<W::Item>,
    ) -> Result<oneshot::Receiver<Vec<W::Answer>>, Full> {
        let queue = &self.queue;
        let (answer, answered) = oneshot::channel();
        let flight = {
            let mut line = queue.line();
            if line.closed {
                return Err(Full);
            }
            line.items += items.len();
            queue.depth.add(signed(items.len()));
            line.waiting.push_back(Waiting { items, origin: Origin::current(), answer });
            queue.take_off(&mut line)
        };
        if let Some((flight, first)) = flight {
            queue.runtime.spawn(flight.fly(first));
        }
        // The line gives it back, when the items leave it.
        self.items = 0;
        Ok(answered)
    }
}

impl<W: Work> Queue<W> {
    /// Flights are run by the current Tokio runtime.
    pub(super) fn new(work: W, sizes: Sizes, depth: IntGauge) -> Self {
        let line =
            Line { waiting: VecDeque::new(), items: 0, flying: 0, rows: Vec::new(), closed: false };
        Self {
            work,
            sizes,
            free: AtomicUsize::new(sizes.room),
            depth,
            runtime: Handle::current(),
            flights: TaskTracker::new(),
            line: Mutex::new(line),
        }
    }

    /// Takes room for all of `items`, or none.
    pub(super) fn reserve(self: &Arc<Self>, items: usize) -> Result<Reserved<W>, Full> {
        let less = |free: usize| free.checked_sub(items);
        let taken = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.map(|_| Reserved { queue: Arc::clone(self), items }).map_err(|_| Full)
    }

    /// Whether a single item would be refused.
    pub(super) fn is_full(&self) -> bool {
        self.free.load(Ordering::Relaxed) == 0
    }

    /// Whether a batch of the item's row waits or is on its way.
    pub(super) fn has_row_of(&self, item: &W::Item) -> bool {
        let line = self.line();
        if line.waiting.is_empty() && line.rows.is_empty() {
            return false;
        }
        let row = self.work.row(item);
        let is_that = |other: &Waiting<W>| other.row(&self.work) == row;
        row.as_ref().is_some_and(|row| line.rows.contains(row))
            || row.is_some() && line.waiting.iter().any(is_that)
    }

    /// Refuses whoever comes from now on, and returns when all that wait have their answer.
    pub(super) async fn close(&self) {
        self.line().closed = true;
        self.flights.close();
        self.flights.wait().await;
    }

    fn line(&self) -> MutexGuard<'_, Line<W>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another flight and its first batch, if it is time for one. [`Self::close`] waits for every
    /// flight that this has made.
    fn take_off(self: &Arc<Self>, line: &mut Line<W>) -> Option<(Flight<W>, Batch<W>)> {
        let enough = if line.flying == 0 { 1 } else { self.sizes.crowd };
        if line.items < enough || line.flying >= self.sizes.flights {
            return None;
        }
        let batch = self.next_batch(line)?;
        line.flying += 1;
        let tracked = self.flights.token();
        let flight = Flight { queue: Arc::clone(self), row: batch.row.clone(), _tracked: tracked };
        Some((flight, batch))
    }

    /// The oldest callers whose items fit into one batch, at least one; `None` if nobody waits,
    /// or only for rows of which a batch is on its way.
    fn next_batch(&self, line: &mut Line<W>) -> Option<Batch<W>> {
        let row = |caller: &Waiting<W>| caller.row(&self.work);
        let (first, row_of_first) =
            line.waiting.iter().enumerate().find_map(|(index, caller)| {
                let row = row(caller);
                let on_its_way = row.as_ref().is_some_and(|row| line.rows.contains(row));
                (!on_its_way).then_some((index, row))
            })?;
        let mut taken = 0;
        let mut fits = |caller: &Waiting<W>| {
            let fits = taken == 0 || taken + caller.items.len() <= self.sizes.max_batch;
            taken += if fits { caller.items.len() } else { 0 };
            fits
        };
        let callers = if row_of_first.is_none() {
            let callers = line.waiting.iter().take_while(|caller| fits(caller)).count();
            line.waiting.drain(..callers).collect()
        } else {
            let mut callers = Vec::new();
            let mut index = first;
            while let Some(caller) = line.waiting.get(index) {
                if row(caller) == row_of_first && fits(caller) {
                    callers.extend(line.waiting.remove(index));
                } else {
                    index += 1;
                }
            }
            callers
        };
        line.rows.extend(row_of_first.clone());
        line.items -= taken;
        self.free.fetch_add(taken, Ordering::Relaxed);
        self.depth.sub(signed(taken));
        Some(Batch { callers, row: row_of_first })
    }

    async fn run(&self, batch: Batch<W>) -> Decided<W> {
        let mut callers = Vec::with_capacity(batch.callers.len());
        let mut items: Vec<W::Item> = Vec::with_capacity(batch.callers.len());
        let origin = Origin::together(batch.callers.iter().map(|waiting| &waiting.origin));
        for Waiting { items: own, answer, .. } in batch.callers {
            callers.push((own.len(), answer));
            items.extend(own);
        }
        Decided { callers, answers: origin.run(self.work.run(items)).await }
    }
}

/// Callers whose items are decided together.
struct Batch<W: Work> {
    callers: Vec<Waiting<W>>,
    row: Option<W::Row>,
}

/// It counts as flying until it is dropped, however it ends.
struct Flight<W: Work> {
    queue: Arc<Queue<W>>,
    /// That of the batch on its way.
    row: Option<W::Row>,
    _tracked: TaskTrackerToken,
}

impl<W: Work> Flight<W> {
    async fn fly(mut self, first: Batch<W>) {
        let mut decided: Option<Decided<W>> = None;
        let mut next = Some(first);
        while let Some(batch) = next {
            let queue = &*self.queue;
            // The next batch is sent before the callers of the last one are told.
            let telling = async {
                if let Some(decided) = decided.take() {
                    yield_now().await;
                    decided.tell(&queue.work);
                }
            };
            let (now_decided, ()) = join(queue.run(batch), telling).await;
            next = self.fly_on();
            if next.is_some() {
                decided = Some(now_decided);
            } else {
                now_decided.tell(&self.queue.work);
                next = self.fly_on();
            }
        }
    }

    /// The next batch; `None` if nobody waits, or so few that another flight will take them.
    fn fly_on(&mut self) -> Option<Batch<W>> {
        let mut line = self.queue.line();
        line.forget(self.row.take().as_ref());
        let enough = if line.flying == 1 { 1 } else { self.queue.sizes.crowd };
        if line.items < enough {
            return None;
        }
        let batch = self.queue.next_batch(&mut line)?;
        self.row.clone_from(&batch.row);
        Some(batch)
    }
}

impl<W: Work> Line<W> {
    /// The batch of this row has arrived.
    fn forget(&mut self, row: Option<&W::Row>) {
        if let Some(index) = row.and_then(|row| self.rows.iter().position(|other| other == row)) {
            self.rows.swap_remove(index);
        }
    }
}

impl<W: Work> Drop for Flight<W> {
    fn drop(&mut self) {
        let another = {
            let mut line = self.queue.line();
            line.flying -= 1;
            line.forget(self.row.as_ref());
            // Somebody may have come since this one looked last.
            self.queue.take_off(&mut line)
        };
        if let Some((flight, first)) = another {
            self.queue.runtime.spawn(flight.fly(first));
        }
    }
}

/// A batch after its commit, whose callers do not know yet.
struct Decided<W: Work> {
    callers: Vec<(usize, oneshot::Sender<Vec<W::Answer>>)>,
    answers: Vec<W::Answer>,
}

impl<W: Work> Decided<W> {
    fn tell(self, work: &W) {
        let mut answers = self.answers.into_iter();
        for (count, answer) in self.callers {
            let own: Vec<_> = answers.by_ref().take(count).collect();
            work.count(&own);
            // A caller that has gone away is not an error: what was done stands all the same.
            let _ = answer.send(own);
        }
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
