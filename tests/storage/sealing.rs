//! Sealing keys, and the re-sealing of session keys.

use onceguard::domain::{EndReason, SealedKey, Session, SessionPatch};
use onceguard::storage::Store;
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_sealed_key, a_session, opened};

async fn sealed_session(store: &Store, key_id: &str) -> (Session, SealedKey) {
    let key = a_sealed_key(key_id);
    let mut new = a_session();
    new.session_key = Some(key.clone());
    (opened(store, new).await, key)
}

async fn key_of(store: &Store, session: &Session) -> Option<SealedKey> {
    store.session_key(session.id).await.unwrap().unwrap().1
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sealing_keys_are_known_with_the_sessions_that_need_them(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    assert_eq!(store.sealing_keys().await.unwrap(), []);
    store.add_sealing_key("k1", b"one").await.unwrap();
    store.add_sealing_key("k2", b"two").await.unwrap();
    store.add_sealing_key("k1", b"one").await.unwrap();
    sealed_session(&store, "k1").await;
    let (ended, _) = sealed_session(&store, "k1").await;
    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    opened(&store, a_session()).await;

    let mut keys = store.sealing_keys().await.unwrap();
    keys.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    let keys: Vec<_> =
        keys.iter().map(|k| (k.key_id.as_str(), k.check_value.as_slice(), k.sessions)).collect();
    assert_eq!(keys, [("k1", b"one".as_slice(), 1), ("k2", b"two".as_slice(), 0)]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_sealing_key_goes_when_nobody_needs_it(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    store.add_sealing_key("k1", b"one").await.unwrap();
    let (session, _) = sealed_session(&store, "k1").await;
    assert!(!store.retire_sealing_key("k1").await.unwrap());
    assert_eq!(store.sealing_keys().await.unwrap().len(), 1);
    store.end_session(session.id, EndReason::Ended, None).await.unwrap();
    assert!(store.retire_sealing_key("k1").await.unwrap());
    assert_eq!(store.sealing_keys().await.unwrap(), []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_to_reseal_come_in_the_order_of_their_ids(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for key in ["k1", "k2", "k3"] {
        store.add_sealing_key(key, b"check").await.unwrap();
    }
    let mut expected = Vec::new();
    for key in ["k1", "k2", "k3", "k1", "k2"] {
        let (session, key) = sealed_session(&store, key).await;
        if key.key_id != "k2" {
            expected.push((session.id, key));
        }
    }
    opened(&store, a_session()).await;
    expected.sort_by_key(|(id, _)| *id);

    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = store.sessions_to_reseal("k2", after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for sealed in page {
            let session = store.session(sealed.id).await.unwrap().unwrap();
            assert_eq!(
                (sealed.client_did, sealed.server_did),
                (session.client_did, session.server_did)
            );
            found.push((sealed.id, sealed.key));
        }
    }
    assert_eq!(found, expected);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_resealed_only_if_it_is_still_the_same(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    store.add_sealing_key("k1", b"one").await.unwrap();
    store.add_sealing_key("k2", b"two").await.unwrap();
    let (session, old) = sealed_session(&store, "k1").await;
    let new = a_sealed_key("k2");
    assert!(store.reseal(session.id, &old, &new).await.unwrap());
    assert_eq!(key_of(&store, &session).await, Some(new.clone()));
    let read = store.session(session.id).await.unwrap().unwrap();
    assert_eq!(read.version, session.version, "no caller asked for this change");

    assert!(!store.reseal(session.id, &old, &a_sealed_key("k2")).await.unwrap(), "done before");
    let changed = a_sealed_key("k2");
    let patch = SessionPatch { session_key: Some(changed.clone()), ..SessionPatch::default() };
    store.update_session(session.id, patch).await.unwrap();
    assert!(!store.reseal(session.id, &new, &a_sealed_key("k2")).await.unwrap(), "changed");
    assert_eq!(key_of(&store, &session).await, Some(changed.clone()));

    store.end_session(session.id, EndReason::Ended, None).await.unwrap();
    assert!(!store.reseal(session.id, &changed, &a_sealed_key("k2")).await.unwrap(), "wiped");
    assert_eq!(key_of(&store, &session).await, None);
    assert!(!store.reseal(a_session().id, &old, &new).await.unwrap(), "never opened");
}
