//! The feed of changes: in order, in pages, and without missing the last state of any record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onceguard::domain::{
    Actor, Did, Metadata, NewRecord, Precondition, Record, RecordCursor, RecordFeed, RecordFilter,
    RecordKind, StoredContent,
};
use onceguard::storage::{Contents, FeedRequest, PurgeStep, Recovery, Store};
use rstest::rstest;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    a_change, a_did, a_new_record, a_record_key, an_event, changed, days, in_seconds, minutes,
    purge_batch,
};

const FORGET: PurgeStep = PurgeStep::DeleteTombstones { retention: days(180) };

async fn feed(store: &Store, owner: &Did, since: Option<RecordCursor>, limit: u32) -> RecordFeed {
    let (filter, contents) = (RecordFilter::default(), Contents::Read);
    store.record_feed(owner, FeedRequest { filter, since, limit, contents }).await.unwrap()
}

async fn page(
    store: &Store,
    owner: &Did,
    since: Option<RecordCursor>,
    limit: u32,
) -> (Vec<Record>, RecordCursor, bool) {
    match feed(store, owner, since, limit).await {
        RecordFeed::Page { records, next, more } => (records, next, more),
        RecordFeed::CursorExpired => panic!("the cursor has expired"),
    }
}

/// What a reader makes of changes: the sequence of each record that is not deleted.
fn apply(state: &mut BTreeMap<String, i64>, records: &[Record]) {
    for record in records {
        match record.live {
            Some(_) => state.insert(record.key.to_string(), record.sequence),
            None => state.remove(&record.key.to_string()),
        };
    }
}

async fn put(store: &Store, owner: &Did, id: &str, precondition: Precondition) {
    let new = Some(a_new_record(id.as_bytes()));
    changed(store, owner, a_change(&a_record_key("sync", id), precondition, new)).await;
}

async fn delete(store: &Store, owner: &Did, id: &str) {
    changed(store, owner, a_change(&a_record_key("sync", id), Precondition::Present, None)).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn changes_come_in_their_order_and_once(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let owner = a_did();
    let (records, nothing, more) = page(&store, &owner, None, 10).await;
    assert!(records.is_empty() && !more);
    for n in 1..=7 {
        put(&store, &owner, &n.to_string(), Precondition::Absent).await;
    }
    put(&store, &owner, "2", Precondition::Present).await;
    delete(&store, &owner, "3").await;
    let expected = [("1", 1), ("4", 4), ("5", 5), ("6", 6), ("7", 7), ("2", 8), ("3", 9)];

    // A reader who saw that there was nothing, and one who begins now, in pages of every size.
    for since in [None, Some(nothing)] {
        for limit in 1..=8 {
            let (mut read, mut since) = (Vec::new(), since);
            loop {
                let (records, next, more) = page(&store, &owner, since, limit).await;
                assert!(records.len() <= limit as usize);
                read.extend(records);
                since = Some(next);
                if !more {
                    break;
                }
            }
            let told: Vec<_> = read.iter().map(|r| (r.key.id.as_str(), r.sequence)).collect();
            assert_eq!(told, expected);
            assert_eq!(read.iter().filter(|r| r.live.is_none()).count(), 1);
            let StoredContent::Whole(content) = &read[0].live.as_ref().unwrap().content else {
                panic!("no content")
            };
            assert_eq!(content.ciphertext(), b"1");
            let (records, next, more) = page(&store, &owner, since, limit).await;
            assert!(records.is_empty() && !more);
            assert_eq!(Some(next), since);
        }
    }
    let other = page(&store, &a_did(), None, 10).await.0;
    assert!(other.is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_about_a_mebibyte(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let owner = a_did();
    for (id, size) in [("a", 1_000_000), ("b", 300_000), ("c", 300_000), ("d", 300_000)] {
        let new = Some(a_new_record(&vec![1; size]));
        let change = a_change(&a_record_key("sync", id), Precondition::Absent, new);
        changed(&store, &owner, change).await;
    }
    let (first, next, more) = page(&store, &owner, None, 10).await;
    assert_eq!((first.len(), more), (1, true), "the first is in it, however large");
    let (second, next, more) = page(&store, &owner, Some(next), 10).await;
    assert_eq!((second.len(), more), (2, true));
    let (third, _, more) = page(&store, &owner, Some(next), 10).await;
    assert_eq!((third.len(), more), (1, false));
    let filter = RecordFilter::default();
    let request = FeedRequest { filter, since: None, limit: 10, contents: Contents::Leave };
    let RecordFeed::Page { records, more, .. } = store.record_feed(&owner, request).await.unwrap()
    else {
        panic!("expired")
    };
    assert_eq!((records.len(), more), (4, false), "contents that are not asked for take no room");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_narrowed_to_a_kind_and_to_metadata(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let owner = a_did();
    for (kind, id, metadata) in [
        ("sync", "1", json!({"device": "a", "odd \" $.name": "x"})),
        ("sync", "2", json!({"device": "b"})),
        ("key", "3", json!({"device": "a", "more": "yes"})),
        ("key", "4", json!({"device": 1, "more": "1"})),
        ("key", "5", json!({"device": {"a": "a"}})),
        ("key", "6", json!({})),
    ] {
        let metadata = Metadata::parse(&to_raw_value(&metadata).unwrap()).unwrap();
        let new = Some(NewRecord { metadata, ..a_new_record(b"x") });
        let change = a_change(&a_record_key(kind, id), Precondition::Absent, new);
        changed(&store, &owner, change).await;
    }
    for (kind, metadata, ids) in [
        (None, json!({}), "123456"),
        (Some("key"), json!({}), "3456"),
        (None, json!({"device": "a"}), "13"),
        (Some("key"), json!({"device": "a"}), "3"),
        (None, json!({"device": "a", "more": "yes"}), "3"),
        (None, json!({"device": "1"}), ""),
        (None, json!({"odd \" $.name": "x"}), "1"),
        (None, json!({"device": "b' OR 1"}), ""),
        (Some("other"), json!({}), ""),
    ] {
        let Value::Object(wanted) = metadata else { panic!("no object") };
        let wanted = wanted.into_iter().map(|(k, v)| (k, v.as_str().unwrap().to_owned()));
        let filter = RecordFilter {
            kind: kind.map(|kind| RecordKind::parse(kind).unwrap()),
            metadata: wanted.collect(),
        };
        let (mut found, mut since) = (String::new(), None);
        loop {
            let filter = filter.clone();
            let request = FeedRequest { filter, since, limit: 2, contents: Contents::Leave };
            let feed = store.record_feed(&owner, request).await.unwrap();
            let RecordFeed::Page { records, next, more } = feed else { panic!("expired") };
            found.extend(records.iter().map(|record| record.key.id.as_str()));
            since = Some(next);
            if !more {
                break;
            }
        }
        assert_eq!(found, ids, "{filter:?}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_may_have_missed_a_deletion_expires(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let owner = a_did();
    for id in ["a", "b", "c"] {
        put(&store, &owner, id, Precondition::Absent).await;
    }
    let (_, early, _) = page(&store, &owner, None, 2).await;
    delete(&store, &owner, "a").await;
    let (_, late, _) = page(&store, &owner, None, 10).await;
    put(&store, &owner, "d", Precondition::Absent).await;
    store.pass(days(179)).await;
    assert_eq!(purge_batch(&store, FORGET, 10).await.tombstones_deleted, 0);
    assert_eq!(page(&store, &owner, Some(early), 10).await.0.len(), 3);
    store.pass(days(2)).await;
    assert_eq!(purge_batch(&store, FORGET, 10).await.tombstones_deleted, 1);
    assert_eq!(feed(&store, &owner, Some(early), 10).await, RecordFeed::CursorExpired);
    assert_eq!(page(&store, &owner, Some(late), 10).await.0.len(), 1);
    // Who begins now never saw what was deleted, however small the pages are.
    let (mut since, mut read) = (None, Vec::new());
    for _ in 0..4 {
        let (records, next, _) = page(&store, &owner, since, 1).await;
        read.extend(records.into_iter().map(|record| record.key.id.as_str().to_owned()));
        since = Some(next);
    }
    assert_eq!(read, ["b", "c", "d"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_cursor_outlives_an_erasure_or_a_recovery(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let owner = a_did();
    put(&store, &owner, "a", Precondition::Absent).await;
    let (_, before, _) = page(&store, &owner, None, 10).await;
    let event = an_event("onceguard.records.deleted", &owner);
    assert_eq!(store.erase_records(&owner, None, event).await.unwrap(), Some(1));
    assert_eq!(feed(&store, &owner, Some(before), 10).await, RecordFeed::CursorExpired);
    put(&store, &owner, "a", Precondition::Absent).await;
    assert_eq!(feed(&store, &owner, Some(before), 10).await, RecordFeed::CursorExpired);

    let (_, before, _) = page(&store, &owner, None, 10).await;
    let now = store.now().await.unwrap();
    let actor = Actor::Operator;
    let recovery = Recovery { skew: minutes(1), now, actor, remembered: Vec::new() };
    store.recover(recovery).await.unwrap();
    assert_eq!(feed(&store, &owner, Some(before), 10).await, RecordFeed::CursorExpired);
    assert_eq!(page(&store, &owner, None, 10).await.0.len(), 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_gone_at_once_and_becomes_a_tombstone(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let owner = a_did();
    put(&store, &owner, "stays", Precondition::Absent).await;
    let key = a_record_key("sync", "expires");
    let expires_at = Some(in_seconds(&store, 60).await);
    let new = NewRecord { expires_at, ..a_new_record(b"expires") };
    changed(&store, &owner, a_change(&key, Precondition::Absent, Some(new.clone()))).await;
    let (records, since, _) = page(&store, &owner, None, 10).await;
    assert_eq!(records.len(), 2);
    assert_eq!(purge_batch(&store, PurgeStep::ExpireRecords, 10).await.records_expired, 0);

    store.pass(minutes(2)).await;
    assert_eq!(store.record(&owner, &key, Contents::Read).await.unwrap(), None);
    assert_eq!(page(&store, &owner, None, 10).await.0.len(), 1);
    assert_eq!(store.purge_preview(&[PurgeStep::ExpireRecords]).await.unwrap().records_expired, 1);
    assert_eq!(purge_batch(&store, PurgeStep::ExpireRecords, 10).await.records_expired, 1);
    let (records, _, _) = page(&store, &owner, Some(since), 10).await;
    assert_eq!((records.len(), &records[0].key), (1, &key));
    assert_eq!((&records[0].live, records[0].sequence), (&None, 3));
    let usage = store.record_usage(&owner).await.unwrap();
    assert_eq!((usage.records, usage.bytes), (2, 5));
    assert_eq!(purge_batch(&store, PurgeStep::ExpireRecords, 10).await.records_expired, 0);

    // An expired record is replaced as if there were none.
    let other = a_record_key("sync", "other");
    let expires_at = Some(in_seconds(&store, 60).await);
    let new = NewRecord { expires_at, ..new };
    changed(&store, &owner, a_change(&other, Precondition::Absent, Some(new))).await;
    store.pass(minutes(2)).await;
    let new = Some(a_new_record(b"new"));
    let again = changed(&store, &owner, a_change(&other, Precondition::Absent, new)).await;
    assert!(again.created && again.tag.version == 2);
    let usage = store.record_usage(&owner).await.unwrap();
    assert_eq!((usage.records, usage.bytes), (3, 8));
}

/// Writers change, delete and write again, while a reader follows.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_follows_misses_no_last_state(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = Arc::new(on.store().await);
    let owner = a_did();
    let done = Arc::new(AtomicBool::new(false));
    let reading = tokio::spawn({
        let (store, owner, done) = (store.clone(), owner.clone(), done.clone());
        async move {
            let (mut state, mut since) = (BTreeMap::new(), None);
            loop {
                let is_last = done.load(Ordering::SeqCst);
                let (records, next, more) = page(&store, &owner, since, 3).await;
                let sequences: Vec<_> = records.iter().map(|record| record.sequence).collect();
                assert!(sequences.is_sorted());
                apply(&mut state, &records);
                since = Some(next);
                if is_last && !more {
                    return state;
                }
            }
        }
    });
    let writers = (0..8_u64).map(|writer| {
        let (store, owner) = (store.clone(), owner.clone());
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(writer);
            let mut present = [false; 5];
            for _ in 0..40 {
                let slot = random.usize(..5);
                let id = format!("{writer}-{slot}");
                match (present[slot], random.bool()) {
                    (true, true) => delete(&store, &owner, &id).await,
                    (true, false) => put(&store, &owner, &id, Precondition::Present).await,
                    (false, _) => put(&store, &owner, &id, Precondition::Absent).await,
                }
                present[slot] = store
                    .record(&owner, &a_record_key("sync", &id), Contents::Leave)
                    .await
                    .unwrap()
                    .is_some();
            }
        })
    });
    for writer in futures_util::future::join_all(writers).await {
        writer.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let followed = reading.await.unwrap();
    let mut fresh = BTreeMap::new();
    apply(&mut fresh, &page(&store, &owner, None, 500).await.0);
    assert!(!fresh.is_empty());
    assert_eq!(followed, fresh);
}
