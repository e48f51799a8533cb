//! Transfers: a database is moved whole into another, of either kind.
//!
//! Nothing is lost, so nothing is recovered: sessions live on, and the generation stays. There is
//! never a moment at which both databases take changes:
//!
//! 1. [`Store::drain`]: the source takes no change any more, from any process.
//! 2. [`TransferTarget::receive`]: the target, which holds nothing, takes every row, chunk by chunk.
//!    Until its last commit, nothing else can use it. Right before that commit it says what it has
//!    ([`Agreement`]).
//! 3. [`Store::hand_over`]: if that is what the source holds, the source is moved for ever.
//! 4. The target commits.
//! 5. [`Store::confirm_transfer`]: the source knows that the target has everything.
//!
//! A transfer that is killed before 3 leaves a source that takes no changes, and a target with a part of
//! the rows, of no use to anything but a transfer. After 3, the source will never take a change again,
//! but has all rows. In both cases another run goes on, and finishes it. Only before 3 can it be called
//! off ([`Store::release`]). What the target took is then dropped by the next transfer that goes there.

use std::fmt;

use serde_json::json;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::arriving::can_depart;
use super::restore::RestoreChunk;
use super::tables::TABLES;
use super::{Fingerprints, Result, Store, StoreError, on};
use crate::config::{DatabaseUrl, SqliteLocation};
use crate::domain::{Actor, NewEvent, OwnType, Timestamp};

/// Tables that a service fills by itself, before any caller comes. A database in which only these
/// have rows holds nothing.
const FILLED_BY_ITSELF: [&str; 8] = [
    "history",
    "instances",
    "leases",
    "sealing_keys",
    "record_shares",
    "events",
    "event_heads",
    "event_chain",
];

/// What a database that takes no changes says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    pub id: Uuid,
    /// The target, without user and password.
    pub to: String,
    pub began_at: Timestamp,
    /// When it was moved for ever.
    pub moved_at: Option<Timestamp>,
    /// When the target was known to have everything.
    pub confirmed_at: Option<Timestamp>,
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, began_at, moved_at, confirmed_at, .. } = self;
        match (moved_at, confirmed_at) {
            (Some(at), Some(_)) => {
                write!(f, "this database was moved to {to} at {at}, for ever: use that one")
            }
            (Some(at), None) => write!(
                f,
                "this database was moved to {to} at {at}, for ever, and it is not known whether \
                 that one has everything: run `onceguard transfer` again, which finishes it"
            ),
            (None, _) => write!(
                f,
                "this database takes no changes, because its transfer to {to} began at \
                 {began_at}: run `onceguard transfer` again, which finishes it, or \
                 `onceguard transfer --cancel`"
            ),
        }
    }
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub id: Uuid,
    /// The source, without user and password.
    pub from: String,
    /// This machine's clock, for a database that has none.
    pub at: Timestamp,
}

/// What an earlier run of the same transfer took.
pub(super) struct Taken(Vec<(&'static str, u64)>);

impl Taken {
    /// From the number of rows of each table. A chunk is there as a whole or not at all.
    pub(super) const fn of(rows: Vec<(&'static str, u64)>) -> Self {
        Self(rows)
    }

    /// Whether this chunk is there. Asked for every chunk once, in the order of the source.
    pub(super) fn has(&mut self, chunk: &RestoreChunk) -> Result<bool> {
        let name = chunk.table.name;
        match self.0.iter_mut().find(|(known, left)| *known == name && *left > 0) {
            None => Ok(false),
            Some((_, left)) if *left >= chunk.count => {
                *left -= chunk.count;
                Ok(true)
            }
            Some(_) => Err(StoreError::Unexpected(format!(
                "an earlier run took a part of {name} that the source does not give now"
            ))),
        }
    }
}

/// The target's end of an agreement: it asks before it commits.
pub struct Agreement {
    found: oneshot::Sender<Fingerprints>,
    agreed: oneshot::Receiver<()>,
}

/// The other end of an agreement.
pub struct Agree {
    found: oneshot::Receiver<Fingerprints>,
    agreed: oneshot::Sender<()>,
}

/// Both ends of an agreement.
#[must_use]
pub fn agreement() -> (Agreement, Agree) {
    let ((found, asked), (answer, agreed)) = (oneshot::channel(), oneshot::channel());
    (Agreement { found, agreed }, Agree { found: asked, agreed: answer })
}

impl Agreement {
    /// Says what the target is about to commit. An error if it must not.
    pub(super) async fn ask(self, found: Fingerprints) -> Result<()> {
        let asked = self.found.send(found).is_ok();
        if asked && self.agreed.await.is_ok() { Ok(()) } else { Err(given_up()) }
    }

    pub(super) fn ask_blocking(self, found: Fingerprints) -> Result<()> {
        let asked = self.found.send(found).is_ok();
        if asked && self.agreed.blocking_recv().is_ok() { Ok(()) } else { Err(given_up()) }
    }
}

fn given_up() -> StoreError {
    StoreError::Unsuitable("the transfer was given up".to_owned())
}

impl Agree {
    /// What the target has; `None` when it failed. Dropped, it refuses.
    pub async fn found(self) -> Option<(Fingerprints, oneshot::Sender<()>)> {
        let found = self.found.await.ok()?;
        Some((found, self.agreed))
    }
}

/// A database in words, without user and password.
#[must_use]
pub fn place(url: &DatabaseUrl) -> String {
    match url {
        DatabaseUrl::Sqlite(SqliteLocation::Memory) => "sqlite::memory:".to_owned(),
        DatabaseUrl::Sqlite(SqliteLocation::File(path)) => {
            let path = path.canonicalize().or_else(|_| std::path::absolute(path));
            format!("sqlite://{}", path.unwrap_or_default().display())
        }
        DatabaseUrl::Postgres(options) => options.place(),
    }
}

impl Store {
    /// Has the database take no changes any more, from any process, until [`Self::release`]. Done
    /// again, it returns what it returned before. No instance may serve.
    pub async fn drain(&self, to: &str) -> Result<Departure> {
        on!(self, store => store.drain(to).await)
    }

    /// What became of a database that takes no changes; `None` for every other.
    pub async fn departure(&self) -> Result<Option<Departure>> {
        if can_depart(&self.migrations().await?) {
            on!(self, store => store.departure().await)
        } else {
            Ok(None)
        }
    }

    /// The transfer that filled this database.
    pub async fn arrived_by(&self) -> Result<Option<Uuid>> {
        on!(self, store => store.arrived_by().await)
    }

    /// Moves a drained database for ever. Returns whether this transfer may still do that, or did.
    pub async fn hand_over(&self, id: Uuid) -> Result<bool> {
        on!(self, store => store.hand_over(id).await)
    }

    /// Records that the target of a database that was handed over has everything.
    pub async fn confirm_transfer(&self, id: Uuid) -> Result<()> {
        on!(self, store => store.confirm_transfer(id).await)
    }

    /// Has a drained database take changes again, unless it was handed over. Returns whether it
    /// does.
    pub async fn release(&self, id: Uuid) -> Result<bool> {
        on!(self, store => store.release(id).await)
    }

    /// How many rows each table has, in the order of archives.
    pub async fn table_rows(&self) -> Result<Vec<(&'static str, u64)>> {
        on!(self, store => store.table_rows().await)
    }
}

/// Whether a database with so many rows holds nothing that could be lost.
#[must_use]
pub fn holds_nothing(rows: &[(&'static str, u64)]) -> bool {
    rows.iter().all(|(table, rows)| *rows == 0 || FILLED_BY_ITSELF.contains(table))
}

pub(super) fn holds_something() -> StoreError {
    StoreError::Unsuitable(
        "the target holds data, which a transfer would drop: name an empty database".to_owned(),
    )
}

/// Counts the rows of every table, in their order.
pub(super) fn count_all() -> String {
    let count = |name| format!("SELECT '{name}' AS name, count(*) AS rows FROM {name}");
    TABLES.map(|table| count(table.name)).join(" UNION ALL ")
}

/// The counts by the names of [`TABLES`].
pub(super) fn by_table(counts: &[(String, i64)]) -> Vec<(&'static str, u64)> {
    let of = |name: &str| counts.iter().find(|(known, _)| known == name).map_or(0, |(_, n)| *n);
    TABLES
        .iter()
        .map(|table| (table.name, u64::try_from(of(table.name)).unwrap_or_default()))
        .collect()
}

/// Written with [`Store::drain`], so that both databases have it.
pub(super) fn began(id: Uuid, to: &str) -> NewEvent {
    NewEvent::own(OwnType::TransferBegan, Actor::Operator, id, &json!({ "to": to }))
}

/// Written with [`Store::release`].
pub(super) fn called_off(id: Uuid) -> NewEvent {
    NewEvent::own(OwnType::TransferCancelled, Actor::Operator, id, &json!({}))
}
