//! Decides when a job runs, and lets only one instance run it at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::services::ServiceError;
use crate::storage::{Store, StoreError};

/// How long a lease lasts. When a holder dies, others wait at most this long.
const LEASE: Duration = Duration::from_mins(1);
/// A holder renews its lease after this time.
const RENEW_AFTER: Duration = Duration::from_secs(20);
/// How soon a failed job is tried again. The wait doubles, up to the job's interval.
const RETRY: Duration = Duration::from_secs(5);

/// Why a job did not finish.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The time is in doubt.
    #[error("{0}")]
    Clock(String),
    #[error("cannot write the archive: {0}")]
    Archive(std::io::Error),
    #[error("another instance took the lease over")]
    LeaseLost,
    #[error("stopped")]
    Stopped,
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

/// Keeps a job's lease while it works. A job calls [`Self::renew`] before each of its steps.
pub struct LeaseKeeper {
    store: Store,
    name: &'static str,
    holder: String,
    leased: bool,
    renewed: Instant,
    stop: CancellationToken,
}

impl LeaseKeeper {
    /// For a command that runs the job by hand: takes the lease, or names its holder.
    pub async fn take(
        store: &Store,
        name: &'static str,
        holder: String,
    ) -> Result<Option<Self>, StoreError> {
        let stop = CancellationToken::new();
        let keeper = Self {
            store: store.clone(),
            name,
            holder,
            leased: true,
            renewed: Instant::now(),
            stop,
        };
        Ok(keeper.acquire().await?.then_some(keeper))
    }

    /// Renews the lease when it is time. Fails when the lease was lost, or the job was asked to
    /// stop.
    pub async fn renew(&mut self) -> Result<(), JobError> {
        if self.stop.is_cancelled() {
            return Err(JobError::Stopped);
        }
        if self.leased && self.renewed.elapsed() > RENEW_AFTER {
            if !self.acquire().await? {
                return Err(JobError::LeaseLost);
            }
            self.renewed = Instant::now();
        }
        Ok(())
    }

    /// Rests between two steps; returns at once when asked to stop.
    pub async fn rest(&self, pause: Duration) {
        let _ = tokio::time::timeout(pause, self.stop.cancelled()).await;
    }

    /// Returns the lease.
    pub async fn release(self, finished: bool) -> Result<(), StoreError> {
        if self.leased {
            self.store.release_lease(self.name, &self.holder, finished).await?;
        }
        Ok(())
    }

    async fn acquire(&self) -> Result<bool, StoreError> {
        self.store.take_lease(self.name, &self.holder, LEASE).await
    }
}

/// One job's timetable.
pub(super) struct Schedule {
    pub(super) name: &'static str,
    pub(super) interval: Duration,
    /// Whether only one instance runs it at a time.
    pub(super) leased: bool,
    /// For how long after an instance has finished a leased job no instance runs it again.
    pub(super) rest: Option<Duration>,
    pub(super) holder: String,
    pub(super) store: Store,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: CancellationToken,
}

impl Schedule {
    /// Runs `job` soon, and then again and again until it is told to stop.
    pub(super) async fn run<J>(self, job: J)
    where
        J: AsyncFn(&mut LeaseKeeper) -> Result<(), JobError>,
    {
        let mut wait = jitter(self.interval.min(Duration::from_secs(1)));
        let mut failures = 0_u32;
        loop {
            if tokio::time::timeout(wait, self.stop.cancelled()).await.is_ok() {
                return;
            }
            match self.run_once(&job).await {
                Ok(()) => {
                    failures = 0;
                    wait = self.interval + jitter(self.interval / 10);
                }
                Err(JobError::Stopped) => return,
                Err(error) => {
                    let retry = RETRY.saturating_mul(2_u32.saturating_pow(failures));
                    failures += 1;
                    wait = retry.min(self.interval);
                    let wait_seconds = wait.as_secs();
                    tracing::warn!(job = self.name, %error, failures, wait_seconds, "failed");
                }
            }
        }
    }

    async fn run_once<J>(&self, job: &J) -> Result<(), JobError>
    where
        J: AsyncFn(&mut LeaseKeeper) -> Result<(), JobError>,
    {
        let started = Instant::now();
        let mut keeper = LeaseKeeper {
            store: self.store.clone(),
            name: self.name,
            holder: self.holder.clone(),
            leased: self.leased,
            renewed: started,
            stop: self.stop.clone(),
        };
        if self.leased && !keeper.acquire().await? {
            self.count("elsewhere");
            return Ok(());
        }
        if let Some(rest) = self.rest
            && !self.is_due(rest).await?
        {
            return Ok(keeper.release(false).await?);
        }
        let outcome = job(&mut keeper).await;
        self.count(if outcome.is_ok() { "ok" } else { "error" });
        self.metrics
            .job_seconds
            .with_label_values(&[self.name])
            .observe(started.elapsed().as_secs_f64());
        let released = keeper.release(outcome.is_ok()).await;
        outcome.and(released.map_err(JobError::from))
    }

    async fn is_due(&self, rest: Duration) -> Result<bool, StoreError> {
        let lease = self.store.lease(self.name).await?;
        let Some((lease, finished_at)) = lease.and_then(|l| l.finished_at.map(|at| (l, at))) else {
            return Ok(true);
        };
        // One that was finished in the future was finished by a clock that was ahead.
        let ago = (lease.observed_at - finished_at).to_std();
        Ok(!ago.is_ok_and(|ago| ago < rest))
    }

    fn count(&self, result: &str) {
        self.metrics.job_runs.with_label_values(&[self.name, result]).inc();
    }
}

/// A random part of `most`.
fn jitter(most: Duration) -> Duration {
    let mut random = [0_u8; 4];
    // A job also works without jitter, so missing random bytes do not stop it.
    let _ = getrandom::fill(&mut random);
    most.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}
