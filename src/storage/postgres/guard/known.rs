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

use super::seen::{Seen, Server};
use crate::domain::Timestamp;

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

/// What must be there: ids, and the least number for each.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Of which generation that is.
    pub(super) generation: Uuid,
    pub(super) connections: (Vec<Uuid>, Vec<i64>),
    pub(super) instances: (Vec<Uuid>, Vec<i64>),
}

#[derive(Debug)]
pub(super) struct Known {
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
}

impl Known {
    /// Of a database that this instance has not written to.
    pub(super) fn of(seen: &Seen, until: Option<Timestamp>) -> Self {
        Self {
            generation: seen.generation,
            recovered_at: seen.recovered_at,
            server: None,
            at: until.map_or(seen.at, |until| until.max(seen.at)),
            sent: Instant::now(),
            heartbeats: HashMap::new(),
            connections: Vec::new(),
        }
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
            connections: connections.unzip(),
            instances: heartbeats.unzip(),
        }
    }

    pub(super) fn open_connection(&mut self) -> Arc<ConnectionMark> {
        let mark = Arc::new(ConnectionMark::new());
        self.connections.push(Arc::clone(&mark));
        mark
    }

    /// The connections that are closed. The next heartbeat stands for what they did.
    pub(super) fn closed(&self) -> Vec<Uuid> {
        let closed = self.connections.iter().filter(|mark| mark.closed.load(Ordering::Relaxed));
        closed.map(|mark| mark.id).collect()
    }

    /// A heartbeat was acknowledged that stands for these closed connections.
    pub(super) fn acknowledge(
        &mut self,
        at: Timestamp,
        sent: Instant,
        heartbeats: HashMap<Uuid, i64>,
        closed: &[Uuid],
    ) {
        (self.at, self.sent, self.heartbeats) = (at, sent, heartbeats);
        self.connections.retain(|mark| !closed.contains(&mark.id));
    }

    /// Another generation, which covers what this instance remembers.
    pub(super) fn take(&mut self, seen: &Seen) {
        self.generation = seen.generation;
        self.recovered_at = seen.recovered_at;
        self.server = Some(seen.here());
        self.heartbeats.clear();
        self.connections.clear();
    }
}
