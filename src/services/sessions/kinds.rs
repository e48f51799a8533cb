//! The kinds of calls about one session that are asked together.

use crate::domain::{Changed, EndReason, NewSession, Opened, Session, SessionId};
use crate::metrics::Metrics;
use crate::storage::{Ending, OnLock, Result, Store, Tried};

pub(super) trait Kind: Send + Sync + 'static {
    /// Its label in metrics.
    const NAME: &'static str;
    /// Batches that it pays to send side by side. Two of those that lock rows would only get in
    /// each other's way.
    const FLIGHTS: usize = 1;
    /// Whether calls wait together on SQLite, too, where the writer's thread groups what waits for
    /// it anyway.
    const ON_SQLITE: bool = false;

    type Item: Send + Sync;
    type Answer: Send;

    /// The session that it is about.
    fn id(item: &Self::Item) -> SessionId;

    /// An answer for each item, in order.
    fn ask(
        store: &Store,
        items: &[Self::Item],
        on_lock: OnLock,
    ) -> impl Future<Output = Vec<Result<Tried<Self::Answer>>>> + Send;

    /// Counts an answer that a caller is about to be told, or would be if it had not gone.
    fn count(_metrics: &Metrics, _answer: &Self::Answer) {}
}

pub(super) struct Opening;

impl Kind for Opening {
    const NAME: &'static str = "opening";
    type Item = NewSession;
    type Answer = Opened;

    fn id(new: &NewSession) -> SessionId {
        new.id
    }

    async fn ask(store: &Store, new: &[NewSession], on_lock: OnLock) -> Vec<Result<Tried<Opened>>> {
        store.open_each(new, on_lock).await
    }

    fn count(metrics: &Metrics, opened: &Opened) {
        if matches!(opened, Opened::Created(_)) {
            metrics.sessions_opened.inc();
        }
    }
}

pub(super) struct End;

impl Kind for End {
    const NAME: &'static str = "ending";
    type Item = Ending;
    type Answer = Changed;

    fn id(ending: &Ending) -> SessionId {
        ending.id
    }

    async fn ask(
        store: &Store,
        endings: &[Ending],
        on_lock: OnLock,
    ) -> Vec<Result<Tried<Changed>>> {
        store.end_each(endings, on_lock).await
    }

    fn count(metrics: &Metrics, changed: &Changed) {
        if matches!(changed, Changed::Done(_)) {
            metrics.sessions_ended(EndReason::Ended, 1);
        }
    }
}

pub(super) struct Touch;

impl Kind for Touch {
    const NAME: &'static str = "touch";
    type Item = SessionId;
    type Answer = Changed;

    fn id(id: &SessionId) -> SessionId {
        *id
    }

    async fn ask(store: &Store, ids: &[SessionId], on_lock: OnLock) -> Vec<Result<Tried<Changed>>> {
        store.touch_each(ids, on_lock).await
    }
}

pub(super) struct Reading;

impl Kind for Reading {
    const NAME: &'static str = "reading";
    const FLIGHTS: usize = 2;
    /// Waking a reader's thread costs as much as a reading, so several share it.
    const ON_SQLITE: bool = true;
    type Item = SessionId;
    type Answer = Option<Session>;

    fn id(id: &SessionId) -> SessionId {
        *id
    }

    /// It needs no lock.
    async fn ask(
        store: &Store,
        ids: &[SessionId],
        _: OnLock,
    ) -> Vec<Result<Tried<Option<Session>>>> {
        let sessions = store.read_each(ids).await;
        sessions.into_iter().map(|session| session.map(Tried::Done)).collect()
    }
}
