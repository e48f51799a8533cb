//! The list of instances: what became of each, by the database's clock.

use std::time::Duration;

use onceguard::config::OnCut::Recover;
use onceguard::config::Replication::Asynchronous;
use onceguard::domain::InstanceState::{self, Active, Ended, Failed, Terminated};
use onceguard::domain::{Cursor, MAX_PAGE, PageRequest};
use onceguard::storage::{Joining, Store, StoreError};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::joining;

async fn join(store: &Store, name: &str) {
    let joining = Joining { name: name.to_owned(), ..joining(Asynchronous, Recover) };
    store.join(joining).await.unwrap();
}

async fn states(store: &Store) -> Vec<(String, InstanceState)> {
    let page = PageRequest { limit: MAX_PAGE, after: None };
    let page = store.instances(&page).await.unwrap();
    assert_eq!(page.next, None);
    page.items.into_iter().map(|one| (one.name, one.state)).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_each_instance_is_told(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    assert_eq!(states(&store).await, []);
    let others = [store.another().await, store.another().await, store.another().await];
    for (name, other) in ["stops", "fails", "dies"].into_iter().zip(&others) {
        join(other, name).await;
    }
    join(&store, "serves").await;
    let [stops, fails, dies] = &others;
    stops.depart().await.unwrap();
    fails.fail().await.unwrap();
    let told = |state| {
        [("serves", Active), ("dies", state), ("fails", Failed), ("stops", Ended)]
            .map(|(name, state)| (name.to_owned(), state))
    };
    assert_eq!(states(&store).await, told(Active));

    store.pass(Duration::from_secs(30)).await;
    assert_eq!(states(&store).await, told(Active));
    store.heartbeat().await.unwrap();
    store.pass(Duration::from_secs(31)).await;
    assert_eq!(states(&store).await, told(Terminated));
    // It was only cut off.
    dies.heartbeat().await.unwrap();
    assert_eq!(states(&store).await, told(Active));

    let page = PageRequest { limit: MAX_PAGE, after: None };
    for one in store.instances(&page).await.unwrap().items {
        let over = matches!(one.state, Ended | Failed);
        assert_eq!(one.ended_at, over.then_some(one.heartbeat_at), "{one:?}");
        assert!(one.started_at <= one.heartbeat_at, "{one:?}");
        assert_eq!((one.host.as_str(), one.version.as_str()), ("test", env!("CARGO_PKG_VERSION")));
    }
    for other in others {
        other.close().await;
    }
}

/// The time in which SQLite writes no heartbeat must not make an instance look gone.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_instance_stays_active(#[values(Sqlite, Memory)] on: Database) {
    let store = on.store().await;
    join(&store, "idle").await;
    for _ in 0..130 {
        store.pass(Duration::from_secs(1)).await;
        store.heartbeat().await.unwrap();
        assert_eq!(states(&store).await, [("idle".to_owned(), Active)]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn instances_come_in_pages_the_latest_start_first(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    for name in ["one", "two", "three", "four", "five"] {
        let other = store.another().await;
        join(&other, name).await;
        other.close().await;
    }
    // Starts at the same moment are told apart.
    let at = "(SELECT min(started_at) FROM instances)";
    store.raw().execute(&format!("UPDATE instances SET started_at = {at}")).await;
    let all: Vec<_> = states(&store).await;
    let (mut page, mut found) = (PageRequest { limit: 2, after: None }, Vec::new());
    loop {
        let listed = store.instances(&page).await.unwrap();
        assert_eq!(listed.items.len(), if listed.next.is_some() { 2 } else { 1 });
        found.extend(listed.items.into_iter().map(|one| (one.name, one.state)));
        page.after = listed.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(found, all);
    assert_eq!(found.len(), 5);
    let page = PageRequest { limit: 2, after: Some(Cursor::new(vec![1])) };
    let error = store.instances(&page).await.unwrap_err();
    assert!(matches!(error, StoreError::InvalidCursor(_)), "{error:?}");
}
