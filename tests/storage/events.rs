//! The log of events: each is linked once, in one order for all, and none is skipped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onceguard::domain::{Event, EventFilter, LogVerifier, MAX_SUBJECT, NO_HASH, VerifiedLog};
use onceguard::storage::Store;
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{TestStore, a_did, an_event, days};

async fn all(store: &Store) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let after = events.last().map_or(0, |event| event.sequence);
        let page = store.events(&EventFilter::default(), after, 100).await.unwrap();
        if page.is_empty() {
            return events;
        }
        events.extend(page);
    }
}

async fn verified(store: &TestStore) -> VerifiedLog {
    let chain = store.event_chain().await.unwrap();
    let mut verifier = LogVerifier::new((chain.cut_sequence, chain.cut_hash), []);
    loop {
        let page = store.linked_events(verifier.last(), 100).await.unwrap();
        if page.is_empty() {
            return verifier.finish((chain.sequence, chain.hash), chain.observed_at);
        }
        for event in &page {
            verifier.event(event);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_linked_events_are_read_in_their_order(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let ids = store
        .publish(vec![an_event("test.one", &"a"), an_event("test.two", &"b ü")])
        .await
        .unwrap();
    assert_eq!(all(&store).await, []);
    assert!(store.unlinked_for().await.unwrap().is_some());
    assert_eq!(store.link_events().await.unwrap(), 2);
    assert_eq!(
        (store.link_events().await.unwrap(), store.unlinked_for().await.unwrap()),
        (0, None)
    );
    let events = all(&store).await;
    assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), ids);
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
    let event = &events[1];
    assert_eq!((event.kind.as_str(), event.source.as_str()), ("test.two", "operator"));
    assert_eq!((event.subject.as_deref(), event.actor.as_deref()), (Some("b ü"), Some("operator")));
    assert_eq!((event.outcome.as_str(), &event.request_id), ("success", &None));
    assert_eq!(event.data.as_str(), r#"{"why":"test"}"#);
    assert_eq!(verified(&store).await.findings, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_leaves_out_what_differs(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let did = a_did();
    let longest = "x".repeat(MAX_SUBJECT);
    let kinds = ["test.a", "test.b", "onceguard.did.revoked"];
    store.publish(vec![an_event(kinds[0], &did), an_event(kinds[1], &longest)]).await.unwrap();
    store.publish(vec![an_event(kinds[2], &did)]).await.unwrap();
    store.link_events().await.unwrap();
    let at = all(&store).await[0].at;
    let found = async |filter: EventFilter| {
        let events = store.events(&filter, 0, 10).await.unwrap();
        events.iter().map(|event| event.sequence).collect::<Vec<_>>()
    };
    let any = EventFilter::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(found(EventFilter { kind: text("test.b"), ..any() }).await, [2]);
    assert_eq!(found(EventFilter { subject: text(did.as_str()), ..any() }).await, [1, 3]);
    assert_eq!(found(EventFilter { actor: text("operator"), ..any() }).await, [1, 2, 3]);
    assert_eq!(found(EventFilter { actor: text("other"), ..any() }).await, [0; 0]);
    assert_eq!(found(EventFilter { outcome: text("success"), ..any() }).await, [1, 2, 3]);
    assert_eq!(found(EventFilter { outcome: text("forbidden"), ..any() }).await, [0; 0]);
    assert_eq!(found(EventFilter { from: Some(at), ..any() }).await, [1, 2, 3]);
    assert_eq!(found(EventFilter { to: Some(at), ..any() }).await, [0; 0]);
    let subject = text(did.as_str());
    assert_eq!(found(EventFilter { subject, kind: text("test.a"), ..any() }).await, [1]);
}

/// An event that was written early and commits late comes after those that were linked meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_commits_late_is_not_skipped() {
    let store = Postgres.store().await;
    let late = "BEGIN; INSERT INTO events (id, type, source, subject, actor, outcome, at) \
                VALUES (gen_random_uuid(), 'test.late', 'x', 'x', 'x', 'success', now())";
    store.raw().execute(late).await;
    store.publish(vec![an_event("test.soon", &"x")]).await.unwrap();
    store.link_events().await.unwrap();
    let seen = all(&store).await;
    assert_eq!(seen.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["test.soon"]);
    store.raw().execute("COMMIT").await;
    store.link_events().await.unwrap();
    let rest = store.events(&EventFilter::default(), seen[0].sequence, 10).await.unwrap();
    assert_eq!(rest.iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["test.late"]);
    assert_eq!(verified(&store).await.findings, []);
}

/// Writers, two instances that link, and a reader who follows, all at once.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_linked_once_and_seen_once(#[values(Sqlite, Postgres)] on: Database) {
    const WRITERS: usize = 8;
    const EACH: usize = 25;
    let store = Arc::new(on.store().await);
    let done = Arc::new(AtomicBool::new(false));
    let linkers: Vec<_> = (0..2)
        .map(|_| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(async move {
                let mut linked = 0;
                while !done.load(Ordering::SeqCst) || store.unlinked_for().await.unwrap().is_some()
                {
                    linked += store.link_events().await.unwrap();
                    tokio::task::yield_now().await;
                }
                linked
            })
        })
        .collect();
    let reader = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let mut seen: Vec<Event> = Vec::new();
            while seen.len() < WRITERS * EACH {
                let after = seen.last().map_or(0, |event| event.sequence);
                seen.extend(store.events(&EventFilter::default(), after, 7).await.unwrap());
            }
            seen
        }
    });
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for number in 0..EACH {
                    let event = an_event("test.x", &format!("{writer} {number}"));
                    ids.extend(store.publish(vec![event]).await.unwrap());
                }
                ids
            })
        })
        .collect();
    let mut written = BTreeSet::new();
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    done.store(true, Ordering::SeqCst);
    let seen = reader.await.unwrap();
    let mut linked = 0;
    for linker in linkers {
        linked += linker.await.unwrap();
    }
    assert_eq!(usize::try_from(linked).unwrap(), WRITERS * EACH);
    assert_eq!(seen.iter().map(|event| event.id).collect::<BTreeSet<_>>(), written);
    let places: Vec<_> = seen.iter().map(|event| event.sequence).collect();
    assert_eq!(places, (1..=(WRITERS * EACH) as u64).collect::<Vec<_>>());
    assert_eq!(verified(&store).await.findings, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_empties_events_and_the_log_stays_whole(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (did, other) = (a_did(), a_did());
    let longer = format!("{did}:more");
    let mut events = vec![an_event("test.a", &did), an_event("test.b", &other)];
    events.push(an_event("test.c", &longer));
    events.push(an_event("test.d", &format!("{other} {did}")));
    store.publish(events).await.unwrap();
    let erased = store.erase_did(&did, &onceguard::domain::Actor::Operator).await.unwrap();
    assert_eq!(erased.events, 2);
    let events = all(&store).await;
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    let empty = "onceguard.erased";
    assert_eq!(kinds, [empty, "test.b", "test.c", empty, "onceguard.did.erased"]);
    assert_eq!((&events[0].subject, &events[0].actor), (&None, &None));
    assert_eq!(events[0].data.as_str(), "{}");
    assert_eq!(events[4].data.to_value(), serde_json::json!({ "erased": [1, 4] }));
    let whole = verified(&store).await;
    assert_eq!((whole.findings, whole.erased, whole.events), (vec![], 2, 5));
    // Done again, it finds nothing.
    let again = store.erase_did(&did, &onceguard::domain::Actor::Operator).await.unwrap();
    assert_eq!(again.events, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_beginning_was_purged_is_whole_from_there(
    #[values(Sqlite, Postgres)] on: Database,
) {
    use onceguard::domain::Cursor;
    use onceguard::storage::PurgeStep;
    let store = on.store().await;
    for _ in 0..3 {
        store.publish(vec![an_event("test.old", &"x")]).await.unwrap();
    }
    let head = store.sign_head().await.head;
    // The rows of PostgreSQL's tests are moved into the past, and then say another time.
    let step = PurgeStep::DeleteEvents { retention: days(0), undelivered: days(0) };
    let batch = store.purge(step, &Cursor::default(), 2).await.unwrap();
    assert_eq!(batch.purged.events_deleted, 2);
    store.publish(vec![an_event("test.new", &"x")]).await.unwrap();
    store.link_events().await.unwrap();
    let walk = async || {
        let chain = store.event_chain().await.unwrap();
        let mut verifier = LogVerifier::new((chain.cut_sequence, chain.cut_hash), [head]);
        let events = store.linked_events(verifier.last(), 100).await.unwrap();
        for event in &events {
            verifier.event(event);
        }
        verifier.finish((chain.sequence, chain.hash), chain.observed_at)
    };
    let half = walk().await;
    assert_eq!((half.findings, half.events), (vec![], 2));
    store.purge(step, &Cursor::default(), 2).await.unwrap();
    let events = all(&store).await;
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(walk().await.findings, []);
    let chain = store.event_chain().await.unwrap();
    assert_eq!((chain.cut_sequence, chain.cut_hash), (3, head.hash));
    assert_ne!(head.hash, NO_HASH);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_batch_writes_no_event(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    store.raw().execute("CREATE UNIQUE INDEX once ON events (type)").await;
    let twice = vec![an_event("test.x", &"a"), an_event("test.y", &"b"), an_event("test.x", &"c")];
    assert!(store.publish(twice).await.is_err());
    assert_eq!(store.raw().number("count(*) FROM events").await, 0);
}
