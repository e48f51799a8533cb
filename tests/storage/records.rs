//! Sealed records: written, read, replaced and deleted, with preconditions that never lose an edit.

use std::sync::Arc;

use onceguard::domain::{
    Did, Metadata, NewRecord, Precondition, Record, RecordChange, RecordKey, RecordLimits,
    RecordTag, RecordsChanged, StoredContent,
};
use onceguard::storage::{Contents, RecordWriter, Store};
use rstest::rstest;
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    a_change, a_did, a_new_record, a_record_key, an_event, changed, in_seconds, minutes, no_limits,
};

pub(crate) async fn try_all(
    store: &Store,
    owner: &Did,
    changes: Vec<RecordChange>,
    limits: RecordLimits,
) -> RecordsChanged {
    store.change_records(owner, RecordWriter::Holder, changes, limits).await.unwrap()
}

async fn attempt(store: &Store, owner: &Did, change: RecordChange) -> RecordsChanged {
    try_all(store, owner, vec![change], no_limits()).await
}

async fn read(store: &Store, owner: &Did, key: &RecordKey) -> Option<Record> {
    store.record(owner, key, Contents::Read).await.unwrap()
}

fn tagged(tag: RecordTag) -> Precondition {
    Precondition::Tags(vec![tag.to_string()])
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_record_reads_as_it_was_written(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (owner, key) = (a_did(), a_record_key("sync", "a/b?c=%20"));
    assert_eq!(read(&store, &owner, &key).await, None);
    let metadata = json!({"device": "laptop \" é", "n": 1.50, "list": [1, {"a": null}]});
    let new = NewRecord {
        client_time: Some(in_seconds(&store, -1000).await),
        metadata: Metadata::parse(&to_raw_value(&metadata).unwrap()).unwrap(),
        expires_at: Some(in_seconds(&store, 1000).await),
        ..a_new_record(b"sealed")
    };
    let before = store.now().await.unwrap();
    let written =
        changed(&store, &owner, a_change(&key, Precondition::Absent, Some(new.clone()))).await;
    assert!(written.created);
    assert_eq!((written.tag.version, written.sequence, written.size), (1, 1, 6));
    assert!(written.created_at >= before && written.created_at == written.updated_at);

    let record = read(&store, &owner, &key).await.unwrap();
    assert_eq!((&record.key, record.tag, record.sequence), (&key, written.tag, 1));
    assert_eq!((record.created_at, record.updated_at), (written.created_at, written.updated_at));
    let live = record.live.clone().unwrap();
    assert_eq!(live.content, StoredContent::Whole(new.content.clone()));
    assert_eq!((live.size, live.checksum), (6, new.content.checksum()));
    assert_eq!(
        (live.client_time, &live.metadata, live.expires_at),
        (new.client_time, &new.metadata, new.expires_at)
    );

    let head = store.record(&owner, &key, Contents::Leave).await.unwrap().unwrap();
    assert_eq!(head.live.unwrap().content, StoredContent::Unread);
    for (other, key) in [
        (a_did(), key.clone()),
        (owner.clone(), a_record_key("key", "a/b?c=%20")),
        (owner.clone(), a_record_key("sync", "a/b")),
    ] {
        assert_eq!(read(&store, &other, &key).await, None);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_replaced_only_by_who_knows_it(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (owner, key) = (a_did(), a_record_key("sync", "r"));
    let put = |precondition, bytes: &[u8]| a_change(&key, precondition, Some(a_new_record(bytes)));
    let none = RecordsChanged::PreconditionFailed(vec![(0, None)]);
    assert_eq!(attempt(&store, &owner, put(Precondition::Present, b"x")).await, none);
    assert_eq!(attempt(&store, &owner, a_change(&key, Precondition::Present, None)).await, none);

    let first = changed(&store, &owner, put(Precondition::Absent, b"one")).await;
    let is_first = RecordsChanged::PreconditionFailed(vec![(0, Some(first.tag))]);
    assert_eq!(attempt(&store, &owner, put(Precondition::Absent, b"x")).await, is_first);
    store.pass(minutes(1)).await;
    let second = changed(&store, &owner, put(tagged(first.tag), b"second")).await;
    assert_eq!((second.created, second.tag.version, second.sequence), (false, 2, 2));
    assert_eq!(store.steady(second.created_at), first.created_at);
    assert!(second.updated_at > second.created_at);
    let is_second = RecordsChanged::PreconditionFailed(vec![(0, Some(second.tag))]);
    assert_eq!(attempt(&store, &owner, put(tagged(first.tag), b"x")).await, is_second);
    let stale = a_change(&key, tagged(first.tag), None);
    assert_eq!(attempt(&store, &owner, stale).await, is_second);
    let record = read(&store, &owner, &key).await.unwrap();
    assert_eq!(record.tag, second.tag);
    assert_eq!(record.live.unwrap().size, 6);

    let gone = changed(&store, &owner, a_change(&key, tagged(second.tag), None)).await;
    assert_eq!((gone.sequence, gone.size), (3, 0));
    assert_eq!(read(&store, &owner, &key).await, None);
    assert_eq!(attempt(&store, &owner, put(tagged(second.tag), b"x")).await, none);
    let again = changed(&store, &owner, put(Precondition::Absent, b"again")).await;
    assert!(again.created && again.tag.version > second.tag.version);
    let usage = store.record_usage(&owner).await.unwrap();
    assert_eq!((usage.records, usage.bytes), (1, 5));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_made_whole_or_not_at_all(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let owner = a_did();
    let keys: Vec<_> = (0..100).map(|n| a_record_key("sync", &n.to_string())).collect();
    let puts = |precondition: Precondition| {
        let put = |key| a_change(key, precondition.clone(), Some(a_new_record(b"batch")));
        keys.iter().map(put).collect::<Vec<_>>()
    };
    let RecordsChanged::Done(written) =
        try_all(&store, &owner, puts(Precondition::Absent), no_limits()).await
    else {
        panic!("not made")
    };
    let sequences: Vec<_> = written.iter().map(|one| one.sequence).collect();
    assert_eq!(sequences, (1..=100).collect::<Vec<_>>());

    let mut changes = puts(Precondition::Present);
    changes[7] = a_change(&keys[7], Precondition::Absent, Some(a_new_record(b"x")));
    changes[42] = a_change(&a_record_key("sync", "none"), Precondition::Present, None);
    let failed = vec![(7, Some(written[7].tag)), (42, None)];
    assert_eq!(
        try_all(&store, &owner, changes, no_limits()).await,
        RecordsChanged::PreconditionFailed(failed)
    );
    let usage = store.record_usage(&owner).await.unwrap();
    assert_eq!((usage.records, usage.bytes, usage.kinds["sync"]), (100, 500, 100));
    assert_eq!(read(&store, &owner, &keys[3]).await.unwrap().tag, written[3].tag);

    let mixed = vec![
        a_change(&keys[0], tagged(written[0].tag), None),
        a_change(&keys[1], tagged(written[1].tag), Some(a_new_record(b"other"))),
        a_change(&a_record_key("key", "new"), Precondition::Absent, Some(a_new_record(b"k"))),
    ];
    let RecordsChanged::Done(written) = try_all(&store, &owner, mixed, no_limits()).await else {
        panic!("not made")
    };
    assert_eq!(written.iter().map(|one| one.created).collect::<Vec<_>>(), [false, false, true]);
    let usage = store.record_usage(&owner).await.unwrap();
    assert_eq!((usage.records, usage.bytes), (101, 500 - 5 + 1));
    assert_eq!((usage.kinds["sync"], usage.kinds["key"]), (99, 1));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_at_once_one_wins(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = Arc::new(on.store().await);
    let (owner, key) = (a_did(), a_record_key("sync", "r"));
    let mut precondition = Precondition::Absent;
    for round in 1..=5 {
        let writers = (0..16_u8).map(|writer| {
            let (store, owner) = (store.clone(), owner.clone());
            let change = a_change(&key, precondition.clone(), Some(a_new_record(&[writer])));
            tokio::spawn(async move { attempt(&store, &owner, change).await })
        });
        let outcomes = futures_util::future::join_all(writers).await;
        let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
        let won: Vec<_> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                RecordsChanged::Done(written) => Some(written[0].clone()),
                _ => None,
            })
            .collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        assert_eq!((won[0].tag.version, won[0].sequence), (round, round));
        let lost = RecordsChanged::PreconditionFailed(vec![(0, Some(won[0].tag))]);
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == lost).count(), 15);
        assert_eq!(read(&store, &owner, &key).await.unwrap().tag, won[0].tag);
        precondition = tagged(won[0].tag);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_owner_writes_nothing_and_is_read(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (owner, key) = (a_did(), a_record_key("sync", "r"));
    let new = || Some(a_new_record(b"x"));
    let tag = changed(&store, &owner, a_change(&key, Precondition::Absent, new())).await.tag;
    store.revoke_did(&owner, an_event("onceguard.did.revoked", &owner)).await.unwrap();
    for change in [
        a_change(&key, tagged(tag), new()),
        a_change(&key, tagged(tag), None),
        a_change(&a_record_key("sync", "new"), Precondition::Absent, new()),
    ] {
        assert_eq!(attempt(&store, &owner, change).await, RecordsChanged::Revoked);
    }
    assert_eq!(read(&store, &owner, &key).await.unwrap().tag, tag);
    let stranger = a_did();
    store.revoke_did(&stranger, an_event("onceguard.did.revoked", &stranger)).await.unwrap();
    let change = a_change(&key, Precondition::Absent, new());
    assert_eq!(attempt(&store, &stranger, change).await, RecordsChanged::Revoked);
    if on != Memory {
        assert_eq!(store.raw().number("count(*) FROM record_owners").await, 1);
    }
}

/// What is stored is checked whenever it is read.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_seen(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let owner = a_did();
    let zero = if on == Sqlite { "x'00'" } else { r"'\x00'" };
    for (id, damage) in [
        ("bytes", format!("UPDATE record_blobs SET ciphertext = {zero}")),
        ("iv", format!("UPDATE records SET iv = {}", zero.replace("00", &"00".repeat(12)))),
        ("sum", format!("UPDATE records SET checksum = {}", zero.replace("00", &"00".repeat(32)))),
        ("gone", "DELETE FROM record_blobs".to_owned()),
    ] {
        let key = a_record_key("sync", id);
        let new = Some(a_new_record(id.as_bytes()));
        changed(&store, &owner, a_change(&key, Precondition::Absent, new)).await;
        store.raw().execute(&damage).await;
        let live = read(&store, &owner, &key).await.unwrap().live.unwrap();
        assert_eq!(live.content, StoredContent::Damaged, "{id}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_tables_refuse_what_is_no_record(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let (owner, key) = (a_did(), a_record_key("sync", "r"));
    let new = Some(a_new_record(b"x"));
    changed(&store, &owner, a_change(&key, Precondition::Absent, new)).await;
    let long = "i".repeat(256);
    let bytes = |count| match on {
        Sqlite => format!("zeroblob({count})"),
        _ => format!("decode(repeat('00', {count}), 'hex')"),
    };
    for sql in [
        "UPDATE records SET kind = 'Sync'".to_owned(),
        "UPDATE records SET kind = ''".to_owned(),
        format!("UPDATE records SET kind = '{}'", "k".repeat(33)),
        "UPDATE records SET id = 'a b'".to_owned(),
        "UPDATE records SET id = 'é'".to_owned(),
        format!("UPDATE records SET id = '{long}'"),
        "UPDATE records SET size = 1000001".to_owned(),
        "UPDATE records SET size = 0".to_owned(),
        "UPDATE records SET iv = NULL".to_owned(),
        format!("UPDATE records SET iv = {}", bytes(11)),
        format!("UPDATE records SET tag = {}", bytes(7)),
        format!("UPDATE records SET checksum = {}", bytes(33)),
        "UPDATE records SET metadata = '[]'".to_owned(),
        "UPDATE records SET deleted_at = updated_at".to_owned(),
        "UPDATE records SET version = 0".to_owned(),
        format!("UPDATE record_blobs SET ciphertext = {}", bytes(1_000_001)),
        format!("UPDATE record_blobs SET ciphertext = {}", bytes(0)),
        "UPDATE record_owners SET records = -1".to_owned(),
        "UPDATE record_owners SET bytes = -1".to_owned(),
        "UPDATE record_owners SET did = ''".to_owned(),
        "UPDATE record_shares SET bytes = -1".to_owned(),
        "INSERT INTO record_shares (share) VALUES (16)".to_owned(),
        "INSERT INTO records SELECT * FROM records".to_owned(),
    ] {
        assert!(store.raw().try_execute(&sql).await.is_err(), "not refused: {sql}");
    }
    store
        .raw()
        .execute(&format!("UPDATE record_blobs SET ciphertext = {}", bytes(1_000_000)))
        .await;
    store.raw().execute("DELETE FROM record_owners").await;
    for table in ["records", "record_blobs"] {
        assert_eq!(store.raw().number(&format!("count(*) FROM {table}")).await, 0, "{table}");
    }
}
