//! The processes that serve. A database that lacks what one of them remembers went back in time.
//!
//! Why this notices every loss that anybody who is left knows of is written in `docs/cuts.md`.

use std::time::Duration;

use uuid::Uuid;

use super::marks::{Joining, Mark, Server, Stage};
use super::{Result, Store, on};
use crate::domain::{Actor, Cursor, Instance, InvalidCursor, Page, PageRequest, Timestamp};

/// How long an instance is known after its last heartbeat. Heartbeats tell how long that is, and no
/// clock does.
pub(super) const KEPT: Duration = Duration::from_hours(7 * 24);
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

/// What the database says to a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Nothing that the mark knows of is lost, or a recovery covers it.
    Holds,
    /// The database lacks the heartbeat, or was recovered before it.
    Behind,
    /// The database is on a server in whose place another one was promoted, which the mark is of.
    OldPrimary,
    /// The database's past does not include the generation of the mark: it is another database, or
    /// this one before a recovery.
    Foreign,
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
            // It may have heartbeats that were never acknowledged, so their number does not tell it
            // from the new primary.
            if let (Some(known), Some(here)) = (mark.server, self.server().await?)
                && known.was_promoted_from(here)
            {
                return Ok(Compared::OldPrimary);
            }
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

    /// `None` on SQLite.
    async fn server(&self) -> Result<Option<Server>> {
        match self {
            Self::Postgres(store) => store.server().await.map(Some),
            Self::Sqlite(_) => Ok(None),
        }
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
