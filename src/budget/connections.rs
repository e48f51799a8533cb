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

use super::place::Place;
use crate::config::Limits;
use crate::domain::Peer;
use crate::metrics::Metrics;

const HEAD_BYTES: &str = "stranger_head_bytes";

/// The connections of a listener. Clones share them.
#[derive(Clone)]
pub struct Connections(Arc<Registry>);

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
pub(super) enum Shown {
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

impl Connections {
    #[must_use]
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
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
        Self(Arc::new(Registry { limits, metrics, state, head_bytes: AtomicU64::new(0) }))
    }

    /// A place for a new connection. A trusted proxy's connection has no peer, because it carries
    /// many. `None` when there is no place, and no stranger's connection to close instead.
    #[must_use]
    pub fn open(&self, peer: Option<Peer>) -> Option<Place> {
        let Registry { limits, metrics, .. } = &*self.0;
        let mut state = self.0.state();
        if state.open >= limits.connections {
            metrics.refused("connections", "all");
            let first = state.strangers.members.keys().next().copied()?;
            state.strangers.close(first);
        }
        state.open += 1;
        metrics.in_use.with_label_values(&["connections"]).inc();
        drop(state);
        Some(Place::new(Arc::clone(&self.0), peer))
    }
}

impl Registry {
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn connections() -> Connections {
        let limits = Limits {
            connections: 6,
            stranger_connections: 4,
            stranger_connections_per_peer: 2,
            handshakes: 2,
            handshakes_per_peer: 1,
            ..Limits::for_tests()
        };
        Connections::new(limits, Arc::new(Metrics::new().unwrap()))
    }

    fn peer(last: u8) -> Peer {
        Peer::of_address([192, 0, 2, last].into())
    }

    /// A connection over which nothing came so far.
    fn silent(connections: &Connections, last: u8) -> Rc<Place> {
        let place = connections.open(Some(peer(last))).unwrap();
        place.count();
        Rc::new(place)
    }

    /// Which of them were closed.
    fn closed<const N: usize>(places: [&Rc<Place>; N]) -> [bool; N] {
        places.map(|place| place.is_closed())
    }

    #[test]
    fn the_one_that_is_longest_without_a_credential_goes() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let (first, second) = (open(1), open(1));
        let third = open(1);
        assert_eq!(closed([&first, &second, &third]), [true, false, false], "its peer's oldest");
        second.admit();
        let fourth = open(1);
        assert_eq!(closed([&second, &third, &fourth]), [false; 3], "a holder's does not count");
        drop(third.serve());
        let fifth = open(1);
        assert_eq!(closed([&third, &fourth, &fifth]), [false, true, false], "third has signed");
        let serving = fifth.serve();
        let (sixth, seventh) = (open(1), open(1));
        drop(serving);
        assert_eq!(closed([&third, &sixth, &seventh]), [false, true, true], "others have not");
        assert!(!fifth.is_closed());
        drop((first, second, third, fourth, fifth, sixth, seventh));
        assert!(connections.0.state().strangers.by_peer.is_empty());
        assert_eq!(connections.0.state().open, 0);
    }

    #[test]
    fn one_that_was_refused_goes_before_all_others() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let (first, second) = (open(1), open(1));
        second.begin_request();
        assert!(second.end_request(true), "a refused stranger's connection closes");
        let third = open(1);
        assert_eq!(closed([&first, &second, &third]), [false, true, false]);
    }

    #[test]
    fn silence_goes_before_a_request_that_is_being_checked() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let asking = open(1);
        asking.begin_request();
        let (second, third) = (open(1), open(1));
        assert_eq!(closed([&asking, &second, &third]), [false, true, false]);
        // Once it was answered without a credential, it is as silent as the others.
        assert!(!asking.end_request(false));
        let (fourth, fifth) = (open(1), open(1));
        assert_eq!(closed([&asking, &third, &fourth, &fifth]), [true, true, false, false]);
    }

    #[test]
    fn a_connection_is_silent_once_none_of_its_requests_is_being_checked() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let asking = open(1);
        asking.begin_request();
        asking.begin_request();
        assert!(!asking.end_request(false));
        let (second, third) = (open(1), open(1));
        assert_eq!(closed([&asking, &second, &third]), [false, true, false]);
        assert!(!asking.end_request(false));
        let (fourth, fifth) = (open(1), open(1));
        assert_eq!(closed([&asking, &third, &fourth, &fifth]), [true, true, false, false]);
    }

    #[test]
    fn what_was_not_read_yet_is_no_silence() {
        let connections = connections();
        let unread = Rc::new(connections.open(Some(peer(1))).unwrap());
        let others = [(); 4].map(|()| silent(&connections, 1));
        assert!(!unread.is_closed() && unread.is_uncounted());
        unread.count();
        assert!(!unread.is_uncounted());
        let last = [(); 2].map(|()| silent(&connections, 1));
        assert!(unread.is_closed() && others.iter().all(|other| other.is_closed()));
        assert!(last.iter().all(|last| !last.is_closed()));
    }

    #[test]
    fn many_peers_share_a_bound() {
        let connections = connections();
        let open = |last| silent(&connections, last);
        let first = open(1);
        let others = [open(2), open(3), open(4)];
        assert!(!first.is_closed());
        let one_too_many = open(5);
        assert!(first.is_closed() && !one_too_many.is_closed());
        assert!(others.iter().all(|other| !other.is_closed()));
    }

    #[test]
    fn where_all_are_known_a_new_one_has_no_place() {
        let connections = connections();
        let known: Vec<_> = (0..6).map(|_| connections.open(None).unwrap()).collect();
        assert!(connections.open(Some(peer(1))).is_none());
        drop(known);
        let known: Vec<_> = (0..5).map(|_| connections.open(None).unwrap()).collect();
        let stranger = silent(&connections, 1);
        let another = connections.open(Some(peer(2)));
        assert!(stranger.is_closed() && another.is_some());
        assert!(known.iter().all(|known| !known.is_closed()));
    }

    #[test]
    fn a_handshake_that_does_not_end_goes_first() {
        let connections = connections();
        let (first, second) =
            (connections.open(Some(peer(1))).unwrap(), connections.open(Some(peer(1))).unwrap());
        let half_open = first.handshake();
        let ended = second.handshake();
        assert!(first.is_closed() && !second.is_closed());
        drop((half_open, ended));
        assert!(connections.0.state().handshakes.members.is_empty());
    }
}
