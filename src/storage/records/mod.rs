//! Sealed records: changes with preconditions, reading, the feed of changes, and removal.
//!
//! What both stores decide alike is here: [`plan`] judges changes, [`place`] finds where a
//! reader goes on, [`row`] reads what is stored. A
//! store locks an owner before it judges, so that changes of one owner come one after the other.

pub(super) mod place;
pub(super) mod plan;
pub(super) mod row;

use std::time::Duration;

use super::{Result, Store, on};
use crate::domain::{
    Did, InactiveOwner, NewEvent, Page, PageRequest, Record, RecordChange, RecordCursor,
    RecordFeed, RecordFilter, RecordKey, RecordLimits, RecordUsage, RecordsChanged,
};

/// How exact the time of an owner's last access is: a read writes it down at most once in this time.
pub(super) const ACCESS_GRANULARITY: Duration = Duration::from_hours(1);
/// About the most bytes of a page of the feed, as it is sent. Its first record is always in it.
pub(super) const FEED_BYTES: i64 = 1024 * 1024;
/// About the bytes of a record in a page, without its content and metadata.
pub(super) const FEED_BYTES_OF_RECORD: i64 = 512;

/// Whether the contents of records are read, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    Read,
    Leave,
}

/// Who changes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordWriter {
    /// The owner itself, with a signature.
    Agent,
    /// The holder of a token.
    Holder,
}

/// What to read of an owner's changes.
#[derive(Debug, Clone)]
pub struct FeedRequest {
    pub filter: RecordFilter,
    /// `None` reads from the beginning.
    pub since: Option<RecordCursor>,
    pub limit: u32,
    pub contents: Contents,
}

impl Store {
    /// Makes all the changes, or none. No two are of the same record. When this returns, they are on
    /// disk, and so is what a failed precondition has seen.
    pub async fn change_records(
        &self,
        owner: &Did,
        writer: RecordWriter,
        changes: Vec<RecordChange>,
        limits: RecordLimits,
    ) -> Result<RecordsChanged> {
        on!(self, store => store.change_records(owner, writer, changes, limits).await)
    }

    /// A record that is neither deleted nor expired.
    pub async fn record(
        &self,
        owner: &Did,
        key: &RecordKey,
        contents: Contents,
    ) -> Result<Option<Record>> {
        on!(self, store => store.record(owner, key, contents).await)
    }

    /// Changes in the order of their sequence. A reader who goes on at `next` sees the last state of
    /// every record; states in between may be left out.
    pub async fn record_feed(&self, owner: &Did, request: FeedRequest) -> Result<RecordFeed> {
        on!(self, store => store.record_feed(owner, request).await)
    }

    pub async fn record_usage(&self, owner: &Did) -> Result<RecordUsage> {
        on!(self, store => store.record_usage(owner).await)
    }

    /// Owners whose records were not read or written for `inactive`, the longest first.
    pub async fn inactive_owners(
        &self,
        inactive: Duration,
        page: &PageRequest,
    ) -> Result<Page<InactiveOwner>> {
        on!(self, store => store.inactive_owners(inactive, page).await)
    }

    /// Takes all records from their owner, if it has any, and if they were not read or written for
    /// `inactive`. When this returns, no call sees them; [`Self::remove_erased_records`] removes
    /// them. Returns how many there were, tombstones not included; then the event is written.
    pub async fn erase_records(
        &self,
        owner: &Did,
        inactive: Option<Duration>,
        audit: NewEvent,
    ) -> Result<Option<u64>> {
        on!(self, store => store.erase_records(owner, inactive, audit).await)
    }

    /// Removes up to `limit` rows of erased records, and returns how many it removed; fewer than
    /// `limit` means that none is left.
    pub async fn remove_erased_records(&self, limit: u32) -> Result<u64> {
        on!(self, store => store.remove_erased_records(limit).await)
    }
}
