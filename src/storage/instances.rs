//! The processes that serve, and what each remembers of the database: marks. A database that lacks
//! what an instance remembers went back in time.
//!
//! Why this notices every loss that anybody who is left knows of is written in `docs/cuts.md`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Memory, Result, Store, on};
use crate::clock::Clock;
use crate::config::{OnCut, Replication};
use crate::domain::{
    Actor, Cursor, Instance, InstanceState, InvalidCursor, Page, PageRequest, Timestamp,
};

/// How long an instance is known after its last heartbeat. Heartbeats tell how long that is, and no
/// clock does.
pub(super) const KEPT: Duration = Duration::from_hours(7 * 24);
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

/// Where the next page of instances starts: after the last one of this page.
pub(super) fn place(started_at: Timestamp, id: Uuid) -> Vec<u8> {
    [started_at.timestamp_micros().to_be_bytes().as_slice(), id.as_bytes()].concat()
}

/// The start and the id of the last instance of the page before.
pub(super) fn position(cursor: &Cursor) -> std::result::Result<(Timestamp, Uuid), InvalidCursor> {
    let (micros, id) = cursor.position().split_first_chunk().ok_or(InvalidCursor)?;
    let micros = i64::from_be_bytes(*micros);
    let at = Timestamp::from_timestamp_micros(micros).ok_or(InvalidCursor)?;
    Ok((at, Uuid::from_slice(id).map_err(|_| InvalidCursor)?))
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

/// What the database says to a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Nothing that the mark knows of is lost, or a recovery covers it.
    Holds,
    /// The database lacks the heartbeat, or was recovered before it.
    Behind,
    /// The database's past does not include the generation of the mark: it is another database, or
    /// this one before a recovery.
    Foreign,
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

impl Store {
    /// Compares the database with what an earlier process remembers; changes nothing.
    pub async fn compare(&self, mark: &Mark) -> Result<Compared> {
        let all = self.migrations().await?;
        // What has no table of instances was never served by one that leaves a mark.
        if all.iter().any(|one| !one.applied && one.name.ends_with("_instances")) {
            return Ok(Compared::Behind);
        }
        let history = self.history().await?;
        if history.generation == mark.generation {
            let there = match self.heartbeats(mark.instance).await? {
                (Some(counter), _) => counter >= mark.counter,
                // Only another instance that came so much later has forgotten it.
                (None, latest) => latest.is_some_and(|latest| latest >= mark.at + KEPT),
            };
            return Ok(if there { Compared::Holds } else { Compared::Behind });
        }
        if !history.ancestors.contains(&mark.generation) {
            return Ok(Compared::Foreign);
        }
        let covered = history.covers(mark.at, mark.issued_until);
        Ok(if covered { Compared::Holds } else { Compared::Behind })
    }

    /// How many heartbeats of an instance the database has, and when the last one of any was.
    async fn heartbeats(&self, instance: Uuid) -> Result<(Option<u64>, Option<Timestamp>)> {
        on!(self, store => store.heartbeats(instance).await)
    }

    /// Whether the database is on another server than its history says: it is a copy, or its server
    /// was promoted. Never on SQLite, which has no server.
    pub async fn is_elsewhere(&self) -> Result<bool> {
        match self {
            Self::Postgres(store) => store.is_elsewhere().await,
            Self::Sqlite(_) => Ok(false),
        }
    }

    /// Begins to serve: registers the instance and, on PostgreSQL, has each connection checked from
    /// now on, before it is used. If the database was cut, it is recovered first, or this fails.
    ///
    /// # Errors
    /// [`StoreError::WentBack`](super::StoreError::WentBack) if the database was cut and an operator
    /// is to decide.
    pub async fn join(&self, joining: Joining) -> Result<()> {
        on!(self, store => store.join(joining).await)
    }

    /// Tells that this instance lives, and keeps and returns what it knows once that is acknowledged.
    pub async fn heartbeat(&self) -> Result<Mark> {
        on!(self, store => store.heartbeat(Stage::Serving).await)
    }

    /// The last heartbeat, after which this instance decides nothing more.
    pub async fn depart(&self) -> Result<Mark> {
        on!(self, store => store.heartbeat(Stage::Stopped).await)
    }

    /// The last heartbeat of an instance whose start failed.
    pub async fn fail(&self) -> Result<Mark> {
        on!(self, store => store.heartbeat(Stage::Failed).await)
    }

    /// The instances of the last week, the latest start first.
    pub async fn instances(&self, page: &PageRequest) -> Result<Page<Instance>> {
        on!(self, store => store.instances(page).await)
    }

    /// When the database was last recovered, as far as this instance knows.
    #[must_use]
    pub fn recovered_at(&self) -> Option<Timestamp> {
        on!(self, store => store.recovered_at())
    }

    /// Takes the database as it is, on the server that it is on now: the operator says that nothing
    /// was lost. Ends no session, and refuses no message.
    pub async fn adopt(&self, actor: Actor) -> Result<()> {
        on!(self, store => store.adopt(actor).await)
    }
}
