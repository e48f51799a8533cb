//! DIDs: stored, replaced, revoked, forgotten, listed; and revocations that meet openings.

use onceguard::domain::{
    Cursor, Did, DidFilter, DidForgotten, DidRecord, DidStored, KeyType, NewDid, PageRequest,
    PublicKey, SessionFilter,
};
use onceguard::storage::Store;
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_did, a_new_did, a_public_key, a_session, an_event, did, minutes, unique};

async fn record(store: &Store, did: &Did) -> DidRecord {
    unclocked(store.did(did).await.unwrap().unwrap())
}

/// Without the time of the look itself, for comparing.
fn unclocked(record: DidRecord) -> DidRecord {
    DidRecord { observed_at: record.updated_at, ..record }
}

async fn revoke(store: &Store, did: &Did) -> onceguard::domain::DidRevoked {
    store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap()
}

/// The compressed generator of a curve (SEC 2), a valid key that anybody knows.
fn generator(key_type: KeyType) -> PublicKey {
    let x = match key_type {
        KeyType::Secp256k1 => "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        KeyType::P256 => "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        KeyType::Ed25519 => panic!("not in SEC 2"),
    };
    let bytes: Vec<u8> =
        (0..33).map(|i| u8::from_str_radix(&x[2 * i..2 * i + 2], 16).unwrap()).collect();
    PublicKey::new(key_type, &bytes).unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_reads_as_it_was_stored(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    assert_eq!(store.did(&a_did()).await.unwrap(), None);
    for key in [a_public_key(1), generator(KeyType::Secp256k1), generator(KeyType::P256)] {
        let new = NewDid { did: a_did(), key, owner_address: Some("0xAbC ü".into()) };
        let before = store.now().await.unwrap();
        let DidStored::Created(created) =
            store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap()
        else {
            panic!("not created")
        };
        assert_eq!((&created.did, &created.key), (&new.did, &Some(new.key)));
        assert_eq!(created.owner_address, new.owner_address);
        assert_eq!(created.source.as_deref(), Some("stored"));
        assert_eq!(created.revoked_at, None);
        assert!(created.created_at >= before && created.updated_at >= created.created_at);
        let found = store.did(&new.did).await.unwrap().unwrap();
        assert!(found.observed_at >= created.observed_at && created.observed_at >= before);
        assert_eq!(unclocked(found), unclocked(created));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_key_is_replaced(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let new = NewDid { owner_address: Some("0x1".into()), ..a_new_did() };
    store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    let first = record(&store, &new.did).await;
    store.pass(minutes(1)).await;

    let other = NewDid { key: a_public_key(2), owner_address: None, ..new };
    let DidStored::Replaced(second) =
        store.put_did(other.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap()
    else {
        panic!("not replaced")
    };
    assert_eq!((&second.key, &second.owner_address), (&Some(other.key), &None));
    assert_eq!(store.steady(second.created_at), first.created_at);
    assert!(second.updated_at > second.created_at);
    assert_eq!(record(&store, &second.did).await, unclocked(second));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn dids_are_compared_byte_for_byte(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (upper, lower) = (did("did:web:Example.com"), did("did:web:example.com"));
    store
        .put_did(
            NewDid { did: upper.clone(), ..a_new_did() },
            an_event("onceguard.did.stored", &"x"),
        )
        .await
        .unwrap();
    assert_eq!(store.did(&lower).await.unwrap(), None);
    let stored = store
        .put_did(NewDid { did: lower, ..a_new_did() }, an_event("onceguard.did.stored", &"x"))
        .await
        .unwrap();
    assert!(matches!(stored, DidStored::Created(_)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_stands(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (known, unseen) = (a_new_did(), a_did());
    store.put_did(known.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    for did in [&known.did, &unseen] {
        let before = store.now().await.unwrap();
        let first = revoke(&store, did).await;
        assert!(first.first && first.revoked_at >= before);
        let again = revoke(&store, did).await;
        assert_eq!((again.first, again.revoked_at), (false, first.revoked_at));
        assert_eq!(record(&store, did).await.revoked_at, Some(first.revoked_at));
        assert_eq!(
            store.forget_did(did, an_event("onceguard.did.forgotten", &"x")).await.unwrap(),
            DidForgotten::Revoked
        );

        let new = NewDid { did: did.clone(), ..a_new_did() };
        let before = record(&store, did).await;
        let DidStored::Revoked(stands) =
            store.put_did(new, an_event("onceguard.did.stored", &"x")).await.unwrap()
        else {
            panic!("not refused")
        };
        assert_eq!(unclocked(stands), before);
        assert_eq!(record(&store, did).await, before, "nothing changed");
    }
    assert_eq!(record(&store, &known.did).await.key, Some(known.key), "the key stays known");
    assert_eq!(record(&store, &unseen).await.key, None);
    let events = store.newest_events(10).await.unwrap();
    let revocations = events.iter().filter(|event| event.kind != "onceguard.did.stored").count();
    assert_eq!(revocations, 2, "one for each, the first time");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_that_is_not_revoked_can_be_forgotten(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let new = a_new_did();
    assert_eq!(
        store.forget_did(&new.did, an_event("onceguard.did.forgotten", &"x")).await.unwrap(),
        DidForgotten::NotFound
    );
    store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    assert_eq!(
        store.forget_did(&new.did, an_event("onceguard.did.forgotten", &"x")).await.unwrap(),
        DidForgotten::Done
    );
    assert_eq!(store.did(&new.did).await.unwrap(), None);
    assert_eq!(
        store.forget_did(&new.did, an_event("onceguard.did.forgotten", &"x")).await.unwrap(),
        DidForgotten::NotFound
    );
}

async fn list(store: &Store, filter: &DidFilter, limit: u32) -> Vec<Did> {
    let mut found = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = store.list_dids(filter, &PageRequest { limit, after }).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        found.extend(page.items.into_iter().map(|record| record.did));
        let Some(next) = page.next else { return found };
        after = Some(Cursor::parse(&next.encode()).unwrap());
        assert!(found.len() < 1_000, "a list that never ends");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn dids_are_listed_in_the_order_of_their_bytes(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values(1, 2, 500)] limit: u32,
) {
    let store = on.store().await;
    // A linguistic order would put these elsewhere.
    let mut dids = ["did:a:Zz", "did:a:aa", "did:a:AA", "did:a:a-b", "did:a:a.b", "did:a:a_b"]
        .map(did)
        .to_vec();
    for did in &dids {
        store
            .put_did(
                NewDid { did: did.clone(), ..a_new_did() },
                an_event("onceguard.did.stored", &"x"),
            )
            .await
            .unwrap();
    }
    dids.sort();
    assert_eq!(list(&store, &DidFilter::default(), limit).await, dids);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_dids_narrows(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let a = NewDid { did: did("did:a:a"), owner_address: Some("0x1".into()), ..a_new_did() };
    let b = NewDid {
        did: did("did:a:b"),
        owner_address: Some("0x1".into()),
        key: generator(KeyType::P256),
    };
    let c = NewDid { did: did("did:a:c"), owner_address: Some("0x2".into()), ..a_new_did() };
    let d = did("did:a:d");
    for new in [&a, &b, &c] {
        store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    }
    revoke(&store, &c.did).await;
    revoke(&store, &d).await;

    let filter = |owner: Option<&str>, key_type, revoked| DidFilter {
        owner_address: owner.map(Into::into),
        key_type,
        revoked,
    };
    let (a, b, c) = (a.did, b.did, c.did);
    for (filter, expected) in [
        (filter(None, None, None), vec![&a, &b, &c, &d]),
        (filter(Some("0x1"), None, None), vec![&a, &b]),
        (filter(Some("0x3"), None, None), vec![]),
        (filter(None, Some(KeyType::Ed25519), None), vec![&a, &c]),
        (filter(None, Some(KeyType::P256), None), vec![&b]),
        (filter(None, None, Some(true)), vec![&c, &d]),
        (filter(None, None, Some(false)), vec![&a, &b]),
        (filter(Some("0x2"), Some(KeyType::Ed25519), Some(true)), vec![&c]),
        (filter(Some("0x2"), None, Some(false)), vec![]),
    ] {
        let found = list(&store, &filter, 1).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

/// A revocation and openings that cross: either an opening saw the revocation, or the ending of
/// sessions saw what it opened. The instances' connections differ.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_session_of_a_revoked_did_survives(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let instance = if on == Postgres { store.another().await } else { (*store).clone() };
    for round in 0..100_u64 {
        let revoked = did(&format!("did:web:revoked-{}.example", unique()));
        let opening: Vec<_> = (0..4)
            .map(|number| {
                let store = if number % 2 == 0 { (*store).clone() } else { instance.clone() };
                let mut new = a_session();
                if number < 2 {
                    new.client_did = revoked.clone();
                } else {
                    new.server_did = revoked.clone();
                }
                tokio::spawn(async move {
                    for _ in 0..(round % 5) {
                        tokio::task::yield_now().await;
                    }
                    store.open_session(new).await.unwrap()
                })
            })
            .collect();
        let revoking = {
            let (store, did) = (instance.clone(), revoked.clone());
            tokio::spawn(async move {
                revoke(&store, &did).await;
                while store.end_sessions_of_revoked(Some(&did), None, 2).await.unwrap() == 2 {}
            })
        };
        revoking.await.unwrap();
        for task in opening {
            task.await.unwrap();
        }
        for filter in [
            SessionFilter { client_did: Some(revoked.clone()), ..SessionFilter::default() },
            SessionFilter { server_did: Some(revoked.clone()), ..SessionFilter::default() },
        ] {
            let page = PageRequest { limit: 10, after: None };
            let live = store.list_sessions(&filter, &page).await.unwrap().items;
            assert_eq!(live, [], "round {round}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_meets_a_revocation_does_not_undo_it(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for _ in 0..30 {
        let new = a_new_did();
        let putting: Vec<_> = (0..4)
            .map(|_| {
                let (store, new) = ((*store).clone(), new.clone());
                tokio::spawn(async move {
                    store.put_did(new, an_event("onceguard.did.stored", &"x")).await.unwrap()
                })
            })
            .collect();
        let (first, second) = tokio::join!(revoke(&store, &new.did), revoke(&store, &new.did));
        assert_ne!(first.first, second.first, "one of them was first");
        for task in putting {
            task.await.unwrap();
        }
        assert_eq!(record(&store, &new.did).await.revoked_at, Some(first.revoked_at));
    }
}
