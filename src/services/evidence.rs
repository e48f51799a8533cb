//! Evidence of replays, and of tokens that are refused again and again: events, but no more than the
//! log can take. They are written after the answer, and can neither delay nor fail it. Replays that are
//! not written are counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::event;
use crate::config;
use crate::domain::{Actor, Claim, Code, Did, NewEvent, OwnType, Peer, Scope, Timestamp, rfc3339};
use crate::metrics::Metrics;
use crate::storage::{Store, StoreError};

/// Events that may wait for the database.
const WAITING: usize = 1024;
/// The most that are written together.
const TOGETHER: usize = 256;
/// Scopes that are told apart within a minute. Those that come later are only counted.
const SCOPES: usize = 4096;
/// So many refused tokens of one peer in a minute leave one event.
const OFTEN: u32 = 20;
/// The most peers that leave such an event in a minute.
const OFTEN_IN_ALL: u32 = 60;
const MINUTE: Duration = Duration::from_mins(1);

/// Takes replays. Clones share the sampling and the queue.
#[derive(Clone)]
pub struct Evidence(Arc<Inner>);

struct Inner {
    sampling: Mutex<Sampling>,
    refusals: Mutex<Refusals>,
    /// `None` once closed.
    queue: Mutex<Option<mpsc::Sender<Noted>>>,
    writing: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
}

struct Noted {
    event: NewEvent,
    /// Of a replay.
    signer: Option<Did>,
}

/// The tokens that were refused in this minute, by peer.
struct Refusals {
    since: Instant,
    written: u32,
    peers: HashMap<Peer, u32>,
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

impl Refusals {
    fn new(now: Instant) -> Self {
        Self { since: now, written: 0, peers: HashMap::new() }
    }

    /// Counts one, and says whether it becomes an event.
    fn take(&mut self, peer: Peer, now: Instant) -> bool {
        if now.duration_since(self.since) >= MINUTE {
            *self = Self::new(now);
        }
        if self.peers.len() >= SCOPES && !self.peers.contains_key(&peer) {
            return false;
        }
        let count = self.peers.entry(peer).or_default();
        *count = count.saturating_add(1);
        let written = *count == OFTEN && self.written < OFTEN_IN_ALL;
        self.written += u32::from(written);
        written
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
            refusals: Mutex::new(Refusals::new(Instant::now())),
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
            "first_used_at": rfc3339(first_used_at),
        });
        let outcome = match kind {
            OwnType::SignatureReplayed => "signature_replayed",
            _ => "nonce_replayed",
        };
        let event = NewEvent { outcome, ..event(kind, Actor::Service, subject, &data) };
        let signer = match &claim.scope {
            Scope::Signer { did, .. } => Some(did.clone()),
            Scope::Session(_) | Scope::Namespace { .. } => None,
        };
        if !self.queue(Noted { event, signer }) {
            unrecorded.full.inc();
        }
    }

    /// Notes that a token is not valid that came from this peer.
    pub fn note_refused_token(&self, peer: Peer) {
        let often = {
            let mut refusals = self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            refusals.take(peer, Instant::now())
        };
        if often {
            let data = json!({ "refused": OFTEN, "seconds": MINUTE.as_secs() });
            let event = event(OwnType::TokenRefused, Actor::Service, peer, &data);
            let outcome = Code::Unauthenticated.as_str();
            // Where too much waits, the next minute tells.
            self.queue(Noted { event: NewEvent { outcome, ..event }, signer: None });
        }
    }

    /// Whether there was room for it.
    fn queue(&self, noted: Noted) -> bool {
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().is_some_and(|queue| queue.try_send(noted).is_ok())
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

async fn write(store: Store, mut waiting: mpsc::Receiver<Noted>, metrics: Arc<Metrics>) {
    let mut noted = Vec::new();
    while waiting.recv_many(&mut noted, TOGETHER).await > 0 {
        let count = noted.len() as u64;
        let refusals =
            noted.iter().filter(|noted| noted.event.kind == OwnType::TokenRefused.into());
        let replays = count - refusals.count() as u64;
        if let Err(error) = write_all(&store, std::mem::take(&mut noted)).await {
            metrics.events.unrecorded.failed.inc_by(replays);
            tracing::warn!(%error, count, "evidence could not be written to the log of events");
        }
    }
}

async fn write_all(store: &Store, noted: Vec<Noted>) -> Result<(), StoreError> {
    let mut events = Vec::with_capacity(noted.len());
    for Noted { mut event, signer } in noted {
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
    fn a_peer_whose_tokens_are_refused_often_leaves_one_event_in_a_minute() {
        let start = Instant::now();
        let mut refusals = Refusals::new(start);
        let peer = |number: u8| Peer::of_address([192, 0, 2, number].into());
        let mut often =
            |peer: Peer, at: Instant| (0..50).filter(|_| refusals.take(peer, at)).count();
        assert_eq!([often(peer(1), start), often(peer(1), start)], [1, 0]);
        for number in 2..=60 {
            assert_eq!(often(peer(number), start), 1);
        }
        assert_eq!(often(peer(61), start), 0, "enough in all");
        assert_eq!(often(peer(1), start + MINUTE), 1);
        let seldom = (1..OFTEN).filter(|_| refusals.take(peer(2), start + MINUTE)).count();
        assert_eq!(seldom, 0);
    }

    #[test]
    fn the_peers_of_a_minute_take_bounded_memory() {
        let start = Instant::now();
        let mut refusals = Refusals::new(start);
        for number in 0..2 * u32::try_from(SCOPES).unwrap() {
            refusals.take(Peer::of_address(number.to_be_bytes().into()), start);
        }
        assert_eq!(refusals.peers.len(), SCOPES);
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
