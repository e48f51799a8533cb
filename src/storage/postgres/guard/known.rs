//! What this instance remembers of the database: its generation, and marks of what was acknowledged.
//! A mark is set only after the commit that it is of was acknowledged, never before.
//!
//! Commits are in the order of the WAL. So a heartbeat that is there shows that everything is there
//! that was acknowledged before it was sent, by any connection. What came later is remembered for
//! each connection, whose own commits are in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::remembered::Remembered;
use super::seen::Seen;
use crate::domain::Timestamp;
use crate::storage::Server;

/// The transactions that one connection has decided in.
#[derive(Debug)]
pub(crate) struct ConnectionMark {
    pub(super) id: Uuid,
    acknowledged: AtomicI64,
    closed: AtomicBool,
}

impl ConnectionMark {
    fn new() -> Self {
        let (acknowledged, closed) = (AtomicI64::new(0), AtomicBool::new(false));
        Self { id: Uuid::now_v7(), acknowledged, closed }
    }

    /// One more is acknowledged.
    pub(super) fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// The connection decides nothing more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// When something was last acknowledged.
pub(super) struct LastAcknowledged {
    made: Instant,
    /// Since then, in microseconds.
    micros: AtomicU64,
}

impl LastAcknowledged {
    pub(super) fn new() -> Self {
        Self { made: Instant::now(), micros: AtomicU64::new(0) }
    }

    /// Something is acknowledged now.
    pub(super) fn note(&self) {
        let since = u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_max(since, Ordering::Relaxed);
    }

    pub(super) fn at(&self) -> Instant {
        self.made + Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}

/// A heartbeat that is being sent.
#[derive(Debug)]
pub(in crate::storage::postgres) struct Heartbeat {
    pub(in crate::storage::postgres) generation: Uuid,
    sent: Instant,
    /// The connections that are closed. This heartbeat stands for what they did.
    closed: Vec<Uuid>,
    /// The marks that it removes. The memory has none of them any more.
    pub(in crate::storage::postgres) forgotten: Vec<Uuid>,
}

/// What the database said when a heartbeat was acknowledged.
#[derive(Debug)]
pub(in crate::storage::postgres) struct Beat {
    pub(in crate::storage::postgres) generation: Uuid,
    pub(in crate::storage::postgres) at: Timestamp,
    /// Of all instances that live.
    pub(in crate::storage::postgres) heartbeats: HashMap<Uuid, i64>,
    /// The marks of this instance that the heartbeat left.
    pub(in crate::storage::postgres) marks: Vec<Uuid>,
}

#[derive(Debug)]
pub(super) struct Known {
    /// Raised when something is dropped from the memory.
    epoch: u64,
    pub(super) generation: Uuid,
    pub(super) recovered_at: Option<Timestamp>,
    /// The server that it was last found on.
    pub(super) server: Option<Server>,
    /// The database's clock when the last heartbeat was acknowledged, and when that was sent.
    at: Timestamp,
    sent: Instant,
    /// By the last heartbeat, of all instances that lived then.
    heartbeats: HashMap<Uuid, i64>,
    connections: Vec<Arc<ConnectionMark>>,
    /// Marks that the database has, and that nothing is remembered of.
    forgotten: Vec<Uuid>,
}

impl Known {
    /// Of a database that this instance has not written to.
    pub(super) fn of(seen: &Seen, until: Option<Timestamp>) -> Self {
        Self {
            epoch: 0,
            generation: seen.generation,
            recovered_at: seen.recovered_at,
            server: None,
            at: until.map_or(seen.at, |until| until.max(seen.at)),
            sent: Instant::now(),
            heartbeats: HashMap::new(),
            connections: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    /// Whether the memory still holds everything that was remembered then.
    pub(super) fn still_holds(&self, remembered: &Remembered) -> bool {
        self.epoch == remembered.epoch
    }

    /// A time that the database's clock had not passed when something was last acknowledged.
    pub(super) fn until(&self, acknowledged: Instant) -> Timestamp {
        let since = acknowledged.saturating_duration_since(self.sent);
        self.at + since
    }

    pub(super) fn remembered(&self) -> Remembered {
        let connections = self.connections.iter().filter_map(|mark| {
            let acknowledged = mark.acknowledged.load(Ordering::Relaxed);
            (acknowledged > 0).then_some((mark.id, acknowledged))
        });
        let heartbeats = self.heartbeats.iter().map(|(id, counter)| (*id, *counter));
        Remembered {
            generation: self.generation,
            epoch: self.epoch,
            connections: connections.unzip(),
            instances: heartbeats.unzip(),
        }
    }

    pub(super) fn open_connection(&mut self) -> Arc<ConnectionMark> {
        let mark = Arc::new(ConnectionMark::new());
        self.connections.push(Arc::clone(&mark));
        mark
    }

    /// The heartbeat that is sent now.
    pub(super) fn begin_heartbeat(&self) -> Heartbeat {
        let closed = self.connections.iter().filter(|mark| mark.closed.load(Ordering::Relaxed));
        Heartbeat {
            generation: self.generation,
            sent: Instant::now(),
            closed: closed.map(|mark| mark.id).collect(),
            forgotten: self.forgotten.clone(),
        }
    }

    /// A heartbeat was acknowledged. The connections that it stands for are dropped from the memory
    /// now, and from the database by the next one: a check that still looks for them is told apart
    /// by its epoch.
    pub(super) fn end_heartbeat(&mut self, heartbeat: &Heartbeat, beat: Beat) {
        // Of another generation it says nothing about this one. One that was sent before the last,
        // and is answered after it, does not stand for connections that were closed in between.
        let is_of_another =
            beat.generation != self.generation || heartbeat.generation != self.generation;
        if is_of_another || heartbeat.sent < self.sent {
            return;
        }
        (self.at, self.sent, self.heartbeats) = (beat.at, heartbeat.sent, beat.heartbeats);
        let before = self.connections.len();
        self.connections.retain(|mark| !heartbeat.closed.contains(&mark.id));
        if self.connections.len() < before {
            self.epoch += 1;
        }
        // A mark is remembered before the database has it.
        let is_remembered = |id: &Uuid| self.connections.iter().any(|mark| mark.id == *id);
        self.forgotten = beat.marks.into_iter().filter(|id| !is_remembered(id)).collect();
    }

    /// Another generation, which covers what this instance remembers of the one before. `false` if
    /// that is not the one it remembers any more.
    pub(super) fn take(
        &mut self,
        before: Uuid,
        generation: Uuid,
        recovered_at: Option<Timestamp>,
        server: Server,
    ) -> bool {
        if self.generation != before {
            return false;
        }
        self.epoch += 1;
        self.generation = generation;
        self.recovered_at = recovered_at;
        self.server = Some(server);
        self.heartbeats.clear();
        self.connections.clear();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_that_is_answered_late_stands_for_nothing() {
        let seen = Seen::whole(Uuid::now_v7());
        let mut known = Known::of(&seen, None);
        let beat = |counter| Beat {
            generation: seen.generation,
            at: seen.at,
            heartbeats: HashMap::from([(Uuid::nil(), counter)]),
            marks: Vec::new(),
        };
        let (mut first, second) = (known.begin_heartbeat(), known.begin_heartbeat());
        first.sent = second.sent.checked_sub(Duration::from_millis(1)).unwrap();
        known.end_heartbeat(&second, beat(2));
        known.end_heartbeat(&first, beat(1));
        assert_eq!(known.remembered().instances.1, [2]);
    }
}
