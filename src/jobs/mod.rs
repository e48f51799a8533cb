//! Work that no call asks for: the purge, backups, the links and heads of the log of events, sending
//! events to webhooks, unfinished revocations, missing words of the search, samples for gauges, the
//! clock, the heartbeat.
//!
//! Each job has an interval, with jitter, so that instances do not run it at the same moment. A job
//! that only one instance may run at a time takes a lease in the database first.

pub mod backup;
mod certificates;
mod clock;
mod events;
mod heads;
pub mod heartbeat;
pub mod purge;
mod revocations;
mod sample;
mod scheduler;
mod words;

use std::sync::Arc;

use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config;
use crate::domain::Actor;
use crate::metrics::Metrics;
use crate::services::{Deliverer, Heads};
use crate::storage::Store;
use crate::tls::Certificates;

use scheduler::Schedule;
pub use scheduler::{JobError, LeaseKeeper};

/// What works on the log of events.
pub struct OfEvents {
    pub heads: Heads,
    pub deliverer: Deliverer,
}

/// The running jobs.
#[derive(Debug)]
pub struct Jobs {
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Jobs {
    /// Starts every job on the current Tokio runtime. `holder` names this instance in leases.
    #[must_use]
    pub fn start(
        store: &Store,
        metrics: &Arc<Metrics>,
        clock: &Clock,
        certificates: Option<&Arc<Certificates>>,
        OfEvents { heads, deliverer }: OfEvents,
        config: &config::Config,
        holder: &str,
    ) -> Self {
        let purge = purge::Limits::new(config);
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let schedule = |name, interval, leased| Schedule {
            name,
            interval,
            leased,
            rest: None,
            holder: holder.to_owned(),
            store: store.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        let (c, m) = (clock.clone(), metrics.clone());
        running.spawn(schedule(clock::NAME, clock::INTERVAL, false).run(
            async move |_: &mut LeaseKeeper| {
                clock::run(&c, &m);
                Ok(())
            },
        ));
        if let Some(certificates) = certificates {
            let c = certificates.clone();
            running.spawn(schedule(certificates::NAME, certificates::INTERVAL, false).run(
                async move |_: &mut LeaseKeeper| {
                    certificates::run(&c);
                    Ok(())
                },
            ));
        }
        let s = store.clone();
        running.spawn(schedule(heartbeat::NAME, heartbeat::INTERVAL, false).run(
            async move |_: &mut LeaseKeeper| {
                heartbeat::run(&s).await;
                Ok(())
            },
        ));
        let (s, m, c) = (store.clone(), metrics.clone(), clock.clone());
        running.spawn(schedule(purge::NAME, config.jobs.purge_interval, true).run(
            async move |keeper: &mut LeaseKeeper| {
                let actor = Actor::Job(purge::NAME);
                let purged = purge::run(&s, &m, &c, &purge, actor, keeper).await?;
                purge::log(&purged);
                Ok(())
            },
        ));
        if let Some(interval) = config.backup.interval {
            let (s, c, b) = (store.clone(), clock.clone(), config.backup.clone());
            let schedule =
                Schedule { rest: Some(interval), ..schedule(backup::NAME, backup::LOOK, true) };
            running.spawn(
                schedule.run(async move |keeper: &mut LeaseKeeper| {
                    backup::run(&s, &c, &b, keeper).await
                }),
            );
        }
        let (s, m) = (store.clone(), metrics.clone());
        running.spawn(
            schedule(revocations::NAME, revocations::INTERVAL, true)
                .run(async move |_: &mut LeaseKeeper| revocations::run(&s, &m).await),
        );
        let linked = Arc::new(Notify::new());
        let (s, m, l) = (store.clone(), metrics.clone(), linked.clone());
        running.spawn(
            schedule(events::NAME, events::INTERVAL, false)
                .run(async move |_: &mut LeaseKeeper| events::run(&s, &m, &l).await),
        );
        let (s, m, l) = (store.clone(), metrics.clone(), linked.clone());
        running.spawn(events::follow(s, m, l, stop.clone()));
        running.spawn(deliver(deliverer, linked, stop.clone()));
        let s = store.clone();
        running.spawn(
            schedule(words::NAME, words::INTERVAL, false)
                .run(async move |keeper: &mut LeaseKeeper| words::run(&s, keeper).await),
        );
        let heads = Mutex::new(heads);
        running.spawn(
            schedule(heads::NAME, heads::INTERVAL, false)
                .run(async move |_: &mut LeaseKeeper| heads::run(&mut *heads.lock().await).await),
        );
        let (s, m) = (store.clone(), metrics.clone());
        running.spawn(
            schedule(sample::NAME, config.jobs.sample_interval, false)
                .run(async move |_: &mut LeaseKeeper| sample::run(&s, &m).await),
        );
        Self { stop, running }
    }

    /// Stops every job between two of its steps, and waits until all have stopped.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.running.join_next().await.is_some() {}
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Sends events on a thread of its own: what drives the database connections does nothing for
/// receivers. Ends when that thread has ended.
async fn deliver(deliverer: Deliverer, linked: Arc<Notify>, stop: CancellationToken) {
    let (ended, end) = oneshot::channel::<()>();
    let sending = move || {
        let _ended = ended;
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                runtime.block_on(deliverer.run(linked, stop));
                // A look-up of a name that is under way is not waited for.
                runtime.shutdown_background();
            }
            Err(error) => tracing::error!(%error, "no events are sent to webhooks"),
        }
    };
    if let Err(error) = std::thread::Builder::new().name("webhooks".to_owned()).spawn(sending) {
        tracing::error!(%error, "no events are sent to webhooks");
    }
    let _ = end.await;
}
