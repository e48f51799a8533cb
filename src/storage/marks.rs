//! What an instance that serves tells of itself, and what it remembers of the database: marks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::acts::Memory;
use crate::clock::Clock;
use crate::config::{OnCut, Replication};
use crate::domain::{InstanceState, Timestamp};

/// An instance that served, and whose last heartbeat is older than this, is taken for gone.
const GONE: chrono::Duration = chrono::Duration::seconds(60);

/// How far an instance has come, as its row says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Serving,
    Stopped,
    Failed,
}

impl Stage {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Serving, Self::Stopped, Self::Failed].into_iter().find(|one| one.as_str() == text)
    }

    /// What operators are told, by the database's clock.
    pub(super) fn state(self, heartbeat_at: Timestamp, now: Timestamp) -> InstanceState {
        match self {
            Self::Serving if now - heartbeat_at > GONE => InstanceState::Terminated,
            Self::Serving => InstanceState::Active,
            Self::Stopped => InstanceState::Ended,
            Self::Failed => InstanceState::Failed,
        }
    }
}

/// What an instance that begins to serve tells of itself, and how it takes a cut.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The address of its API.
    pub name: String,
    pub host: String,
    pub replication: Replication,
    pub on_cut: OnCut,
    /// How far a signer's clock may be ahead, by the configuration.
    pub skew: Duration,
    /// The latest time of the database that an earlier process of this data folder knew.
    pub known_until: Option<Timestamp>,
    /// The latest time that a message which it accepted states as its own.
    pub issued_until: Option<Timestamp>,
    pub clock: Clock,
    /// What a recovery is to do again.
    pub memory: Memory,
    /// Where the marks go.
    pub marks: Marks,
}

/// What an instance remembers of the last heartbeat that the database acknowledged. Everything that
/// was acknowledged before that heartbeat was sent is in the database if the heartbeat is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub generation: Uuid,
    pub instance: Uuid,
    pub counter: u64,
    /// The database's clock then.
    pub at: Timestamp,
    /// The latest time that an accepted message states as its own.
    #[serde(default)]
    pub issued_until: Option<Timestamp>,
    /// What acknowledged it; SQLite has no server.
    #[serde(default)]
    pub server: Option<Server>,
}

/// A server of PostgreSQL, and a database on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    pub system_identifier: i64,
    pub timeline: i32,
    pub database_oid: i64,
    pub nonces_oid: i64,
}

impl Server {
    /// Whether this server was made of that one by a promotion.
    pub(super) fn was_promoted_from(self, earlier: Self) -> bool {
        self.timeline > earlier.timeline && self == Self { timeline: self.timeline, ..earlier }
    }
}

/// Where an instance keeps its marks outside of the database. The last one counts.
#[derive(Clone)]
pub struct Marks(Arc<dyn Fn(&Mark) + Send + Sync>);

impl Marks {
    #[must_use]
    pub fn new(keep: impl Fn(&Mark) + Send + Sync + 'static) -> Self {
        Self(Arc::new(keep))
    }

    pub(super) fn keep(&self, mark: &Mark) {
        (self.0)(mark);
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marks")
    }
}

/// The latest time that an accepted message states as its own, as far as this process knows. It may
/// be ahead of every right clock: the database takes it while its own clock is.
#[derive(Debug)]
pub(super) struct LatestIssue(AtomicI64);

impl Default for LatestIssue {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl LatestIssue {
    pub(super) fn note(&self, issued_at: Timestamp) {
        self.0.fetch_max(issued_at.timestamp_micros(), Ordering::Relaxed);
    }

    /// `None` if no message stated any.
    pub(super) fn get(&self) -> Option<Timestamp> {
        let micros = self.0.load(Ordering::Relaxed);
        if micros == i64::MIN { None } else { Timestamp::from_timestamp_micros(micros) }
    }
}

/// Whether recoveries cover what was accepted while the clock had not passed `until`, which has the
/// skew in it, issued no later than `issued_until`.
pub(super) fn covers(
    not_before: Option<Timestamp>,
    ahead_until: Option<Timestamp>,
    until: Timestamp,
    issued_until: Option<Timestamp>,
) -> bool {
    not_before.max(ahead_until) >= Some(until) && not_before >= issued_until
}
