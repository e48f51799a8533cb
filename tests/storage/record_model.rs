//! Records against a model of their rules, and devices that edit the same records at once: no edit is
//! ever lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use onceguard::domain::{
    Did, Precondition, RecordChange, RecordKey, RecordTag, RecordsChanged, StoredContent,
};
use onceguard::storage::{Contents, RecordWriter, Store};
use rstest::rstest;

use crate::records::try_all;
use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_change, a_did, a_new_record, a_record_key, no_limits};

/// What the model knows of a record: its tag, and what it holds.
type Model = BTreeMap<RecordKey, (RecordTag, Vec<u8>)>;

/// The outcome that the rules ask for, without tags that the store makes.
fn expected(
    model: &Model,
    changes: &[RecordChange],
) -> Result<(), Vec<(usize, Option<RecordTag>)>> {
    let failed = changes.iter().enumerate().filter_map(|(place, change)| {
        let tag = model.get(&change.key).map(|(tag, _)| *tag);
        let holds = match &change.precondition {
            Precondition::Absent => tag.is_none(),
            Precondition::Present => tag.is_some(),
            Precondition::Tags(tags) => tag.is_some_and(|tag| tags.contains(&tag.to_string())),
        };
        (!holds).then_some((place, tag))
    });
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_batch_does_what_the_model_says(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values(1, 2, 3)] seed: u64,
) {
    let store = on.store().await;
    let (owner, mut random) = (a_did(), fastrand::Rng::with_seed(seed));
    let keys: Vec<_> = (0..6).map(|n| a_record_key("sync", &n.to_string())).collect();
    let (mut model, mut stale, mut sequence) = (Model::new(), Vec::new(), 0);
    for step in 0..120 {
        let mut picked = keys.clone();
        random.shuffle(&mut picked);
        picked.truncate(random.usize(1..=3));
        let changes: Vec<_> = picked
            .iter()
            .map(|key| {
                let current = model.get(key).map(|(tag, _)| *tag);
                let precondition = match random.u8(..10) {
                    0 => Precondition::Absent,
                    1 => Precondition::Present,
                    2 => random.choice(&stale).map_or(Precondition::Present, |tag: &RecordTag| {
                        Precondition::Tags(vec![tag.to_string()])
                    }),
                    _ => current.map_or(Precondition::Absent, |tag| {
                        Precondition::Tags(vec!["\"x\"".to_owned(), tag.to_string()])
                    }),
                };
                let deletes = precondition != Precondition::Absent && random.u8(..4) == 0;
                let content = format!("{step}-{key}");
                let put = (!deletes).then(|| a_new_record(content.as_bytes()));
                a_change(key, precondition, put)
            })
            .collect();
        let outcome = try_all(&store, &owner, changes.clone(), no_limits()).await;
        match (expected(&model, &changes), outcome) {
            (Err(failed), RecordsChanged::PreconditionFailed(told)) => assert_eq!(failed, told),
            (Ok(()), RecordsChanged::Done(written)) => {
                for (change, written) in changes.iter().zip(written) {
                    sequence += 1;
                    assert_eq!(written.sequence, sequence);
                    let before = model.remove(&change.key);
                    assert_eq!(written.created, before.is_none());
                    stale.extend(before.map(|(tag, _)| tag));
                    if let Some(new) = &change.put {
                        let content = new.content.ciphertext().to_vec();
                        model.insert(change.key.clone(), (written.tag, content));
                    }
                }
            }
            (expected, outcome) => panic!("{expected:?}: {outcome:?}"),
        }
        for key in &keys {
            let record = store.record(&owner, key, Contents::Read).await.unwrap();
            let found = record.map(|record| {
                let StoredContent::Whole(content) = record.live.unwrap().content else {
                    panic!("not whole")
                };
                (record.tag, content.ciphertext().to_vec())
            });
            assert_eq!(found.as_ref(), model.get(key), "{key}");
        }
        let usage = store.record_usage(&owner).await.unwrap();
        let bytes: usize = model.values().map(|(_, content)| content.len()).sum();
        assert_eq!(usage.bytes, bytes as u64);
        assert_eq!(usage.kinds.values().sum::<u64>(), model.len() as u64);
    }
}

/// Adds its edits to a record that it shares with other devices. When another one was first, it reads
/// the record again, and adds the edit to what is there.
async fn edit(store: &Store, owner: &Did, key: &RecordKey, device: usize, edits: usize) {
    let mut random = fastrand::Rng::with_seed(device as u64);
    let (mut known, mut base) = (Precondition::Absent, BTreeSet::new());
    for edit in 0..edits {
        let mine = format!("{device}-{edit}");
        loop {
            let mut content: BTreeSet<String> = base.clone();
            content.insert(mine.clone());
            let text = content.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            let put = a_change(key, known.clone(), Some(a_new_record(text.as_bytes())));
            let changes = vec![put];
            match store
                .change_records(owner, RecordWriter::Agent, changes, no_limits())
                .await
                .unwrap()
            {
                RecordsChanged::Done(written) => {
                    known = Precondition::Tags(vec![written[0].tag.to_string()]);
                    base = content;
                    break;
                }
                RecordsChanged::PreconditionFailed(_) => {
                    let record = store.record(owner, key, Contents::Read).await.unwrap().unwrap();
                    known = Precondition::Tags(vec![record.tag.to_string()]);
                    base = read(&record.live.unwrap().content);
                }
                other => panic!("{other:?}"),
            }
        }
        if random.bool() {
            tokio::task::yield_now().await;
        }
    }
}

fn read(content: &StoredContent) -> BTreeSet<String> {
    let StoredContent::Whole(content) = content else { panic!("not whole") };
    let text = std::str::from_utf8(content.ciphertext()).unwrap();
    text.split(',').map(str::to_owned).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn devices_that_write_at_once_lose_no_edit(#[values(Sqlite, Memory, Postgres)] on: Database) {
    const DEVICES: usize = 5;
    const EDITS: usize = 15;
    let first = Arc::new(on.store().await);
    // Other devices may use another instance.
    let second = match on {
        Postgres => Arc::new(first.another().await),
        _ => Arc::new((**first).clone()),
    };
    let (owner, key) = (a_did(), a_record_key("sync", "notes"));
    let devices = (0..DEVICES).map(|device| {
        let store = if device % 2 == 0 { (**first).clone() } else { (*second).clone() };
        let (owner, key) = (owner.clone(), key.clone());
        tokio::spawn(async move { edit(&store, &owner, &key, device, EDITS).await })
    });
    for device in futures_util::future::join_all(devices).await {
        device.unwrap();
    }
    let record = first.record(&owner, &key, Contents::Read).await.unwrap().unwrap();
    let expected: BTreeSet<_> = (0..DEVICES)
        .flat_map(|device| (0..EDITS).map(move |edit| format!("{device}-{edit}")))
        .collect();
    assert_eq!(read(&record.live.unwrap().content), expected);
    assert_eq!(record.sequence, i64::try_from(DEVICES * EDITS).unwrap());
    if on == Postgres {
        second.close().await;
    }
}
