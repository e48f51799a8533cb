//! What the purge, a recovery and a rotation of sealing keys do to webhooks, and what the gauges tell.

use std::time::Duration;

use onceguard::domain::{Cursor, SealedKey, WebhookState};
use onceguard::storage::{AttemptOutcome, DeliveryCounts, PurgeStep};
use rstest::rstest;

use crate::recovery::recover;
use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_sealed_key, days, minutes};
use crate::webhooks::{MANY, created, deliveries, finish, hand_all, publish, set, take};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_purge_forgets_deliveries_and_leaves_events_that_are_still_to_be_sent(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = created(&store, &["example.a"]).await.id;
    let paused = created(&store, &["example.p"]).await.id;
    publish(&store, "example.a", &["1"]).await;
    // The log is cut only at heads.
    store.sign_head().await;
    publish(&store, "example.a", &["2", "3"]).await;
    hand_all(&store).await;
    let mut due = take(&store, id, MANY).await;
    due.sort_by_key(|due| due.sequence);
    finish(&store, &due[0], AttemptOutcome::Delivered).await;
    finish(&store, &due[1], AttemptOutcome::Dead).await;
    finish(&store, &due[2], AttemptOutcome::Again(days(1))).await;
    set(&store, paused, WebhookState::Paused).await;
    publish(&store, "example.p", &["waits"]).await;
    let deliveries_step =
        PurgeStep::DeleteDeliveries { delivered: days(30), undelivered: days(90) };
    let log = PurgeStep::DeleteEvents { retention: days(1), undelivered: days(90) };
    let left = async || {
        let states = deliveries(&store, id).await;
        let mut states: Vec<_> = states.iter().map(|one| one.state.as_str()).collect();
        states.sort_unstable();
        states
    };
    let subjects = async || {
        let events = store.newest_events(9_999).await.unwrap();
        let mut subjects: Vec<_> = events
            .into_iter()
            .filter(|event| event.kind.starts_with("example."))
            .filter_map(|event| event.subject)
            .collect();
        subjects.sort();
        subjects
    };
    let purge = async || {
        store.sign_head().await;
        for step in [deliveries_step, log] {
            let preview = store.purge_preview(&[step]).await.unwrap();
            let purged = store.purge(step, &Cursor::default(), 100).await.unwrap().purged;
            assert_eq!(
                (preview.deliveries_deleted, preview.events_deleted),
                (purged.deliveries_deleted, purged.events_deleted)
            );
        }
    };
    store.pass(days(29)).await;
    purge().await;
    assert_eq!(left().await, ["dead", "delivered", "pending"]);
    // The first event that a webhook is still to be sent, and all after it.
    assert_eq!(subjects().await, ["2", "3", "waits"]);
    store.pass(days(2)).await;
    purge().await;
    assert_eq!(left().await, ["dead", "pending"]);
    assert_eq!(subjects().await, ["2", "3", "waits"]);
    store.pass(days(60)).await;
    purge().await;
    assert_eq!(left().await, [] as [&str; 0]);
    assert_eq!(subjects().await, [] as [&str; 0], "no webhook holds the log for ever");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_a_recovered_database_are_paused(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let [sends, paused, disabled] = [
        created(&store, &["*"]).await,
        created(&store, &["*"]).await,
        created(&store, &["*"]).await,
    ]
    .map(|webhook| webhook.id);
    set(&store, paused, WebhookState::Paused).await;
    set(&store, disabled, WebhookState::Disabled).await;
    recover(&store).await;
    let counts = store.webhook_counts().await.unwrap();
    assert_eq!((counts.paused, counts.recovered), (2, 1), "{counts:?}");
    let all = store.webhooks().await.unwrap();
    let of = |id| all.iter().find(|one| one.webhook.id == id).unwrap().webhook.clone();
    assert_eq!(of(sends).state, WebhookState::Paused);
    assert!(of(sends).reason.unwrap().contains("recovered"));
    assert_eq!((of(paused).state, of(paused).reason), (WebhookState::Paused, None));
    assert_eq!(of(disabled).state, WebhookState::Disabled);
    // What comes after the leap is given once it is resumed.
    set(&store, sends, WebhookState::Active).await;
    assert_eq!(store.webhook_counts().await.unwrap().recovered, 0);
    let ids = publish(&store, "example.a", &["1"]).await;
    hand_all(&store).await;
    assert_eq!(deliveries(&store, sends).await[0].event, ids[0]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_sealing_key_stays_while_a_webhook_needs_it(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    store.add_sealing_key("k1", b"one").await.unwrap();
    let id = created(&store, &["*"]).await.id;
    assert!(!store.retire_sealing_key("k1").await.unwrap());
    let old = store.webhooks().await.unwrap()[0].secret.clone();
    let new = a_sealed_key("k2");
    let other = SealedKey { ciphertext: vec![1], ..old.clone() };
    assert!(!store.reseal_webhook(id, &other, &new).await.unwrap());
    assert!(store.reseal_webhook(id, &old, &new).await.unwrap());
    assert_eq!(store.webhooks().await.unwrap()[0].secret, new);
    assert!(store.retire_sealing_key("k1").await.unwrap());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn counts_tell_of_states_and_of_the_oldest_that_waits(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let counts = store.webhook_counts().await.unwrap();
    assert_eq!((counts.active, counts.oldest_pending), (0, Duration::ZERO));
    assert_eq!(store.delivery_counts().await.unwrap(), DeliveryCounts::default());
    let id = created(&store, &["example.a"]).await.id;
    let paused = created(&store, &["example.a"]).await.id;
    publish(&store, "example.a", &["1"]).await;
    hand_all(&store).await;
    set(&store, paused, WebhookState::Paused).await;
    store.pass(minutes(10)).await;
    let counts = store.webhook_counts().await.unwrap();
    assert_eq!((counts.active, counts.paused, counts.disabled), (1, 1, 0));
    // The test paused it, and no recovery.
    assert_eq!(counts.recovered, 0);
    assert!(counts.oldest_pending >= minutes(10), "{counts:?}");
    let both = DeliveryCounts { pending: 2, dead: 0 };
    assert_eq!(store.delivery_counts().await.unwrap(), both);
    for (webhook, outcome) in [(id, AttemptOutcome::Delivered), (paused, AttemptOutcome::Dead)] {
        set(&store, webhook, WebhookState::Active).await;
        let due = take(&store, webhook, MANY).await;
        finish(&store, &due[0], outcome).await;
    }
    let given_up = DeliveryCounts { pending: 0, dead: 1 };
    assert_eq!(store.delivery_counts().await.unwrap(), given_up);
    assert_eq!(store.webhook_counts().await.unwrap().oldest_pending, Duration::ZERO);
}
