//! Events that callers publish: each call once for its key, and read in one order that skips nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use onceguard::domain::{
    Actor, EventData, EventFilter, IdempotencyDigest, NewEvent, PublicationKey, Published,
};
use onceguard::storage::{PurgeStep, Store};
use rstest::rstest;
use uuid::Uuid;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{TestStore, minutes};

fn event(subject: &str) -> NewEvent {
    NewEvent::of_caller("example.test", Actor::Operator, subject, EventData::default()).unwrap()
}

fn some(count: usize) -> Vec<NewEvent> {
    (0..count).map(|number| event(&number.to_string())).collect()
}

fn key(digest: u8, content: u8) -> PublicationKey {
    let digest: IdempotencyDigest = [digest; 16];
    PublicationKey { digest, content: [content; 32] }
}

async fn link_all(store: &Store) {
    while store.link_events().await.unwrap() > 0 {}
}

/// The subjects of all events, in the order of the log.
async fn log(store: &Store) -> Vec<String> {
    link_all(store).await;
    let mut subjects = Vec::new();
    let mut after = 0;
    loop {
        let page = store.events(&EventFilter::default(), after, 500).await.unwrap();
        let Some(last) = page.last() else { return subjects };
        after = last.sequence;
        subjects.extend(page.into_iter().filter_map(|event| event.subject));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_key_writes_once(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let first = store.publish_once(some(3), key(1, 1)).await.unwrap();
    let Published::Done { ids, repeated: false } = first else { panic!("{first:?}") };
    let again = store.publish_once(some(3), key(1, 1)).await.unwrap();
    assert_eq!(again, Published::Done { ids: ids.clone(), repeated: true });
    let other = store.publish_once(some(2), key(1, 2)).await.unwrap();
    assert_eq!(other, Published::OtherContent);
    assert_eq!(log(&store).await, ["0", "1", "2"]);
    let found = store.events(&EventFilter::default(), 0, 9).await.unwrap();
    assert_eq!(found.iter().map(|event| event.id).collect::<Vec<_>>(), ids);

    let other = store.publish_once(some(3), key(2, 1)).await.unwrap();
    assert!(matches!(other, Published::Done { repeated: false, .. }), "{other:?}");
    assert_eq!(log(&store).await.len(), 6);
}

/// A caller that lost the answer may ask again while the first call is still under way.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn calls_of_the_same_moment_write_once(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let other = store.another().await;
    for round in 0..20 {
        let calls = (0..4).map(|number| {
            let store = if number % 2 == 0 { (*store).clone() } else { other.clone() };
            tokio::spawn(async move { store.publish_once(some(5), key(round, 0)).await.unwrap() })
        });
        let calls: Vec<_> = calls.collect();
        let (mut first, mut all) = (0, BTreeSet::new());
        for call in calls {
            let Published::Done { ids, repeated } = call.await.unwrap() else { panic!("refused") };
            first += usize::from(!repeated);
            all.insert(ids);
        }
        assert_eq!((first, all.len()), (1, 1), "round {round}");
    }
    assert_eq!(log(&store).await.len(), 100);
    other.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_forgotten_by_the_purge(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let day = Duration::from_hours(24);
    let step = PurgeStep::ForgetPublications { kept: day };
    for digest in 1..=3 {
        store.publish_once(some(1), key(digest, 0)).await.unwrap();
    }
    store.pass(day / 2).await;
    store.publish_once(some(1), key(4, 0)).await.unwrap();
    store.pass(day / 2 + minutes(1)).await;
    assert_eq!(store.purge_preview(&[step]).await.unwrap().publications_forgotten, 3);
    for forgotten in [2, 1, 0] {
        let batch = store.purge(step, &onceguard::domain::Cursor::default(), 2).await.unwrap();
        assert_eq!(batch.purged.publications_forgotten, forgotten);
    }
    let published = async |digest| store.publish_once(some(1), key(digest, 0)).await.unwrap();
    assert!(matches!(published(4).await, Published::Done { repeated: true, .. }));
    assert!(matches!(published(1).await, Published::Done { repeated: false, .. }));
}

/// Begins to publish an event behind the store's back, with an id that is lower than any other, and
/// does not commit it yet.
async fn hold_back(client: &tokio_postgres::Client, id: Uuid) {
    let sql = format!(
        "BEGIN; INSERT INTO events (id, type, source, subject, actor, outcome, at, data) \
         VALUES ('{id}', 'example.late', 'test', 'late', 'test', 'success', now(), '{{}}')"
    );
    client.batch_execute(&sql).await.unwrap();
}

/// An event that commits late is read after those that a reader has seen already, though its id and
/// its transaction are older.
#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_not_skipped() {
    let store = Postgres.store().await;
    let (client, connection) =
        tokio_postgres::connect(&store.postgres_url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    hold_back(&client, Uuid::from_u128(1)).await;
    store.publish(some(3)).await.unwrap();
    link_all(&store).await;
    let seen = store.events(&EventFilter::default(), 0, 9).await.unwrap();
    assert_eq!(seen.len(), 3);
    let after = seen.last().unwrap().sequence;
    client.batch_execute("COMMIT").await.unwrap();
    link_all(&store).await;
    let late = store.events(&EventFilter::default(), after, 9).await.unwrap();
    assert_eq!(
        late.iter().map(|event| event.subject.as_deref()).collect::<Vec<_>>(),
        [Some("late")]
    );
}

/// Eight writers over two stores, and a reader that goes on from where it ended: it sees each event
/// once, and never an earlier one after a later one.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_misses_nothing_while_eight_write(#[values(Sqlite, Postgres)] on: Database) {
    const ROUNDS: usize = 25;
    let store = on.store().await;
    let other = store.another().await;
    let mut writers = Vec::new();
    for writer in 0..8_usize {
        let store = if writer % 2 == 0 { (*store).clone() } else { other.clone() };
        writers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                // Large and small transactions end in another order than they begin in.
                let count = 1 + (writer * 7 + round * 13) % 40;
                let events = (0..count).map(|n| event(&format!("{writer}/{round}/{n}"))).collect();
                store.publish(events).await.unwrap();
            }
        }));
    }
    let expected: usize =
        (0..8).flat_map(|w| (0..ROUNDS).map(move |r| 1 + (w * 7 + r * 13) % 40)).sum();
    let mut linkers = Vec::new();
    for store in [(*store).clone(), other.clone()] {
        linkers.push(tokio::spawn(async move {
            loop {
                // Of two that link at the same moment, one waits or does nothing.
                store.link_events().await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
    }
    let seen = read_until(&store, expected).await;
    for writer in writers {
        writer.await.unwrap();
    }
    for linker in linkers {
        linker.abort();
        let _ = linker.await;
    }
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (expected, expected));
    // Events of one call keep their order.
    for writer in 0..8 {
        for round in 0..ROUNDS {
            let prefix = format!("{writer}/{round}/");
            let numbers = seen.iter().filter_map(|subject| subject.strip_prefix(&prefix));
            let numbers: Vec<usize> = numbers.map(|number| number.parse().unwrap()).collect();
            assert!(numbers.is_sorted(), "{prefix}: {numbers:?}");
        }
    }
    other.close().await;
}

/// Follows the log until it has seen so many events.
async fn read_until(store: &TestStore, count: usize) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), 0);
    let reading = async {
        while seen.len() < count {
            let page = store.events(&EventFilter::default(), after, 37).await.unwrap();
            for event in page {
                assert!(event.sequence > after, "{} after {after}", event.sequence);
                after = event.sequence;
                seen.push(event.subject.unwrap());
            }
        }
    };
    let read = tokio::time::timeout(crate::support::DEADLINE, reading).await;
    assert!(read.is_ok(), "only {} of {count} events were seen", seen.len());
    seen
}
