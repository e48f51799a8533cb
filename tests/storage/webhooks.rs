//! Webhooks: which events become deliveries, and that each is taken by one instance at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use onceguard::domain::{
    Actor, Cursor, Delivery, DeliveryState, EventData, MAX_WEBHOOKS, NewEvent, PageRequest,
    Webhook, WebhookSignature, WebhookState,
};
use onceguard::storage::{
    AttemptOutcome, Attempted, DueDelivery, NewWebhook, Replayed, Store, WebhookChange,
};
use rstest::rstest;
use uuid::Uuid;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{TestStore, a_sealed_key, an_event, days, minutes};

const LEASE: Duration = minutes(1);
pub(crate) const MANY: u32 = 1_000;

fn a_webhook(types: &[&str]) -> NewWebhook {
    NewWebhook {
        id: Uuid::now_v7(),
        name: None,
        url: "https://receiver.example/".to_owned(),
        types: types.iter().map(|heard| (*heard).to_owned()).collect(),
        signature: WebhookSignature::V1,
        secret: a_sealed_key("k1"),
    }
}

pub(crate) async fn created(store: &Store, types: &[&str]) -> Webhook {
    let event = an_event("token.created", &"a webhook");
    store.create_webhook(a_webhook(types), event).await.unwrap().unwrap()
}

/// Publishes an event for each subject, and returns their ids.
pub(crate) async fn publish(store: &TestStore, kind: &str, subjects: &[&str]) -> Vec<Uuid> {
    let events = subjects.iter().map(|subject| {
        NewEvent::of_caller(kind, Actor::Operator, subject, EventData::default()).unwrap()
    });
    let ids = store.publish(events.collect()).await.unwrap();
    store.newest_events(0).await.unwrap();
    ids
}

pub(crate) async fn hand_all(store: &Store) {
    while store.hand_events().await.unwrap() > 0 {}
}

pub(crate) async fn deliveries(store: &Store, id: Uuid) -> Vec<Delivery> {
    let page = PageRequest { limit: 500, after: None };
    store.deliveries(id, None, &page).await.unwrap().items
}

/// The events that are due, by their ids.
pub(crate) async fn take(store: &Store, id: Uuid, room: u32) -> Vec<DueDelivery> {
    store.take_deliveries(vec![(id, room)], LEASE).await.unwrap()
}

fn attempted(due: &DueDelivery, outcome: AttemptOutcome) -> Attempted {
    Attempted { due: due.clone(), outcome, status: Some(500), error: Some("answers 500".into()) }
}

pub(crate) async fn finish(store: &Store, due: &DueDelivery, outcome: AttemptOutcome) {
    store.finish_deliveries(vec![attempted(due, outcome)]).await.unwrap();
}

pub(crate) async fn set(store: &Store, id: Uuid, state: WebhookState) {
    let change = WebhookChange { state: Some((state, None)), ..WebhookChange::default() };
    let event = an_event("token.created", &"a webhook");
    store.change_webhook(id, change, event).await.unwrap().unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_given_what_it_hears_from_its_making_on_and_in_order(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    publish(&store, "example.a", &["before"]).await;
    let some = created(&store, &["example.a", "example.c"]).await.id;
    let all = created(&store, &["*"]).await.id;
    let one = publish(&store, "example.a", &["1", "2"]).await;
    publish(&store, "example.b", &["3"]).await;
    let two = publish(&store, "example.c", &["4"]).await;
    assert_eq!(store.due_webhooks().await.unwrap(), [] as [Uuid; 0]);
    hand_all(&store).await;
    hand_all(&store).await;

    let heard: Vec<_> = deliveries(&store, some).await.iter().map(|one| one.event).collect();
    assert_eq!(heard, [two[0], one[1], one[0]], "the newest first");
    // The events of the making of webhooks, too.
    assert!(deliveries(&store, all).await.len() >= 4);
    let mut due = store.due_webhooks().await.unwrap();
    due.sort_unstable();
    assert_eq!(due, {
        let mut both = [some, all];
        both.sort_unstable();
        both
    });
    let taken = take(&store, some, MANY).await;
    let places: Vec<_> = taken.iter().map(|due| due.sequence).collect();
    assert_eq!(taken.len(), 3);
    assert_eq!(BTreeSet::from_iter(places).len(), 3);
    let found = store.events_by_id(taken.iter().map(|due| due.event).collect()).await.unwrap();
    assert_eq!(found.len(), 3);
}

/// More than one transaction hands over.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn many_events_are_all_given_once(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let id = created(&store, &["example.a"]).await.id;
    let events = (0..2_500).map(|number| {
        let kind = if number % 2 == 0 { "example.a" } else { "example.b" };
        let subject = number.to_string();
        NewEvent::of_caller(kind, Actor::Operator, &subject, EventData::default()).unwrap()
    });
    store.publish(events.collect()).await.unwrap();
    store.newest_events(0).await.unwrap();
    let other = store.another().await;
    let hand = async |store: &Store| {
        for _ in 0..20 {
            store.hand_events().await.unwrap();
        }
    };
    tokio::join!(hand(&store), hand(&other));
    hand_all(&store).await;
    let raw = store.raw();
    assert_eq!(raw.number("count(*) FROM webhook_deliveries").await, 1_250);
    // Of two instances that take at once, each gets other ones.
    let mut taken = Vec::new();
    loop {
        let (one, two) = tokio::join!(take(&store, id, 100), take(&other, id, 100));
        if one.is_empty() && two.is_empty() {
            break;
        }
        taken.extend(one.into_iter().chain(two).map(|due| due.event));
    }
    assert_eq!(taken.len(), 1_250);
    assert_eq!(BTreeSet::from_iter(taken).len(), 1_250);
    other.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_is_due_again_only_after_its_lease(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = created(&store, &["example.a"]).await.id;
    publish(&store, "example.a", &["1"]).await;
    hand_all(&store).await;
    let first = take(&store, id, MANY).await;
    assert_eq!(first.len(), 1);
    assert_eq!(take(&store, id, MANY).await, []);
    assert_eq!(store.due_webhooks().await.unwrap(), [] as [Uuid; 0]);
    store.pass(LEASE).await;
    let again = take(&store, id, MANY).await;
    assert_eq!(again, first, "as after a crash");
    finish(&store, &again[0], AttemptOutcome::Again(LEASE)).await;
    // The one that was slow says nothing any more.
    finish(&store, &first[0], AttemptOutcome::Dead).await;
    let found = deliveries(&store, id).await.remove(0);
    assert_eq!((found.state, found.attempts), (DeliveryState::Pending, 1));
    store.pass(LEASE).await;
    let last = take(&store, id, MANY).await;
    finish(&store, &last[0], AttemptOutcome::Delivered).await;
    finish(&store, &last[0], AttemptOutcome::Dead).await;
    assert_eq!(deliveries(&store, id).await[0].state, DeliveryState::Delivered);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_failed_is_due_when_its_wait_has_passed(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = created(&store, &["example.a"]).await.id;
    publish(&store, "example.a", &["1"]).await;
    hand_all(&store).await;
    for attempt in 0..3 {
        let due = take(&store, id, MANY).await;
        assert_eq!(due[0].attempts, attempt);
        finish(&store, &due[0], AttemptOutcome::Again(minutes(30))).await;
        store.pass(minutes(29)).await;
        assert_eq!(take(&store, id, MANY).await, []);
        store.pass(minutes(1)).await;
    }
    let due = take(&store, id, MANY).await;
    finish(&store, &due[0], AttemptOutcome::Dead).await;
    let dead = deliveries(&store, id).await.remove(0);
    assert_eq!((dead.state, dead.attempts), (DeliveryState::Dead, 4));
    assert_eq!((dead.status, dead.error.as_deref()), (Some(500), Some("answers 500")));
    assert_eq!(dead.next_attempt_at, None);
    store.pass(days(1)).await;
    assert_eq!(take(&store, id, MANY).await, []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_a_webhook_that_is_paused(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = created(&store, &["example.a"]).await.id;
    publish(&store, "example.a", &["1"]).await;
    hand_all(&store).await;
    for state in [WebhookState::Paused, WebhookState::Disabled] {
        set(&store, id, state).await;
        publish(&store, "example.a", &["2"]).await;
        hand_all(&store).await;
        assert_eq!(deliveries(&store, id).await.len(), 1);
        assert_eq!(store.due_webhooks().await.unwrap(), [] as [Uuid; 0]);
        assert_eq!(take(&store, id, MANY).await, []);
    }
    set(&store, id, WebhookState::Active).await;
    hand_all(&store).await;
    assert_eq!(take(&store, id, MANY).await.len(), 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn events_are_sent_again_one_or_all_since_a_time(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let id = created(&store, &["example.a"]).await.id;
    let old = publish(&store, "example.a", &["1"]).await;
    store.pass(minutes(10)).await;
    let since = store.now().await.unwrap();
    let new = publish(&store, "example.a", &["2", "3"]).await;
    let other = publish(&store, "example.b", &["4"]).await;
    hand_all(&store).await;
    let settle = async || {
        hand_all(&store).await;
        let due = take(&store, id, MANY).await;
        let outcomes = [AttemptOutcome::Delivered, AttemptOutcome::Dead];
        for (due, outcome) in due.iter().zip(outcomes.into_iter().cycle()) {
            finish(&store, due, outcome).await;
        }
        due.into_iter().map(|due| due.event).collect::<BTreeSet<_>>()
    };
    assert_eq!(settle().await, [old[0], new[0], new[1]].into());
    assert_eq!(settle().await, BTreeSet::new());

    assert_eq!(store.replay_event(id, old[0]).await.unwrap(), Replayed::Done);
    assert_eq!(settle().await, [old[0]].into());
    // Also one of a type that it does not hear.
    assert_eq!(store.replay_event(id, other[0]).await.unwrap(), Replayed::Done);
    assert_eq!(settle().await, [other[0]].into());
    assert_eq!(store.replay_since(id, since).await.unwrap(), Replayed::Done);
    assert_eq!(settle().await, new.iter().copied().collect());
    assert_eq!(
        store.replay_since(id, since + chrono::Duration::days(1)).await.unwrap(),
        Replayed::Done
    );
    assert_eq!(settle().await, BTreeSet::new());

    let no_id = Uuid::now_v7();
    let unknown = Replayed::UnknownWebhook;
    assert_eq!(store.replay_event(no_id, old[0]).await.unwrap(), unknown);
    assert_eq!(store.replay_since(no_id, since).await.unwrap(), unknown);
    assert_eq!(store.replay_event(id, no_id).await.unwrap(), Replayed::UnknownEvent);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_than_may_be_and_what_goes_takes_its_deliveries_along(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let mut last = None;
    for _ in 0..MAX_WEBHOOKS {
        last = Some(created(&store, &["example.a"]).await);
    }
    let event = || an_event("token.created", &"a webhook");
    let events = store.newest_events(9_999).await.unwrap().len();
    let more = store.create_webhook(a_webhook(&["*"]), event()).await.unwrap();
    assert_eq!(more, None);
    assert_eq!(store.newest_events(9_999).await.unwrap().len(), events);
    publish(&store, "example.a", &["1"]).await;
    hand_all(&store).await;
    let count = async || store.raw().number("count(*) FROM webhook_deliveries").await;
    assert_eq!(count().await, i64::from(MAX_WEBHOOKS));
    let last = last.unwrap();
    assert_eq!(store.webhooks().await.unwrap().last().unwrap().webhook, last);
    assert!(store.delete_webhook(last.id, event()).await.unwrap());
    assert!(!store.delete_webhook(last.id, event()).await.unwrap());
    assert_eq!(count().await, i64::from(MAX_WEBHOOKS) - 1);
    created(&store, &["example.a"]).await;
}

/// Instances of one configuration start together.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_webhook_of_a_name(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let other = store.another().await;
    let make = async |store: &Store, name: &str| {
        let new = NewWebhook { name: Some(name.to_owned()), ..a_webhook(&["example.a"]) };
        store.create_webhook(new, an_event("token.created", &"a webhook")).await.unwrap().unwrap()
    };
    let (one, two) = tokio::join!(make(&store, "shop"), make(&other, "shop"));
    assert_eq!(one, two);
    assert_eq!(one.name.as_deref(), Some("shop"));
    assert_ne!(make(&store, "other").await.id, one.id);
    // Those without a name are many.
    created(&store, &["example.a"]).await;
    created(&store, &["example.a"]).await;
    assert_eq!(store.webhooks().await.unwrap().len(), 4);
    assert_eq!(store.newest_events(9_999).await.unwrap().len(), 4);
    other.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_changes_with_its_kind_and_nothing_else_does(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let webhook = created(&store, &["example.a"]).await;
    let secret = a_sealed_key("k2");
    let with_secret = (WebhookSignature::V1a, secret.clone());
    let change = WebhookChange { secret: Some(with_secret), ..WebhookChange::default() };
    let event = an_event("token.created", &"a webhook");
    let changed = Webhook { signature: WebhookSignature::V1a, ..webhook.clone() };
    assert_ne!(changed, webhook);
    assert_eq!(store.change_webhook(webhook.id, change, event).await.unwrap(), Some(changed));
    assert_eq!(store.webhooks().await.unwrap()[0].secret, secret);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_deliveries_show_each_once(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let id = created(&store, &["example.a"]).await.id;
    let ids = publish(&store, "example.a", &["1", "2", "3", "4", "5"]).await;
    hand_all(&store).await;
    for due in take(&store, id, 2).await {
        finish(&store, &due, AttemptOutcome::Dead).await;
    }
    let list = async |state| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = PageRequest { limit: 2, after };
            let page = store.deliveries(id, state, &page).await.unwrap();
            found.extend(page.items.into_iter().map(|one| one.event));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    let mut expected = ids.clone();
    expected.reverse();
    assert_eq!(list(None).await, expected);
    let (dead, pending) =
        (list(Some(DeliveryState::Dead)).await, list(Some(DeliveryState::Pending)).await);
    assert_eq!((dead.len(), pending.len()), (2, 3));
    assert_eq!(list(Some(DeliveryState::Delivered)).await, [] as [Uuid; 0]);
    let wrong = PageRequest { limit: 2, after: Some(Cursor::new(vec![1])) };
    assert!(store.deliveries(id, None, &wrong).await.is_err());
}
