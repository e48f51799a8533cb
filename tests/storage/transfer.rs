//! A drained database takes no change, from no one, and no transfer ends that it does not belong to.

use onceguard::storage::StoreError;
use rstest::rstest;
use uuid::Uuid;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    a_did, a_new_did, a_nonce, a_session, an_event, ask_all, by_signer, claim, did, in_seconds,
    in_session, opened,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_drained_database_takes_no_changes_until_it_is_released(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    // It was there before, and knows nothing of the transfer.
    let other = store.another().await;
    let session = opened(&other, a_session()).await;
    let in_session = || in_session(session.id, a_nonce());
    let expires_at = in_seconds(&store, 60).await;
    let (signer, event) = (a_did(), || an_event("test.x", &"x"));
    claim(&other, &in_session()).await;
    let before = store.raw().data().await;

    let departure = store.drain("elsewhere").await.unwrap();
    assert_eq!(store.drain("somewhere else").await.unwrap(), departure);
    assert_eq!(other.departure().await.unwrap(), Some(departure.clone()));
    for store in [&*store, &other] {
        let claims = [in_session(), by_signer(&signer, a_nonce(), expires_at)];
        for refused in ask_all(store, &claims).await {
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        }
        for refused in [
            store.put_did(a_new_did(), event()).await.err(),
            store.revoke_did(&did("did:a:b"), event()).await.err(),
            store.publish(vec![event()]).await.err(),
        ] {
            assert!(matches!(refused, Some(StoreError::Unavailable(_))), "{refused:?}");
        }
    }
    let events = "count(*) FROM events WHERE type = 'onceguard.transfer.began'";
    assert_eq!(store.raw().number(events).await, 1);

    assert!(!store.release(Uuid::now_v7()).await.unwrap(), "of another transfer");
    assert!(store.release(departure.id).await.unwrap());
    assert!(!store.release(departure.id).await.unwrap());
    assert_eq!(store.departure().await.unwrap(), None);
    let cut = |data: &str| data.split("events:").next().unwrap().to_owned();
    assert_eq!(cut(&store.raw().data().await), cut(&before));
    assert_eq!(claim(&other, &in_session()).await.as_str(), "accepted");
    other.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_over_is_never_released(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let id = store.drain("elsewhere").await.unwrap().id;
    assert!(!store.hand_over(Uuid::now_v7()).await.unwrap(), "by another transfer");
    store.confirm_transfer(id).await.unwrap();
    assert_eq!(store.departure().await.unwrap().unwrap().confirmed_at, None, "not yet");
    assert!(store.hand_over(id).await.unwrap());
    let moved = store.departure().await.unwrap().unwrap();
    assert!(moved.moved_at.is_some() && store.hand_over(id).await.unwrap());
    assert_eq!(store.departure().await.unwrap().unwrap(), moved, "done again, it stays");
    assert!(!store.release(id).await.unwrap());
    store.confirm_transfer(id).await.unwrap();
    assert!(store.departure().await.unwrap().unwrap().confirmed_at.is_some());
    assert!(store.raw().try_execute("DELETE FROM leases").await.is_err() || on == Sqlite);
}

/// A transfer that was called off meanwhile does not move the database.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_released_database_is_not_handed_over(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let first = store.drain("elsewhere").await.unwrap().id;
    assert!(store.release(first).await.unwrap());
    assert!(!store.hand_over(first).await.unwrap());
    let second = store.drain("elsewhere").await.unwrap().id;
    assert!(first != second && !store.hand_over(first).await.unwrap());
}
