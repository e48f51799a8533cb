//! Whether requests can be served, for `/readyz`: the database answers, has the schema, and takes
//! writes. That it does is shown by a write, at most once a second, which all who ask share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::storage::{PoolStatus, Store, StoreError};

/// How long the database may take for an answer, and for a write.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how long what a write has shown holds.
const SHOWN_FOR: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Readiness {
    store: Store,
    clock: Clock,
    /// When a write was last tried, and what came of it.
    write: Arc<Mutex<Option<(Instant, bool)>>>,
}

/// What the database was found to be able to do.
#[derive(Debug)]
pub struct Ability {
    /// `None` when it did not answer.
    pub answer: Option<Answer>,
    /// Whether it takes writes.
    pub writes: bool,
    /// Until the answer came, or was not waited for any longer.
    pub took: Duration,
    /// `postgresql` or `sqlite`.
    pub backend: &'static str,
    /// The general pool, afterwards.
    pub pool: PoolStatus,
}

/// What it answered.
#[derive(Debug)]
pub struct Answer {
    /// By how much the database's clock is ahead of this machine's.
    pub ahead: chrono::Duration,
    /// Migrations that this binary has and the database has not.
    pub pending_migrations: usize,
    /// Since a purge last finished; `None` when none has.
    pub purge_lag_seconds: Option<i64>,
    /// Whether a transfer moves the database, or moved it: then it takes no changes.
    pub is_moved: bool,
}

impl Readiness {
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, write: Arc::default() }
    }

    /// When the database was last recovered, if it ever was.
    #[must_use]
    pub fn recovered_at(&self) -> Option<Timestamp> {
        self.store.recovered_at()
    }

    /// Takes a bounded time, however the database behaves.
    pub async fn ability(&self) -> Ability {
        let began = Instant::now();
        let ask = async {
            let answer = timeout(PATIENCE, self.ask()).await;
            (answer, began.elapsed())
        };
        let ((answer, took), writes) = tokio::join!(ask, self.writes());
        let answer = match answer {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the database did not answer a readiness probe");
                None
            }
            Err(_) => {
                tracing::warn!("the database did not answer a readiness probe in time");
                None
            }
        };
        let (backend, pool) = (self.store.backend(), self.store.pool_status());
        Ability { answer, writes, took, backend, pool }
    }

    async fn ask(&self) -> Result<Answer, StoreError> {
        let ahead = self.store.now().await? - self.clock.now();
        let migrations = self.store.migrations().await?;
        let pending_migrations = migrations.iter().filter(|one| one.known && !one.applied).count();
        let lease = if pending_migrations == 0 { self.store.lease("purge").await? } else { None };
        let purge_lag_seconds = lease.and_then(|lease| {
            lease.finished_at.map(|finished| (lease.observed_at - finished).num_seconds().max(0))
        });
        let is_moved = self.store.departure().await?.is_some();
        Ok(Answer { ahead, pending_migrations, purge_lag_seconds, is_moved })
    }

    /// One write at a time: whoever asks meanwhile waits for what it shows.
    async fn writes(&self) -> bool {
        let asked = Instant::now();
        let Ok(mut last) = timeout(PATIENCE, self.write.lock()).await else { return false };
        if let Some((tried, shown)) = *last
            && (tried >= asked || tried.elapsed() < SHOWN_FOR)
        {
            return shown;
        }
        let left = PATIENCE.saturating_sub(asked.elapsed());
        let shown = match timeout(left, self.store.prove_write()).await {
            // Without its tables it is asked for migrations.
            Ok(Ok(()) | Err(StoreError::Migration(_))) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the database takes no writes");
                false
            }
            Err(_) => {
                tracing::warn!("the database did not take a write in time");
                false
            }
        };
        *last = Some((Instant::now(), shown));
        shown
    }
}
