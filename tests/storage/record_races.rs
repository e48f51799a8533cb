//! Records beside what could cross them: a revocation of their owner, and other agents that fill the
//! quota that all share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onceguard::domain::{
    Did, Precondition, RecordChange, RecordLimits, RecordQuota, RecordsChanged,
};
use onceguard::storage::{RecordWriter, Store};
use rstest::rstest;
use tokio::task::JoinSet;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    RawSql, a_change, a_did, a_new_record, a_record_key, an_event, changed, no_limits, wait_for,
};

fn put(id: &str, precondition: Precondition) -> RecordChange {
    a_change(&a_record_key("sync", id), precondition, Some(a_new_record(b"x")))
}

async fn by_agent(
    store: &Store,
    owner: &Did,
    limits: RecordLimits,
    ids: &[&str],
) -> RecordsChanged {
    let changes = ids.iter().map(|id| put(id, Precondition::Absent)).collect();
    store.change_records(owner, RecordWriter::Agent, changes, limits).await.unwrap()
}

/// Sessions of PostgreSQL that wait for a lock.
const WAITING: &str = "count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event_type = 'Lock'";

/// Waits until this many sessions of PostgreSQL wait for a lock.
async fn are_waiting(raw: &RawSql, count: i64) {
    wait_for("sessions to wait", async || (raw.number(WAITING).await >= count).then_some(())).await;
}

/// A write has seen that its owner is not revoked, and is stopped right before it writes.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_waits_for_a_write_that_has_begun(
    #[values("of an owner", "of a new owner")] write: &str,
) {
    let store = Arc::new(Postgres.store().await);
    let holder = RawSql::postgres(&store.postgres_url().parse().unwrap()).await;
    let owner = a_did();
    let barrier = if write == "of an owner" {
        changed(&store, &owner, put("r", Precondition::Absent)).await;
        "SELECT FROM records FOR UPDATE".to_owned()
    } else {
        format!(
            "INSERT INTO record_owners (did, agent, last_accessed) VALUES ('{owner}', true, now())"
        )
    };
    holder.execute(&format!("BEGIN; {barrier}")).await;
    let precondition =
        if write == "of an owner" { Precondition::Present } else { Precondition::Absent };
    let writing = tokio::spawn({
        let (store, owner, change) = (store.clone(), owner.clone(), put("r", precondition));
        async move { store.change_records(&owner, RecordWriter::Agent, vec![change], no_limits()).await }
    });
    are_waiting(store.raw(), 1).await;
    let revoked = Arc::new(AtomicBool::new(false));
    let revoking = tokio::spawn({
        let (store, owner, revoked) = (store.clone(), owner.clone(), revoked.clone());
        async move {
            store.revoke_did(&owner, an_event("onceguard.did.revoked", &owner)).await.unwrap();
            revoked.store(true, Ordering::SeqCst);
        }
    });
    // Either the revocation waits, too, or it has crossed the write.
    wait_for("the revocation to wait or to end", async || {
        let waiting = "count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND wait_event = 'advisory'";
        let waits = store.raw().number(waiting).await == 1;
        (waits || revoked.load(Ordering::SeqCst)).then_some(())
    })
    .await;
    assert!(!revoked.load(Ordering::SeqCst), "it was answered while a write could still commit");
    holder.execute("ROLLBACK").await;
    assert!(matches!(writing.await.unwrap().unwrap(), RecordsChanged::Done(_)));
    revoking.await.unwrap();
    let refused = by_agent(&store, &owner, no_limits(), &["late"]).await;
    assert_eq!(refused, RecordsChanged::Revoked);
}

/// What a revoked owner has never changes again, from the moment of the answer on.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_write_crosses_a_revocation(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = Arc::new(on.store().await);
    // Revoked through one instance, and written through another.
    let user = if on == Postgres { store.another().await } else { (**store).clone() };
    for _ in 0..10 {
        let owner = a_did();
        let mut writers = JoinSet::new();
        for writer in 0..3 {
            let (user, owner) = (user.clone(), owner.clone());
            writers.spawn(async move {
                for number in 0.. {
                    let id = format!("{writer}-{number}");
                    if by_agent(&user, &owner, no_limits(), &[&id]).await == RecordsChanged::Revoked
                    {
                        return;
                    }
                }
            });
        }
        wait_for("the first writes", async || {
            (store.record_usage(&owner).await.unwrap().records >= 5).then_some(())
        })
        .await;
        store.revoke_did(&owner, an_event("onceguard.did.revoked", &owner)).await.unwrap();
        let before = store.record_usage(&owner).await.unwrap();
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
        assert_eq!(store.record_usage(&owner).await.unwrap(), before);
    }
    if on == Postgres {
        user.close().await;
    }
}

/// Agents that write at once, through two instances, fill the quota that they share, and never pass
/// it: near its end, where each write locks all rows, and from far, where it locks one.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn agents_that_write_at_once_fill_their_quota_exactly(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values((1, 25), (100, 2500))] (together, agents_max_records): (usize, u64),
) {
    let store = Arc::new(on.store().await);
    let another = if on == Postgres { store.another().await } else { (**store).clone() };
    let limits = RecordLimits { agents_max_records, ..no_limits() };
    let mut agents = JoinSet::new();
    for number in 0..40 {
        let store = if number % 2 == 0 { (**store).clone() } else { another.clone() };
        agents.spawn(async move {
            let ids: Vec<_> = (0..together).map(|id| id.to_string()).collect();
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            let agent = a_did();
            let made = by_agent(&store, &agent, limits, &ids).await;
            let usage = store.record_usage(&agent).await.unwrap();
            let is_made = matches!(made, RecordsChanged::Done(_));
            assert_eq!(usage.records, if is_made { together as u64 } else { 0 });
            usage.records
        });
    }
    let made: u64 = agents.join_all().await.into_iter().sum();
    assert_eq!(made, agents_max_records);
    if on != Memory {
        let shared = store.raw().number("sum(records) FROM record_shares").await;
        assert_eq!(shared.unsigned_abs(), agents_max_records);
        let owners = store.raw().number("count(*) FROM record_owners").await;
        assert_eq!(owners, 25, "who was refused leaves no owner");
    }
    if on == Postgres {
        another.close().await;
    }
}

/// One agent's write takes the last room of the quota, and is stopped right before it commits. Others
/// count in other rows, and cannot see it.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_room_of_a_quota_is_given_once() {
    let store = Arc::new(Postgres.store().await);
    let holder = RawSql::postgres(&store.postgres_url().parse().unwrap()).await;
    let limits = RecordLimits { agents_max_bytes: 12, ..no_limits() };
    let put = |precondition| {
        a_change(&a_record_key("sync", "r"), precondition, Some(a_new_record(&[1; 10])))
    };
    let first = a_did();
    assert!(matches!(by_agent(&store, &first, limits, &["r"]).await, RecordsChanged::Done(_)));
    holder.execute("BEGIN; SELECT FROM records FOR UPDATE").await;
    let writing = tokio::spawn({
        let (store, change) = (store.clone(), put(Precondition::Present));
        async move {
            store.change_records(&first, RecordWriter::Agent, vec![change], limits).await.unwrap()
        }
    });
    are_waiting(store.raw(), 1).await;
    let answered = Arc::new(AtomicBool::new(false));
    let mut others = JoinSet::new();
    for _ in 0..3 {
        let (store, answered) = (store.clone(), answered.clone());
        let change = put(Precondition::Absent);
        others.spawn(async move {
            let owner = a_did();
            let changes = vec![change];
            let made = store.change_records(&owner, RecordWriter::Agent, changes, limits).await;
            answered.store(true, Ordering::SeqCst);
            made.unwrap()
        });
    }
    wait_for("the others to wait or to be answered", async || {
        let all_wait = store.raw().number(WAITING).await == 4;
        (all_wait || answered.load(Ordering::SeqCst)).then_some(())
    })
    .await;
    assert!(!answered.load(Ordering::SeqCst), "answered while the room may be taken");
    holder.execute("ROLLBACK").await;
    assert!(matches!(writing.await.unwrap(), RecordsChanged::Done(_)));
    let full = RecordsChanged::QuotaReached(RecordQuota::AgentsBytes);
    for other in others.join_all().await {
        assert_eq!(other, full);
    }
}
