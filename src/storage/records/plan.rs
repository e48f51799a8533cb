//! Judges changes of an owner's records: their preconditions, then the quotas. Both stores call this
//! under the owner's lock, with what they have read under it, and write what it says.

use std::collections::HashMap;

use uuid::Uuid;

use crate::domain::{
    RecordChange, RecordKey, RecordLimits, RecordQuota, RecordTag, RecordWritten, RecordsChanged,
    Timestamp,
};

/// Rows of `record_shares`. What agents have is their sum.
pub(crate) const SHARES: i32 = 16;

/// An owner, while it is locked.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Owner {
    pub(crate) id: Uuid,
    pub(crate) agent: bool,
    pub(crate) sequence: i64,
    pub(crate) records: i64,
    pub(crate) bytes: i64,
}

impl Owner {
    /// In which of the rows of `record_shares` it counts.
    pub(crate) fn share(&self) -> i32 {
        let last = self.id.as_bytes().last().copied().unwrap_or_default();
        i32::from(last) % SHARES
    }
}

/// What is there of a record that a change is about: the record, or its tombstone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Current {
    pub(crate) sequence: i64,
    pub(crate) tag: RecordTag,
    pub(crate) size: i64,
    pub(crate) created_at: Timestamp,
    /// Neither deleted nor expired.
    pub(crate) live: bool,
}

/// What is known while the owner is locked.
#[derive(Debug)]
pub(crate) struct Known {
    /// The database's clock.
    pub(crate) now: Timestamp,
    pub(crate) revoked: bool,
    pub(crate) current: HashMap<RecordKey, Current>,
    pub(crate) agents: Taken,
}

/// What all owners that agents made have together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) records: i64,
    pub(crate) bytes: i64,
}

/// One row to write.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) change: &'a RecordChange,
    pub(crate) written: RecordWritten,
    /// The sequence of the row in its place.
    pub(crate) replaces: Option<i64>,
}

/// What to write.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) writes: Vec<Write<'a>>,
    /// The owner's last sequence, then.
    pub(crate) sequence: i64,
    /// What the owner will have more.
    pub(crate) records: i64,
    pub(crate) bytes: i64,
}

impl Plan<'_> {
    pub(crate) fn done(self) -> RecordsChanged {
        RecordsChanged::Done(self.writes.into_iter().map(|write| write.written).collect())
    }
}

/// # Errors
/// Why nothing is written.
pub(crate) fn plan<'a>(
    owner: &Owner,
    known: &Known,
    changes: &'a [RecordChange],
    limits: &RecordLimits,
) -> Result<Plan<'a>, RecordsChanged> {
    if known.revoked {
        return Err(RecordsChanged::Revoked);
    }
    let failed: Vec<_> = changes
        .iter()
        .enumerate()
        .filter_map(|(place, change)| {
            let current = known.current.get(&change.key).filter(|current| current.live);
            let tag = current.map(|current| &current.tag);
            (!change.precondition.holds(tag)).then(|| (place, tag.copied()))
        })
        .collect();
    if !failed.is_empty() {
        return Err(RecordsChanged::PreconditionFailed(failed));
    }
    let plan = write(owner, known, changes);
    match full(owner, known, limits, &plan) {
        Some(quota) => Err(RecordsChanged::QuotaReached(quota)),
        None => Ok(plan),
    }
}

/// What the changes write. It does not look at their preconditions.
pub(crate) fn write<'a>(owner: &Owner, known: &Known, changes: &'a [RecordChange]) -> Plan<'a> {
    let mut plan = Plan { writes: Vec::new(), sequence: owner.sequence, records: 0, bytes: 0 };
    for change in changes {
        let current = known.current.get(&change.key);
        let size = change.put.as_ref().map_or(0, |new| new.content.ciphertext().len());
        plan.sequence += 1;
        plan.records += i64::from(current.is_none());
        plan.bytes += stored(size) - current.map_or(0, |current| current.size);
        let before = current.filter(|current| current.live);
        let version = current.map_or(0, |current| current.tag.version) + 1;
        plan.writes.push(Write {
            change,
            replaces: current.map(|current| current.sequence),
            written: RecordWritten {
                created: before.is_none(),
                tag: RecordTag { version, random: change.random },
                sequence: plan.sequence,
                size: u64::try_from(size).unwrap_or(u64::MAX),
                created_at: before.map_or(known.now, |current| current.created_at),
                updated_at: known.now,
            },
        });
    }
    plan
}

/// The quota that has no room for the plan. What takes no more than before is never refused.
fn full(
    owner: &Owner,
    known: &Known,
    limits: &RecordLimits,
    plan: &Plan<'_>,
) -> Option<RecordQuota> {
    if is_over(plan.records, owner.records, limits.max_records) {
        Some(RecordQuota::Records)
    } else if is_over(plan.bytes, owner.bytes, limits.max_bytes) {
        Some(RecordQuota::Bytes)
    } else if owner.agent {
        full_of_agents(known.agents, limits, plan)
    } else {
        None
    }
}

/// The quota of all agents together that has no room for the plan of one of them.
pub(crate) fn full_of_agents(
    agents: Taken,
    limits: &RecordLimits,
    plan: &Plan<'_>,
) -> Option<RecordQuota> {
    if is_over(plan.records, agents.records, limits.agents_max_records) {
        Some(RecordQuota::AgentsRecords)
    } else if is_over(plan.bytes, agents.bytes, limits.agents_max_bytes) {
        Some(RecordQuota::AgentsBytes)
    } else {
        None
    }
}

fn is_over(more: i64, had: i64, limit: u64) -> bool {
    more > 0 && had + more > stored(limit)
}

/// A number as the databases hold it. A larger one becomes their largest.
pub(crate) fn stored<T>(number: T) -> i64
where
    i64: TryFrom<T>,
{
    i64::try_from(number).unwrap_or(i64::MAX)
}
