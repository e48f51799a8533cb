//! Quotas of records: of one owner, and of all that agents made. They hold also while many write.

use std::sync::Arc;

use onceguard::domain::{
    Did, Precondition, RecordChange, RecordLimits, RecordQuota, RecordsChanged,
};
use onceguard::storage::{PurgeStep, RecordWriter, Store};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    a_change, a_did, a_new_record, a_record_key, an_event, days, no_limits, purge_batch,
};

fn put(id: &str, precondition: Precondition, size: usize) -> RecordChange {
    let new = Some(a_new_record(&vec![1; size]));
    a_change(&a_record_key("sync", id), precondition, new)
}

fn delete(id: &str) -> RecordChange {
    a_change(&a_record_key("sync", id), Precondition::Present, None)
}

async fn attempt(
    store: &Store,
    owner: &Did,
    limits: RecordLimits,
    change: RecordChange,
) -> RecordsChanged {
    store.change_records(owner, RecordWriter::Holder, vec![change], limits).await.unwrap()
}

async fn by_agent(
    store: &Store,
    owner: &Did,
    limits: RecordLimits,
    change: RecordChange,
) -> RecordsChanged {
    store.change_records(owner, RecordWriter::Agent, vec![change], limits).await.unwrap()
}

fn is_made(outcome: &RecordsChanged) -> bool {
    matches!(outcome, RecordsChanged::Done(_))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn records_and_bytes_are_counted(#[values(Sqlite, Memory, Postgres)] on: Database) {
    use Precondition::{Absent, Present};
    let store = on.store().await;
    let owner = a_did();
    let limits = RecordLimits { max_records: 2, max_bytes: 10, ..no_limits() };
    assert!(is_made(&attempt(&store, &owner, limits, put("a", Absent, 6)).await));
    let full = RecordsChanged::QuotaReached(RecordQuota::Bytes);
    assert_eq!(attempt(&store, &owner, limits, put("b", Absent, 5)).await, full);
    assert!(is_made(&attempt(&store, &owner, limits, put("b", Absent, 4)).await));
    assert_eq!(attempt(&store, &owner, limits, put("b", Present, 5)).await, full);
    assert!(is_made(&attempt(&store, &owner, limits, put("a", Present, 5)).await));
    assert!(is_made(&attempt(&store, &owner, limits, put("b", Present, 5)).await));
    let full = RecordsChanged::QuotaReached(RecordQuota::Records);
    assert_eq!(attempt(&store, &owner, limits, put("c", Absent, 1)).await, full);
    // A tombstone counts among the records, and holds no bytes.
    assert!(is_made(&attempt(&store, &owner, limits, delete("a")).await));
    assert_eq!(attempt(&store, &owner, limits, put("c", Absent, 1)).await, full);
    assert!(is_made(&attempt(&store, &owner, limits, put("a", Absent, 5)).await));
    // What takes no more room than before is never refused.
    let lower = RecordLimits { max_records: 1, max_bytes: 1, ..no_limits() };
    assert!(is_made(&attempt(&store, &owner, lower, put("a", Present, 5)).await));
    assert!(is_made(&attempt(&store, &owner, lower, delete("a")).await));
    assert!(is_made(&attempt(&store, &owner, lower, delete("b")).await));
    assert_eq!(attempt(&store, &owner, limits, put("c", Absent, 1)).await, full);
    store.pass(days(181)).await;
    let forget = PurgeStep::DeleteTombstones { retention: days(180) };
    assert_eq!(purge_batch(&store, forget, 10).await.tombstones_deleted, 2);
    assert!(is_made(&attempt(&store, &owner, limits, put("c", Absent, 1)).await));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_holds_while_many_write(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = Arc::new(on.store().await);
    let owner = a_did();
    let limits = RecordLimits { max_records: 10, max_bytes: 35, ..no_limits() };
    let writers = (0..40).map(|n| {
        let (store, owner) = (store.clone(), owner.clone());
        let change = put(&n.to_string(), Precondition::Absent, 5);
        tokio::spawn(async move { attempt(&store, &owner, limits, change).await })
    });
    let outcomes = futures_util::future::join_all(writers).await;
    let made = outcomes.iter().filter(|outcome| is_made(outcome.as_ref().unwrap())).count();
    assert_eq!(made, 7, "35 bytes");
    let usage = store.record_usage(&owner).await.unwrap();
    assert_eq!((usage.records, usage.bytes), (7, 35));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn agents_share_a_quota_and_holders_do_not(#[values(Sqlite, Memory, Postgres)] on: Database) {
    use Precondition::{Absent, Present};
    let store = on.store().await;
    let limits = RecordLimits { agents_max_records: 3, agents_max_bytes: 20, ..no_limits() };
    let agents: Vec<_> = (0..4).map(|_| a_did()).collect();
    for agent in &agents[..2] {
        assert!(is_made(&by_agent(&store, agent, limits, put("a", Absent, 8)).await));
    }
    let full = RecordsChanged::QuotaReached(RecordQuota::AgentsBytes);
    assert_eq!(by_agent(&store, &agents[2], limits, put("a", Absent, 5)).await, full);
    assert!(is_made(&by_agent(&store, &agents[2], limits, put("a", Absent, 4)).await));
    let full = RecordsChanged::QuotaReached(RecordQuota::AgentsRecords);
    assert_eq!(by_agent(&store, &agents[3], limits, put("a", Absent, 1)).await, full);
    if on != Memory {
        assert_eq!(store.raw().number("count(*) FROM record_owners").await, 3, "no empty owner");
    }
    // A token vouches for an owner that it made.
    let vouched = a_did();
    assert!(is_made(&attempt(&store, &vouched, limits, put("a", Absent, 100)).await));
    assert!(is_made(&by_agent(&store, &vouched, limits, put("b", Absent, 100)).await));
    // What goes makes room.
    assert!(is_made(&by_agent(&store, &agents[0], limits, put("a", Present, 1)).await));
    let event = an_event("onceguard.records.deleted", &"x");
    assert_eq!(store.erase_records(&agents[1], None, event).await.unwrap(), Some(1));
    assert!(is_made(&by_agent(&store, &agents[3], limits, put("a", Absent, 15)).await));
}
