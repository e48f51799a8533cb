//! What the service needs from a database, and the two databases that give it.
//!
//! [`Store`] is the only way to a database. Its two sides, [`postgres`] and [`sqlite`], keep the
//! same rules (`tests/storage` runs one suite on both) and share no SQL. Nothing outside them
//! writes SQL or names Diesel. A store decides by the database's clock, never by the process's.

mod acts;
mod arriving;
mod claims;
mod dids;
mod dump;
mod erasure;
mod error;
mod events;
mod fingerprint;
mod health;
mod history;
mod instances;
mod leases;
mod limits;
mod marks;
mod migrating;
pub mod migrations;
mod milliseconds;
mod pool;
pub mod postgres;
mod publications;
mod purge;
mod readable;
mod records;
mod recovery;
mod restore;
mod row_security;
mod sealing;
mod search;
mod sessions;
pub mod sqlite;
mod statistics;
mod store;
pub mod tables;
mod target;
mod tokens;
mod transfer;
mod webhooks;

pub use acts::{Act, Memory, Remembered};
pub use claims::{Asked, ClaimKind, OnLock};
pub use dids::{Answer, DidChange, DidChanges, Reading};
pub use dump::{BACKUP_LEASE, Dump, DumpChunk, Pace};
pub use erasure::Erased;
pub use error::{Result, StoreError};
pub use events::{EventChain, KeptHead, LINK_BATCH};
pub use fingerprint::{Fingerprint, Fingerprints};
pub use health::Finding;
pub use history::History;
pub use instances::Compared;
pub use leases::Lease;
use leases::TAKEN_AHEAD;
pub use limits::ClaimLimits;
pub use marks::{Joining, Mark, Marks, Server};
pub use migrations::MigrationStatus;
use milliseconds::milliseconds;
pub use pool::PoolStatus;
pub use purge::{PurgeBatch, PurgeStep, Purged};
pub use records::{Contents, FeedRequest, RecordWriter};
pub use recovery::{Recovered, Recovery};
pub use restore::{Restore, RestoreFeed, RestoreRows, restore_rows};
pub use sealing::{KnownSealingKey, SealedSession};
pub use sessions::{Ending, Held, Tried};
pub use statistics::{Counts, RecordCounts, Statistics, TableSize};
pub use store::Store;
use store::on;
pub use target::TransferTarget;
pub use transfer::{Agree, Agreement, Arrival, Departure, agreement, holds_nothing, place};
pub use webhooks::{
    AttemptOutcome, Attempted, DeliveryCounts, DueDelivery, HAND_BATCH, NewWebhook, Replayed,
    SealedWebhook, WebhookChange, WebhookCounts,
};
