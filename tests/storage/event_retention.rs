//! What callers published is emptied after its retention, and the log stays whole: events are linked only
//! once they are as old as they shall be, since PostgreSQL's tests move rows into the past.

use std::collections::BTreeSet;
use std::time::Duration;

use onceguard::domain::{
    Actor, Cursor, Did, Event, Finding, Head, LinkedEvent, LogVerifier, VerifiedLog, WebhookState,
};
use onceguard::storage::{AttemptOutcome, PurgeBatch, PurgeStep, Replayed, Store};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{TestStore, a_did, an_event, days, purge_batch};
use crate::webhooks::{MANY, created, deliveries, finish, hand_all, publish, set, take};

const ERASED: &str = "onceguard.erased";
const PURGED: &str = "onceguard.events.purged";
/// Everything that is linked is past its retention.
const ALL: PurgeStep = PurgeStep::EmptyEvents { retention: days(0), undelivered: days(90) };
const CUT: PurgeStep = PurgeStep::DeleteEvents { retention: days(0), undelivered: days(0) };

const fn older_than(retention: u64, undelivered: u64) -> PurgeStep {
    PurgeStep::EmptyEvents { retention: days(retention), undelivered: days(undelivered) }
}

/// Runs a step to its end, and returns how many events it emptied. The preview says the same before.
async fn empty(store: &Store, step: PurgeStep, limit: u32) -> u64 {
    let preview = store.purge_preview(&[step]).await.unwrap();
    let (mut emptied, mut from) = (0, Some(Cursor::default()));
    while let Some(cursor) = from {
        let PurgeBatch { purged, next } = store.purge(step, &cursor, limit).await.unwrap();
        assert!(purged.events_emptied <= u64::from(limit), "{purged:?}");
        emptied += purged.events_emptied;
        from = next;
    }
    assert_eq!(preview.events_emptied, emptied);
    emptied
}

async fn linked(store: &Store) -> Vec<LinkedEvent> {
    let mut all: Vec<LinkedEvent> = Vec::new();
    loop {
        let after = all.last().map_or(0, |last| last.event.sequence);
        let page = store.linked_events(after, 50).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

async fn kinds(store: &Store) -> Vec<String> {
    linked(store).await.into_iter().map(|linked| linked.event.kind).collect()
}

async fn walk(store: &Store, heads: &[Head]) -> VerifiedLog {
    let chain = store.event_chain().await.unwrap();
    let cut = (chain.cut_sequence, chain.cut_hash);
    let mut verifier = LogVerifier::new(cut, heads.iter().copied());
    linked(store).await.iter().for_each(|event| verifier.event(event));
    verifier.finish((chain.sequence, chain.hash), chain.observed_at)
}

/// What the events of purges say.
async fn told(store: &Store) -> Vec<serde_json::Value> {
    let events = linked(store).await.into_iter().map(|linked| linked.event);
    events.filter(|event| event.kind == PURGED).map(|event| event.data.to_value()).collect()
}

async fn without_triggers(store: &TestStore) {
    let off = if store.backend() == "sqlite" {
        "DROP TRIGGER events_are_append_only"
    } else {
        "ALTER TABLE events DISABLE TRIGGER events_stay"
    };
    store.raw().execute(off).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn events_of_callers_are_emptied_after_their_retention_and_those_of_the_service_stay(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for number in 0..3 {
        store.publish(vec![an_event("test.old", &number)]).await.unwrap();
    }
    store.publish(vec![an_event("onceguard.did.revoked", &"x")]).await.unwrap();
    store.publish(vec![an_event("test.old", &"4")]).await.unwrap();
    store.pass(days(20)).await;
    store.publish(vec![an_event("test.younger", &"x")]).await.unwrap();
    store.pass(days(11)).await;
    store.publish(vec![an_event("test.new", &"x")]).await.unwrap();
    assert_eq!(empty(&store, older_than(30, 90), 2).await, 0, "none is linked");
    let head = store.sign_head().await.head;
    let before: Vec<Event> = linked(&store).await.into_iter().map(|one| one.event).collect();
    assert_eq!(empty(&store, older_than(32, 90), 2).await, 0);

    assert_eq!(empty(&store, older_than(30, 90), 2).await, 4);
    let own = "onceguard.did.revoked";
    let left = [ERASED, ERASED, ERASED, own, ERASED, "test.younger", "test.new", PURGED, PURGED];
    assert_eq!(kinds(&store).await, left);
    let first = serde_json::json!({ "purged": [[1, 2]], "count": 2 });
    let second = serde_json::json!({ "purged": [[3, 3], [5, 5]], "count": 2 });
    assert_eq!(told(&store).await, [first, second]);
    for (linked, before) in linked(&store).await.iter().zip(&before) {
        let event = &linked.event;
        assert_eq!((event.id, event.sequence, event.at), (before.id, before.sequence, before.at));
        if event.kind == ERASED {
            assert_eq!((&event.subject, &event.actor, &event.request_id), (&None, &None, &None));
            assert_eq!((event.source.as_str(), event.data.as_str()), ("onceguard", "{}"));
            assert_eq!(linked.salt, None);
        } else {
            assert_eq!(event, before);
        }
    }
    let whole = walk(&store, &[head]).await;
    assert_eq!((whole.findings, whole.purged, whole.erased), (vec![], 4, 0));
    assert_eq!(empty(&store, older_than(30, 90), 2).await, 0, "done again, it finds nothing");
    assert_eq!(empty(&store, older_than(10, 90), 2).await, 1);
    assert_eq!(walk(&store, &[head]).await.findings, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_is_still_to_be_sent_stays_up_to_its_retention(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = created(&store, &["test.a"]).await.id;
    let events: Vec<_> = ["1", "2", "3", "4"].map(|number| an_event("test.a", &number)).into();
    let ids = store.publish(events).await.unwrap();
    store.publish(vec![an_event("test.b", &"unheard")]).await.unwrap();
    store.pass(days(40)).await;
    let head = store.sign_head().await.head;
    let subjects = async || {
        let heard = linked(&store).await.into_iter().filter(|one| one.event.kind == "test.a");
        heard.filter_map(|linked| linked.event.subject).collect::<Vec<_>>()
    };
    // The other one is what the making of the webhook left.
    assert_eq!(empty(&store, older_than(30, 90), 2).await, 2, "what it does not hear");
    assert_eq!(subjects().await, ["1", "2", "3", "4"]);

    hand_all(&store).await;
    let mut due = take(&store, id, MANY).await;
    due.sort_by_key(|due| due.sequence);
    finish(&store, &due[0], AttemptOutcome::Delivered).await;
    finish(&store, &due[1], AttemptOutcome::Dead).await;
    finish(&store, &due[2], AttemptOutcome::Again(days(1))).await;
    assert_eq!(empty(&store, older_than(30, 90), 2).await, 1);
    assert_eq!(subjects().await, ["2", "3", "4"], "dead, and pending twice");

    assert_eq!(store.replay_event(id, ids[1]).await.unwrap(), Replayed::Done);
    assert_eq!(empty(&store, older_than(30, 90), 2).await, 0);
    let again = take(&store, id, MANY).await;
    let again = again.iter().find(|due| due.event == ids[1]).unwrap();
    finish(&store, again, AttemptOutcome::Delivered).await;
    assert_eq!(empty(&store, older_than(30, 90), 2).await, 1);
    assert_eq!(subjects().await, ["3", "4"]);

    // Those deliveries become as old as the rest of them may be.
    let given = deliveries(&store, id).await;
    let of = |age: Duration| given[0].created_at - chrono::Duration::from_std(age).unwrap();
    let age = async |age: Duration| {
        let at = store.raw().time(of(age));
        let sql = format!("UPDATE webhook_deliveries SET created_at = {at}");
        store.raw().execute(&sql).await;
    };
    age(days(89)).await;
    assert_eq!(empty(&store, older_than(30, 90), 2).await, 0);
    age(days(91)).await;
    assert_eq!(empty(&store, older_than(30, 90), 2).await, 2);
    assert_eq!(subjects().await, [] as [&str; 0], "no webhook holds an event for ever");
    let whole = walk(&store, &[head]).await;
    assert_eq!((whole.findings, whole.purged), (vec![], 6));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_has_not_been_given_stays_up_to_its_retention(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = created(&store, &["*"]).await.id;
    set(&store, id, WebhookState::Paused).await;
    // Since it was made: the events of that, and these.
    store.publish(vec![an_event("test.a", &"1"), an_event("test.b", &"2")]).await.unwrap();
    store.pass(days(40)).await;
    store.sign_head().await;
    assert_eq!(empty(&store, older_than(30, 90), 100).await, 0);
    assert_eq!(empty(&store, older_than(30, 39), 100).await, 4);
}

/// A walk passes over many that stay.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_found_behind_many_that_stay(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    created(&store, &["test.heard"]).await;
    publish(&store, "test.heard", &vec!["x"; 1_100]).await;
    publish(&store, "test.other", &["y"; 3]).await;
    assert_eq!(empty(&store, ALL, 100).await, 4);
    let left = kinds(&store).await.into_iter().filter(|kind| kind == "test.heard");
    assert_eq!(left.count(), 1_100);
    assert_eq!(walk(&store, &[]).await.findings, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_purges_at_once_empty_each_event_once(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let other = if on == Postgres { store.another().await } else { (*store).clone() };
    let did = a_did();
    publish(&store, "test.a", &["x"; 150]).await;
    publish(&store, "test.b", &[did.as_str(); 50]).await;
    let run = async |store: &Store| {
        let (mut emptied, mut from) = (0, Some(Cursor::default()));
        while let Some(cursor) = from {
            let PurgeBatch { purged, next } = store.purge(ALL, &cursor, 7).await.unwrap();
            emptied += purged.events_emptied;
            from = next;
        }
        emptied
    };
    let erase = async { store.erase_did(&did, &Actor::Operator).await.unwrap().events };
    let (one, two, erased) = tokio::join!(run(&store), run(&other), erase);
    assert_eq!(one + two + erased, 200);
    let whole = walk(&store, &[]).await;
    assert_eq!((whole.findings, whole.purged, whole.erased), (vec![], one + two, erased));
}

/// Emptied, nothing would tell that it was changed.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_another_hand_changed_is_not_emptied(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    publish(&store, "test.a", &["1", "2", "3"]).await;
    store.publish(vec![an_event("onceguard.did.revoked", &"x")]).await.unwrap();
    store.sign_head().await;
    without_triggers(&store).await;
    store.raw().execute("UPDATE events SET subject = 'other' WHERE sequence = 2").await;
    // One of the service's own, made to look like a caller's.
    let callers = "UPDATE events SET type = 'test.a', source = 'operator' WHERE sequence = 4";
    store.raw().execute(callers).await;
    let purged = store.purge(ALL, &Cursor::default(), 100).await.unwrap().purged;
    assert_eq!(purged.events_emptied, 2);
    assert_eq!(kinds(&store).await, [ERASED, "test.a", ERASED, "test.a", PURGED]);
    let changed: Vec<_> = walk(&store, &[]).await.findings.iter().map(Finding::to_string).collect();
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert!(changed[0].starts_with("event 2 (") && changed[1].starts_with("event 4 ("));
    let again = store.purge(ALL, &Cursor::default(), 100).await.unwrap().purged;
    assert_eq!((again.events_emptied, told(&store).await.len()), (0, 1));
}

/// In any order of erasures, purges and cuts: the log is whole, and an event that another hand empties is found.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn erasures_purges_and_cuts_in_any_order_leave_a_whole_log(
    #[values(Sqlite, Postgres)] on: Database,
    #[values(1, 2, 3, 4)] seed: u64,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    let store = on.store().await;
    let dids: Vec<Did> = (0..3).map(|_| a_did()).collect();
    let mut heads = vec![store.sign_head().await.head];
    let mut own = BTreeSet::new();
    let (mut emptied, mut erased, mut deleted) = (0, 0, 0);
    for _ in 0..60 {
        let (step, limit) = (random.u32(..12), random.u32(1..10));
        let did = &dids[random.usize(..3)];
        match step {
            0..6 => {
                for number in 0..random.u32(1..10) {
                    let subject = if random.bool() { did.to_string() } else { number.to_string() };
                    store.publish(vec![an_event("test.a", &subject)]).await.unwrap();
                    if random.u32(..4) == 0 {
                        let event = an_event("onceguard.did.revoked", &number);
                        own.extend(store.publish(vec![event]).await.unwrap());
                    }
                }
            }
            6 => {
                store.link_events().await.unwrap();
            }
            7 | 8 => emptied += purge_batch(&store, ALL, limit).await.events_emptied,
            9 => erased += store.erase_did(did, &Actor::Operator).await.unwrap().events,
            10 => heads.push(store.sign_head().await.head),
            _ => deleted += purge_batch(&store, CUT, limit).await.events_deleted,
        }
        assert_eq!(walk(&store, &heads).await.findings, [], "after {step}");
    }
    assert!(emptied > 0 && erased > 0 && deleted > 0, "{emptied}, {erased}, {deleted}");
    own.extend(store.publish(vec![an_event("onceguard.did.revoked", &"x")]).await.unwrap());
    store.sign_head().await;
    let cut = store.event_chain().await.unwrap().cut_sequence;
    let left = linked(&store).await;
    for one in left.iter().filter(|one| own.contains(&one.event.id)) {
        assert_eq!(one.event.kind, "onceguard.did.revoked", "only a caller's event is emptied");
    }

    // Any one of those that are whole, if another hand empties it.
    let whole = left.iter().filter(|one| one.event.sequence > cut && one.salt.is_some());
    let whole: Vec<_> = whole
        .filter(|one| own.contains(&one.event.id) || one.event.kind == "test.a")
        .map(|one| one.event.sequence)
        .collect();
    let place = whole[random.usize(..whole.len())];
    without_triggers(&store).await;
    let sql = format!(
        "UPDATE events SET type = '{ERASED}', source = 'onceguard', subject = NULL, actor = NULL, \
         outcome = 'success', request_id = NULL, data = '{{}}', salt = NULL WHERE sequence = {place}"
    );
    store.raw().execute(&sql).await;
    let findings = walk(&store, &heads).await.findings;
    assert_eq!(findings, [Finding::Emptied { from: place, to: place }]);
}
