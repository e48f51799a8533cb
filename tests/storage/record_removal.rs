//! Records that go: all of an owner's, those of owners that never came back; and what is left.

use onceguard::domain::{InactiveOwner, PageRequest, Precondition};
use onceguard::storage::{Contents, PurgeStep, RecordWriter};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    a_change, a_did, a_new_record, a_record_key, an_event, changed, days, minutes, no_limits,
    purge_batch,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_gone_at_once_and_removed_in_bounded_steps(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (owner, other) = (a_did(), a_did());
    let keys: Vec<_> = (0..10).map(|n| a_record_key("sync", &n.to_string())).collect();
    for owner in [&owner, &other] {
        let put = |key| a_change(key, Precondition::Absent, Some(a_new_record(b"x")));
        let puts = keys.iter().map(put).collect();
        store.change_records(owner, RecordWriter::Agent, puts, no_limits()).await.unwrap();
        changed(&store, owner, a_change(&keys[9], Precondition::Present, None)).await;
    }
    let event = || an_event("onceguard.records.deleted", &owner);
    assert_eq!(store.erase_records(&a_did(), None, event()).await.unwrap(), None);
    assert_eq!(store.erase_records(&owner, None, event()).await.unwrap(), Some(9));
    assert_eq!(store.erase_records(&owner, None, event()).await.unwrap(), None);
    assert_eq!(store.newest_events(10).await.unwrap().len(), 1);
    assert_eq!(store.record(&owner, &keys[0], Contents::Read).await.unwrap(), None);
    assert_eq!(store.record_usage(&owner).await.unwrap().records, 0);
    let shares = "sum(records) * 1000 + sum(bytes) FROM record_shares";
    assert_eq!(store.raw().number(shares).await, 10_009, "the other's");

    // A crash may come here. The purge finishes, and the DID begins anew meanwhile.
    changed(&store, &owner, a_change(&keys[0], Precondition::Absent, Some(a_new_record(b"new"))))
        .await;
    let erased = PurgeStep::DeleteErasedRecords;
    assert_eq!(store.purge_preview(&[erased]).await.unwrap().erased_rows_deleted, 20);
    for rows in [4, 4, 4, 4, 4, 0] {
        assert_eq!(purge_batch(&store, erased, 4).await.erased_rows_deleted, rows);
    }
    for (table, rows) in [("record_owners", 2), ("records", 11), ("record_blobs", 10)] {
        assert_eq!(store.raw().number(&format!("count(*) FROM {table}")).await, rows, "{table}");
    }
    assert!(store.record(&owner, &keys[0], Contents::Read).await.unwrap().is_some());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn owners_are_inactive_when_they_neither_read_nor_write(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let [idle, reader, writer, follower] = [(); 4].map(|()| a_did());
    let key = a_record_key("sync", "r");
    for owner in [&idle, &reader, &writer, &follower] {
        let put = a_change(&key, Precondition::Absent, Some(a_new_record(b"x")));
        changed(&store, owner, put).await;
    }
    store.pass(days(10)).await;
    let put = a_change(&key, Precondition::Present, Some(a_new_record(b"y")));
    changed(&store, &writer, put).await;
    store.record(&reader, &key, Contents::Read).await.unwrap();
    let request = onceguard::storage::FeedRequest {
        filter: onceguard::domain::RecordFilter::default(),
        since: None,
        limit: 1,
        contents: Contents::Leave,
    };
    store.record_feed(&follower, request).await.unwrap();
    store.pass(days(6)).await;
    let page = PageRequest { limit: 10, after: None };
    let list = async |inactive| store.inactive_owners(inactive, &page).await.unwrap().items;
    let found = list(days(15)).await;
    let InactiveOwner { did, records, bytes, .. } = &found[0];
    assert_eq!((found.len(), did, *records, *bytes), (1, &idle, 1, 1));
    assert_eq!(list(days(5)).await.len(), 4);
    assert_eq!(list(days(17)).await, []);

    let one = PageRequest { limit: 1, after: None };
    let first = store.inactive_owners(days(5), &one).await.unwrap();
    assert_eq!(first.items[0].did, idle, "the longest inactive first");
    let rest = PageRequest { limit: 10, after: first.next };
    assert_eq!(store.inactive_owners(days(5), &rest).await.unwrap().items.len(), 3);

    // One that came back keeps its records.
    let event = || an_event("onceguard.records.deleted", &"x");
    assert_eq!(store.erase_records(&reader, Some(days(15)), event()).await.unwrap(), None);
    assert_eq!(store.erase_records(&idle, Some(days(15)), event()).await.unwrap(), Some(1));
}

/// A read stays a read: it writes at most once an hour.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_access_is_written_once_an_hour(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let (owner, key) = (a_did(), a_record_key("sync", "r"));
    changed(&store, &owner, a_change(&key, Precondition::Absent, Some(a_new_record(b"x")))).await;
    let age = async || {
        let page = PageRequest { limit: 10, after: None };
        let found = store.inactive_owners(std::time::Duration::ZERO, &page).await.unwrap();
        (store.now().await.unwrap() - found.items[0].last_accessed).num_minutes()
    };
    store.pass(minutes(50)).await;
    store.record(&owner, &key, Contents::Read).await.unwrap();
    assert!(age().await >= 50);
    store.pass(minutes(20)).await;
    store.record(&owner, &key, Contents::Read).await.unwrap();
    assert!(age().await < 1);
}
