//! Evidence of replays: an event for each, but for no more than the log can take. It is written after
//! the answer, and can neither delay nor fail it. What is not written is counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::event;
use crate::config;
use crate::domain::{Actor, Claim, Did, NewEvent, OwnType, Scope, Timestamp};
use crate::metrics::Metrics;
use crate::storage::{Store, StoreError};

/// Events that may wait for the database.
const WAITING: usize = 1024;
/// The most that are written together.
const TOGETHER: usize = 256;
/// Scopes that are told apart within a minute. Those that come later are only counted.
const SCOPES: usize = 4096;
const MINUTE: Duration = Duration::from_mins(1);

/// Takes replays. Clones share the sampling and the queue.
#[derive(Clone)]
pub struct Evidence(Arc<Inner>);

struct Inner {
    sampling: Mutex<Sampling>,
    /// `None` once closed.
    queue: Mutex<Option<mpsc::Sender<Replay>>>,
    writing: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
}

struct Replay {
    event: NewEvent,
    signer: Option<Did>,
}

/// What became events in this minute.
struct Sampling {
    of_scope: u32,
    in_all: u32,
    since: Instant,
    written: u32,
    scopes: HashMap<String, u32>,
}

/// Whether a replay becomes an event.
#[derive(Debug, PartialEq, Eq)]
enum Sampled {
    Written,
    EnoughOfScope,
    EnoughInAll,
}

impl Sampling {
    fn take(&mut self, scope: &str, now: Instant) -> Sampled {
        if now.duration_since(self.since) >= MINUTE {
            (self.since, self.written) = (now, 0);
            self.scopes.clear();
        }
        if self.written >= self.in_all {
            return Sampled::EnoughInAll;
        }
        let known = self.scopes.len();
        match self.scopes.get_mut(scope) {
            Some(count) if *count >= self.of_scope => return Sampled::EnoughOfScope,
            Some(count) => *count += 1,
            None if self.of_scope == 0 || known >= SCOPES => return Sampled::EnoughOfScope,
            None => drop(self.scopes.insert(scope.to_owned(), 1)),
        }
        self.written += 1;
        Sampled::Written
    }
}

impl Evidence {
    /// Writes on the current Tokio runtime.
    #[must_use]
    pub fn start(store: Store, config: &config::Events, metrics: Arc<Metrics>) -> Self {
        let (queue, taken) = mpsc::channel(WAITING);
        let sampling = Sampling {
            of_scope: config.replays_per_scope_per_minute,
            in_all: config.replays_per_minute,
            since: Instant::now(),
            written: 0,
            scopes: HashMap::new(),
        };
        let writing = tokio::spawn(write(store, taken, Arc::clone(&metrics)));
        Self(Arc::new(Inner {
            sampling: Mutex::new(sampling),
            queue: Mutex::new(Some(queue)),
            writing: Mutex::new(Some(writing)),
            metrics,
        }))
    }

    /// Notes that a nonce was used before. `kind` says how it came.
    pub(super) fn note(&self, kind: OwnType, claim: &Claim, first_used_at: Timestamp) {
        let unrecorded = &self.0.metrics.events.unrecorded;
        let (scope, subject) = match &claim.scope {
            Scope::Session(id) => ("session", id.to_string()),
            Scope::Signer { did, .. } => ("signer", did.to_string()),
            Scope::Namespace { namespace, .. } => ("namespace", namespace.to_string()),
        };
        let sampled = {
            let mut sampling = self.0.sampling.lock().unwrap_or_else(PoisonError::into_inner);
            sampling.take(&subject, Instant::now())
        };
        match sampled {
            Sampled::Written => {}
            Sampled::EnoughOfScope => return unrecorded.scope.inc(),
            Sampled::EnoughInAll => return unrecorded.all.inc(),
        }
        let digest = Sha256::digest(claim.nonce.as_str());
        let data = json!({
            "scope": scope,
            "nonce_sha256": base16ct::lower::encode_string(&digest),
            "first_used_at": first_used_at,
        });
        let outcome = match kind {
            OwnType::SignatureReplayed => "signature_replayed",
            _ => "nonce_replayed",
        };
        let event = NewEvent { outcome, ..event(kind, Actor::Service, subject, &data) };
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let signer = match &claim.scope {
            Scope::Signer { did, .. } => Some(did.clone()),
            Scope::Session(_) | Scope::Namespace { .. } => None,
        };
        let replay = Replay { event, signer };
        if queue.as_ref().is_none_or(|queue| queue.try_send(replay).is_err()) {
            unrecorded.full.inc();
        }
    }

    /// Takes no more, and returns when what waits is written.
    pub async fn close(&self) {
        drop(self.0.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writing) = writing {
            let _ = writing.await;
        }
    }
}

async fn write(store: Store, mut waiting: mpsc::Receiver<Replay>, metrics: Arc<Metrics>) {
    let mut replays = Vec::new();
    while waiting.recv_many(&mut replays, TOGETHER).await > 0 {
        let count = replays.len() as u64;
        if let Err(error) = write_all(&store, std::mem::take(&mut replays)).await {
            metrics.events.unrecorded.failed.inc_by(count);
            tracing::warn!(%error, count, "replays could not be written to the log of events");
        }
    }
}

async fn write_all(store: &Store, replays: Vec<Replay>) -> Result<(), StoreError> {
    let mut events = Vec::with_capacity(replays.len());
    for Replay { mut event, signer } in replays {
        // A message of a DID that was erased is no reason to write its name down again.
        if let Some(signer) = &signer
            && let Some(name) = store.signer_name(signer).await?
        {
            event.subject = name;
        }
        events.push(event);
    }
    store.publish(events).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_of_a_scope_and_in_all_become_events_in_a_minute() {
        let start = Instant::now();
        let mut sampling =
            Sampling { of_scope: 2, in_all: 3, since: start, written: 0, scopes: HashMap::new() };
        assert_eq!(sampling.take("a", start), Sampled::Written);
        assert_eq!(sampling.take("a", start), Sampled::Written);
        assert_eq!(sampling.take("a", start), Sampled::EnoughOfScope);
        assert_eq!(sampling.take("b", start), Sampled::Written);
        assert_eq!(sampling.take("c", start), Sampled::EnoughInAll);
        assert_eq!(sampling.take("a", start + MINUTE), Sampled::Written);
    }

    #[test]
    fn the_scopes_of_a_minute_take_bounded_memory() {
        let start = Instant::now();
        let mut sampling = Sampling {
            of_scope: 1,
            in_all: u32::MAX,
            since: start,
            written: 0,
            scopes: HashMap::new(),
        };
        for scope in 0..SCOPES {
            assert_eq!(sampling.take(&scope.to_string(), start), Sampled::Written);
        }
        assert_eq!(sampling.take("more", start), Sampled::EnoughOfScope);
        assert_eq!(sampling.scopes.len(), SCOPES);
    }
}
