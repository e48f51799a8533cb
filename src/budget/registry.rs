//! How many connections there may be, and which one is closed when there is one too many.
//!
//! A connection is a stranger's until a token came over it. While a signed request is being served
//! on it, it is not. When strangers have one connection too many, one closes: the first of these
//! that there is.
//!
//! 1. A connection that was refused already.
//! 2. The one that has been silent longest. A connection whose bytes wait to be read is not silent.
//! 3. The one whose request has been checked longest.
//! 4. The one whose signed request was served longest ago.
//!
//! So a new connection always has a moment to show a credential, and a connection that showed one
//! goes on being served.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::domain::Peer;
use crate::metrics::Metrics;

const HEAD_BYTES: &str = "stranger_head_bytes";

pub(super) struct Registry {
    limits: Limits,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Bytes of heads that do not fit into a connection's own buffer.
    head_bytes: AtomicU64,
}

struct State {
    open: usize,
    next: u64,
    strangers: Line,
    handshakes: Line,
}

/// Which of the two lines a connection waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For connections without a credential.
    Stranger,
    /// For connections in a TLS handshake.
    Handshake,
}

/// A place in a line: by what came over the connection, then by when it took its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    shown: Shown,
    number: u64,
}

/// What came over a connection so far. Connections that showed the least are closed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shown {
    /// A refused request.
    Refused,
    /// Nothing yet.
    Nothing,
    /// A request, whose credential is being checked.
    Request,
    /// A signature that verified.
    Signature,
}

/// Waiting connections, in the order in which they are closed when there are too many.
struct Line {
    in_all: usize,
    per_peer: usize,
    in_use: IntGauge,
    members: BTreeMap<Ticket, (Peer, CancellationToken)>,
    by_peer: HashMap<Peer, BTreeSet<Ticket>>,
}

impl Registry {
    pub(super) fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        let line = |in_all, per_peer, resource| Line {
            in_all,
            per_peer,
            in_use: metrics.in_use.with_label_values(&[resource]),
            members: BTreeMap::new(),
            by_peer: HashMap::new(),
        };
        let (all, peer) = (limits.stranger_connections, limits.stranger_connections_per_peer);
        let strangers = line(all, peer, "stranger_connections");
        let handshakes = line(limits.handshakes, limits.handshakes_per_peer, "handshakes");
        let state = Mutex::new(State { open: 0, next: 0, strangers, handshakes });
        Self { limits, metrics, state, head_bytes: AtomicU64::new(0) }
    }

    /// Takes room for a new connection, a stranger's if there is no other.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.state();
        if state.open >= self.limits.connections {
            self.metrics.refused("connections", "all");
            let Some(first) = state.strangers.members.keys().next().copied() else { return false };
            state.strangers.close(first);
        }
        state.open += 1;
        self.metrics.in_use.with_label_values(&["connections"]).inc();
        true
    }

    /// How many connections are open, and how many peers wait in each line.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, [usize; 2]) {
        let state = self.state();
        (state.open, [&state.strangers, &state.handshakes].map(|line| line.by_peer.len()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a connection into a line, and closes one if the line is then too long.
    pub(super) fn enter(
        &self,
        waiting: Waiting,
        peer: Peer,
        closed: &CancellationToken,
        shown: Shown,
    ) -> Ticket {
        let mut state = self.state();
        let ticket = Ticket { shown, number: state.next };
        state.next += 1;
        let full = state.line(waiting).enter(ticket, peer, closed.clone());
        drop(state);
        if let Some(reason) = full {
            let resource = match waiting {
                Waiting::Stranger => "stranger_connections",
                Waiting::Handshake => "handshakes",
            };
            self.metrics.refused(resource, reason);
        }
        ticket
    }

    pub(super) fn leave(&self, waiting: Waiting, ticket: Ticket) {
        self.state().line(waiting).leave(ticket);
    }

    /// A connection has ended.
    pub(super) fn ended(&self) {
        self.state().open -= 1;
        self.metrics.in_use.with_label_values(&["connections"]).dec();
    }

    /// Takes room for more of a stranger's head, if there is any.
    pub(super) fn take_head_bytes(&self, bytes: u64) -> bool {
        let most = self.limits.stranger_head_bytes;
        let taken = self.head_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            (taken + bytes <= most).then_some(taken + bytes)
        });
        match taken {
            Ok(_) => self.metrics.in_use.with_label_values(&[HEAD_BYTES]).add(signed(bytes)),
            Err(_) => self.metrics.refused(HEAD_BYTES, "all"),
        }
        taken.is_ok()
    }

    pub(super) fn give_back_head_bytes(&self, bytes: u64) {
        if bytes > 0 {
            self.head_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.in_use.with_label_values(&[HEAD_BYTES]).sub(signed(bytes));
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl State {
    const fn line(&mut self, waiting: Waiting) -> &mut Line {
        match waiting {
            Waiting::Stranger => &mut self.strangers,
            Waiting::Handshake => &mut self.handshakes,
        }
    }
}

impl Line {
    /// The bound that closed a connection, if one did.
    fn enter(
        &mut self,
        ticket: Ticket,
        peer: Peer,
        closed: CancellationToken,
    ) -> Option<&'static str> {
        self.members.insert(ticket, (peer, closed));
        let own = self.by_peer.entry(peer).or_default();
        own.insert(ticket);
        let first_own = (own.len() > self.per_peer).then(|| own.first().copied()).flatten();
        let first = (self.members.len() > self.in_all)
            .then(|| self.members.keys().next().copied())
            .flatten();
        if let Some(first) = first_own.or(first) {
            self.close(first);
        }
        self.show();
        first_own.map(|_| "peer").or_else(|| first.map(|_| "all"))
    }

    fn close(&mut self, ticket: Ticket) {
        if let Some((_, closed)) = self.members.get(&ticket) {
            closed.cancel();
        }
        self.leave(ticket);
    }

    fn leave(&mut self, ticket: Ticket) {
        let Some((peer, _)) = self.members.remove(&ticket) else { return };
        if let Some(own) = self.by_peer.get_mut(&peer) {
            own.remove(&ticket);
            if own.is_empty() {
                self.by_peer.remove(&peer);
            }
        }
        self.show();
    }

    fn show(&self) {
        self.in_use.set(i64::try_from(self.members.len()).unwrap_or(i64::MAX));
    }
}
