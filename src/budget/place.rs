//! One connection: whether a credential came over it, and how much may be read from it before that.
//!
//! Before a credential, only a head that fits into a buffer is read, and what comes with it. A
//! longer head takes room that all strangers share. A body stays unread in the socket until its
//! credential was checked.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio_util::sync::CancellationToken;

use super::registry::{Registry, Shown, Ticket, Waiting};
use crate::domain::Peer;

/// The most bytes that are read before they are looked at.
const FREE: u64 = 8 * 1024;
/// The steps in which a longer head is read, and its largest size. (HTTP/1.1 heads are cut off
/// earlier, at 128 KiB.)
const MORE: u64 = 16 * 1024;
const LONGEST: u64 = 256 * 1024;
/// The most bytes that are read and discarded after a refusal, so that the client sees its answer.
const DRAINED: u64 = 1024 * 1024;

/// A connection's place among all connections. It belongs to the thread that serves the connection.
pub struct Place {
    registry: Arc<Registry>,
    peer: Option<Peer>,
    /// Tells that it must close. A place that is spared takes a new one.
    closed: RefCell<CancellationToken>,
    /// Whether a token came over it.
    known: Cell<bool>,
    /// Its place among strangers, while it is one.
    stranger: Cell<Option<Ticket>>,
    /// Requests whose credential is being checked; in HTTP/2 there can be several.
    checking: Cell<usize>,
    /// Signed requests that are being served.
    serving: Cell<usize>,
    shown: Cell<Shown>,
    phase: Cell<Phase>,
    /// Bytes read since the phase began.
    read: Cell<u64>,
    /// Whether the bytes were looked at, and were not a whole head.
    looked_at: Cell<bool>,
    /// Bytes taken of the room that all strangers share.
    granted: Cell<u64>,
    reader: Cell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A head arrives.
    Head,
    /// A request's credential is being checked.
    Checking,
    /// A request was refused. The rest of it is discarded.
    Draining(u64),
}

impl Place {
    pub(super) fn new(registry: Arc<Registry>, peer: Option<Peer>) -> Self {
        Self {
            registry,
            peer,
            closed: RefCell::default(),
            known: Cell::new(peer.is_none()),
            stranger: Cell::default(),
            checking: Cell::default(),
            serving: Cell::default(),
            shown: Cell::new(Shown::Nothing),
            phase: Cell::new(Phase::Head),
            read: Cell::default(),
            looked_at: Cell::default(),
            granted: Cell::default(),
            reader: Cell::default(),
        }
    }

    /// Returns when the connection must be closed, to make room for another, with what came over
    /// it so far.
    pub async fn closed(&self) -> Shown {
        let closed = self.closed.borrow().clone();
        closed.cancelled().await;
        self.shown.get()
    }

    /// Spares a connection that was about to be closed if more came over it since then.
    #[must_use]
    pub fn spare(&self, before: Shown) -> bool {
        let spared = self.is_trusted() || self.shown.get() > before;
        if spared {
            self.renew();
        }
        spared
    }

    fn renew(&self) {
        if self.is_closed() {
            self.closed.replace(CancellationToken::new());
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.borrow().is_cancelled()
    }

    /// A TLS handshake is under way until this is dropped.
    #[must_use]
    pub fn handshake(&self) -> Handshaking<'_> {
        let ticket = self.peer.map(|peer| self.enter(Waiting::Handshake, peer, Shown::Nothing));
        Handshaking { place: self, ticket }
    }

    /// A valid token came over the connection: from now on it is a holder's.
    pub fn admit(&self) {
        if !self.known.replace(true) {
            self.leave();
            self.wake();
        }
    }

    /// A signed request is being served until this is dropped.
    #[must_use]
    pub fn serve(self: &Rc<Self>) -> Serving {
        self.serving.set(self.serving.get() + 1);
        self.shown.set(Shown::Signature);
        self.leave();
        self.wake();
        Serving(Rc::clone(self))
    }

    /// Whether all bytes may be read.
    fn is_trusted(&self) -> bool {
        self.known.get() || self.serving.get() > 0
    }

    /// Whether it is a stranger's that does not count among strangers yet.
    pub fn is_uncounted(&self) -> bool {
        !self.is_trusted() && self.stranger.get().is_none()
    }

    /// Counts the connection among strangers, if it is one's. For a new connection, the moment has
    /// come when nothing that the client sent waits to be read.
    pub fn count(&self) {
        if let Some(peer) = self.peer
            && self.is_uncounted()
        {
            self.renew();
            self.stranger.set(Some(self.enter(Waiting::Stranger, peer, self.shown.get())));
        }
    }

    fn enter(&self, waiting: Waiting, peer: Peer, shown: Shown) -> Ticket {
        self.registry.enter(waiting, peer, &self.closed.borrow(), shown)
    }

    /// A request's head was read.
    pub fn begin_request(&self) {
        if !self.known.get() {
            self.begin(Phase::Checking);
            self.checking.set(self.checking.get() + 1);
            if self.shown.get() == Shown::Nothing {
                self.show(Shown::Request);
            }
        }
    }

    /// A request was answered. Returns whether the connection must be closed: a refused stranger
    /// must connect again.
    pub fn end_request(&self, refused: bool) -> bool {
        let checking = self.checking.get().saturating_sub(1);
        self.checking.set(checking);
        if self.is_trusted() {
            if !self.known.get() {
                self.begin(Phase::Head);
            }
            return false;
        }
        self.begin(if refused { Phase::Draining(0) } else { Phase::Head });
        if refused {
            self.show(Shown::Refused);
        } else if checking == 0 && self.shown.get() == Shown::Request {
            self.show(Shown::Nothing);
        }
        refused
    }

    /// Whether the connection may be read now.
    pub fn poll_read(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        if self.is_trusted() || self.read.get() < FREE + self.granted.get() {
            return Poll::Ready(Ok(()));
        }
        match self.phase.get() {
            // The bytes may be a whole head, so they are looked at before more are read.
            Phase::Head if !self.looked_at.replace(true) => context.waker().wake_by_ref(),
            Phase::Head => {
                let granted = self.granted.get();
                if granted + MORE > LONGEST || !self.registry.take_head_bytes(MORE) {
                    return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
                }
                self.granted.set(granted + MORE);
                self.looked_at.set(false);
                return Poll::Ready(Ok(()));
            }
            Phase::Checking => self.reader.set(Some(context.waker().clone())),
            Phase::Draining(drained) => {
                let drained = drained + self.read.take();
                if drained > DRAINED {
                    return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
                }
                self.phase.set(Phase::Draining(drained));
                context.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// This many bytes were read.
    pub fn has_read(&self, bytes: usize) {
        self.read.set(self.read.get() + bytes as u64);
    }

    fn begin(&self, phase: Phase) {
        self.phase.set(phase);
        self.read.set(0);
        self.looked_at.set(false);
        self.give_back();
        self.wake();
    }

    fn give_back(&self) {
        self.registry.give_back_head_bytes(self.granted.take());
    }

    fn wake(&self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Joins the strangers' line at the position that its connection has earned.
    fn show(&self, shown: Shown) {
        self.shown.set(shown);
        self.leave();
        self.count();
    }

    fn leave(&self) {
        if let Some(ticket) = self.stranger.take() {
            self.registry.leave(Waiting::Stranger, ticket);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
        self.give_back();
        self.registry.ended();
    }
}

/// See [`Place::handshake`].
pub struct Handshaking<'a> {
    place: &'a Place,
    ticket: Option<Ticket>,
}

impl Drop for Handshaking<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.place.registry.leave(Waiting::Handshake, ticket);
        }
    }
}

/// See [`Place::serve`].
pub struct Serving(Rc<Place>);

impl Drop for Serving {
    fn drop(&mut self) {
        let place = &self.0;
        place.serving.set(place.serving.get().saturating_sub(1));
        place.count();
    }
}
