//! Sealed records: changes with preconditions, reading, the feed, and removal. Nothing here can read
//! what they hold, and no content that is damaged is handed on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{ServiceError, event};
use crate::config;
use crate::domain::{
    Actor, Did, InactiveOwner, NewEvent, NewRecord, OwnType, Page, PageRequest, Precondition,
    Record, RecordChange, RecordCursor, RecordFeed, RecordFilter, RecordKey, RecordLimits,
    RecordUsage, RecordsChanged, StoredContent,
};
use crate::metrics::Metrics;
use crate::storage::{Contents, FeedRequest, RecordWriter, Store};

/// Rows of erased records that go in one transaction.
const REMOVED_AT_ONCE: u32 = 500;
/// Owners that are looked at together.
const OWNERS_AT_ONCE: u32 = 100;

/// Clones share the store.
#[derive(Clone)]
pub struct Records {
    store: Store,
    limits: RecordLimits,
    metrics: Arc<Metrics>,
}

/// A change that a caller asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordOperation {
    pub key: RecordKey,
    pub precondition: Precondition,
    /// `None` deletes the record.
    pub put: Option<NewRecord>,
}

/// What was removed of owners that were inactive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InactiveRemoved {
    pub owners: u64,
    pub records: u64,
}

impl Records {
    #[must_use]
    pub fn new(store: Store, config: &config::Records, metrics: Arc<Metrics>) -> Self {
        let limits = RecordLimits {
            max_records: config.max_records,
            max_bytes: config.max_bytes,
            agents_max_records: config.agents_max_records,
            agents_max_bytes: config.agents_max_bytes,
        };
        Self { store, limits, metrics }
    }

    #[must_use]
    pub const fn limits(&self) -> &RecordLimits {
        &self.limits
    }

    /// Makes all of them, or none.
    pub async fn change(
        &self,
        owner: &Did,
        by: &Actor,
        operations: Vec<RecordOperation>,
    ) -> Result<RecordsChanged, ServiceError> {
        let writer = match by {
            Actor::Agent(_) => RecordWriter::Agent,
            _ => RecordWriter::Holder,
        };
        let mut changes = Vec::with_capacity(operations.len());
        for RecordOperation { key, precondition, put } in operations {
            let mut random = [0; 8];
            getrandom::fill(&mut random)
                .map_err(|error| ServiceError::Internal(format!("no random bytes: {error}")))?;
            changes.push(RecordChange { key, precondition, random, put });
        }
        let outcome = self.store.change_records(owner, writer, changes, self.limits).await?;
        let refusal = match &outcome {
            RecordsChanged::Done(written) => {
                let (puts, deletes) = written.iter().partition::<Vec<_>, _>(|one| one.size > 0);
                self.metrics.records_changed("put", puts.len());
                self.metrics.records_changed("delete", deletes.len());
                return Ok(outcome);
            }
            RecordsChanged::PreconditionFailed(_) => "precondition_failed",
            RecordsChanged::QuotaReached(_) => "quota_reached",
            RecordsChanged::Revoked => "revoked",
        };
        self.metrics.records_refused.with_label_values(&[refusal]).inc();
        Ok(outcome)
    }

    /// A record without what it holds.
    pub async fn head(&self, owner: &Did, key: &RecordKey) -> Result<Option<Record>, ServiceError> {
        Ok(self.store.record(owner, key, Contents::Leave).await?)
    }

    /// # Errors
    /// [`ServiceError::Internal`] when what is stored is damaged.
    pub async fn read(&self, owner: &Did, key: &RecordKey) -> Result<Option<Record>, ServiceError> {
        let record = self.store.record(owner, key, Contents::Read).await?;
        if record.as_ref().is_some_and(is_damaged) {
            self.metrics.records_damaged.inc();
            return Err(ServiceError::Internal(format!(
                "what is stored of the record {key} is not what was written"
            )));
        }
        Ok(record)
    }

    /// Records that are damaged are in it, without what they hold.
    pub async fn feed(
        &self,
        owner: &Did,
        filter: RecordFilter,
        since: Option<RecordCursor>,
        limit: u32,
        with_contents: bool,
    ) -> Result<RecordFeed, ServiceError> {
        let contents = if with_contents { Contents::Read } else { Contents::Leave };
        let request = FeedRequest { filter, since, limit, contents };
        let feed = self.store.record_feed(owner, request).await?;
        if let RecordFeed::Page { records, .. } = &feed {
            for record in records.iter().filter(|record| is_damaged(record)) {
                self.metrics.records_damaged.inc();
                let (key, sequence) = (&record.key, record.sequence);
                tracing::error!(%key, sequence, "what is stored of a record is not what was written");
            }
        }
        Ok(feed)
    }

    pub async fn usage(&self, owner: &Did) -> Result<RecordUsage, ServiceError> {
        Ok(self.store.record_usage(owner).await?)
    }

    /// Removes all records of an owner, and returns how many there were. When this returns, nothing
    /// is left of them.
    pub async fn delete_all(&self, owner: &Did, actor: Actor) -> Result<u64, ServiceError> {
        let event = deletion(actor, owner, None);
        let deleted = self.store.erase_records(owner, None, event).await?;
        self.remove_erased().await?;
        Ok(deleted.unwrap_or(0))
    }

    /// Owners whose records were not read or written for so long.
    pub async fn inactive(
        &self,
        inactive: Duration,
        page: &PageRequest,
    ) -> Result<Page<InactiveOwner>, ServiceError> {
        Ok(self.store.inactive_owners(inactive, page).await?)
    }

    /// Removes all records of the owners that [`Self::inactive`] lists. An owner that comes back
    /// meanwhile keeps them.
    pub async fn delete_inactive(
        &self,
        inactive: Duration,
        actor: &Actor,
    ) -> Result<InactiveRemoved, ServiceError> {
        let mut removed = InactiveRemoved::default();
        let mut page = PageRequest { limit: OWNERS_AT_ONCE, after: None };
        loop {
            let Page { items, next } = self.store.inactive_owners(inactive, &page).await?;
            for owner in items {
                let event = deletion(actor.clone(), &owner.did, Some(inactive));
                let erased = self.store.erase_records(&owner.did, Some(inactive), event).await?;
                removed.owners += u64::from(erased.is_some());
                removed.records += erased.unwrap_or(0);
            }
            self.remove_erased().await?;
            if next.is_none() {
                return Ok(removed);
            }
            page.after = next;
        }
    }

    /// Removes what is left of records that were erased.
    pub(super) async fn remove_erased(&self) -> Result<(), ServiceError> {
        while self.store.remove_erased_records(REMOVED_AT_ONCE).await? >= REMOVED_AT_ONCE.into() {}
        Ok(())
    }
}

fn is_damaged(record: &Record) -> bool {
    record.live.as_ref().is_some_and(|live| live.content == StoredContent::Damaged)
}

fn deletion(actor: Actor, owner: &Did, inactive: Option<Duration>) -> NewEvent {
    let detail = match inactive {
        Some(inactive) => json!({ "inactive_days": inactive.as_secs() / 86_400 }),
        None => json!({}),
    };
    event(OwnType::RecordsDeleted, actor, owner, &detail)
}
