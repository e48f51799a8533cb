//! What resolvers read of DIDs: which of two readings stands, and what none may touch.

use std::time::Duration;

use onceguard::domain::{Did, DidDocument, DidFilter, DidRecord, Gone, NewDid, PageRequest};
use onceguard::storage::{Answer, Reading, Store};
use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_did, a_document, a_new_did, a_reading, an_event, minutes};

async fn find(store: &Store, did: &Did) -> Option<DidRecord> {
    store.did(did).await.unwrap().map(unclocked)
}

/// Records a reading, sees that what it returned is what stands, and returns that.
async fn recorded(store: &Store, reading: Reading) -> Option<DidRecord> {
    let did = reading.did.clone();
    let stands = store.record_did(reading).await.unwrap().map(unclocked);
    assert_eq!(find(store, &did).await, stands);
    stands
}

/// Without the time of the look itself, for comparing.
fn unclocked(record: DidRecord) -> DidRecord {
    DidRecord { observed_at: record.updated_at, ..record }
}

async fn revoke(store: &Store, did: &Did) {
    store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
}

fn later(reading: &Reading, seconds: u64) -> Reading {
    let asked_at = reading.asked_at + Duration::from_secs(seconds);
    Reading { asked_at, ..reading.clone() }
}

fn gone(reading: &Reading, gone: Gone) -> Reading {
    Reading { answer: Answer::Gone(gone), ..reading.clone() }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reading_is_found_as_it_was_read(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let did = a_did();
    let odd = json!({
        "id": did.as_str(), "service": [{"id": "#s", "n": [0.5, -1, 1e300, -1e-300, 18_446_744_073_709_551_615_u64]}],
        "ü\"\\/\n": {"": [null, true, {}]}, "verificationMethod": [],
    });
    let odd = DidDocument::parse(&did, odd).unwrap();
    for document in [a_document(&did, 1), odd] {
        let key = document.first_key().cloned();
        let owner_address = Some("0xAbC".to_owned());
        let reading = Reading {
            source: "registry",
            answer: Answer::Document {
                document: document.clone(),
                owner_address: owner_address.clone(),
            },
            version: Some(7),
            ..a_reading(&store, &did, 1).await
        };
        let before = store.now().await.unwrap();
        let stands = store.record_did(reading.clone()).await.unwrap().unwrap();
        assert!(stands.updated_at >= before && stands.observed_at >= stands.updated_at);
        assert_eq!(
            unclocked(stands.clone()),
            DidRecord {
                did: did.clone(),
                key,
                owner_address,
                document: Some(document),
                gone: None,
                revoked_at: None,
                source: Some("registry".into()),
                version: Some(7),
                fetched_at: Some(reading.asked_at),
                stale_at: Some(reading.asked_at + reading.ttl),
                created_at: stands.created_at,
                updated_at: stands.updated_at,
                observed_at: stands.updated_at,
            }
        );
        assert_eq!(find(&store, &did).await, Some(unclocked(stands)));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn lists_leave_documents_out(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let reading = Reading { version: Some(7), ..a_reading(&store, &a_did(), 1).await };
    let stands = recorded(&store, reading).await.unwrap();
    let page = PageRequest { limit: 10, after: None };
    let listed = store.list_dids(&DidFilter::default(), &page).await.unwrap().items;
    let listed: Vec<_> = listed.into_iter().map(unclocked).collect();
    assert_eq!(listed, [DidRecord { document: None, ..stands }]);
}

/// A stands; B arrives. Versions, and by how many seconds B was asked for later than A.
#[rstest]
#[case::later(None, None, 1, true)]
#[case::at_the_same_time(None, None, 0, true)]
#[case::earlier(None, None, -1, false)]
#[case::a_higher_version(Some(5), Some(6), 1, true)]
#[case::the_same_version(Some(5), Some(5), 1, true)]
#[case::a_lower_version(Some(5), Some(4), 1, false)]
#[case::a_higher_version_asked_for_earlier(Some(5), Some(6), -1, false)]
#[case::the_same_version_asked_for_earlier(Some(5), Some(5), -1, false)]
#[case::a_lower_version_asked_for_earlier(Some(5), Some(4), -1, false)]
#[case::the_first_version(None, Some(0), 1, true)]
#[case::no_version_any_more(Some(5), None, 1, true)]
#[case::no_version_and_earlier(Some(5), None, -1, false)]
#[tokio::test(flavor = "multi_thread")]
async fn the_newer_reading_stands(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[case] a: Option<u64>,
    #[case] b: Option<u64>,
    #[case] seconds_later: i64,
    #[case] b_stands: bool,
) {
    let store = on.store().await;
    for (a_is_gone, b_is_gone) in [(false, false), (false, true), (true, false), (true, true)] {
        let (a, b) = ((a, a_is_gone), (b, b_is_gone));
        one_after_another(&store, a, b, seconds_later, b_stands).await;
    }
}

/// A reading's version, and whether it says that the DID is gone.
type Kind = (Option<u64>, bool);

async fn one_after_another(
    store: &Store,
    (a, a_is_gone): Kind,
    (b, b_is_gone): Kind,
    seconds_later: i64,
    b_stands: bool,
) {
    let did = a_did();
    let first = Reading { version: a, ..a_reading(store, &did, 1).await };
    let mut before = recorded(store, first.clone()).await.unwrap();
    if a_is_gone {
        before = recorded(store, gone(&first, Gone::NotFound)).await.unwrap();
        assert_eq!(before.gone, Some(Gone::NotFound));
    }
    let second = Reading {
        version: b,
        asked_at: first.asked_at + chrono::Duration::seconds(seconds_later),
        source: "universal",
        ..a_reading(store, &did, 2).await
    };
    let second = if b_is_gone { gone(&second, Gone::Deactivated) } else { second };
    let after = recorded(store, second.clone()).await.unwrap();
    if !b_stands {
        assert_eq!(after, before, "nothing changed");
        return;
    }
    let number = if b_is_gone { 1 } else { 2 };
    let document = a_document(&did, number);
    assert_eq!(after.key.as_ref(), document.first_key());
    assert_eq!(after.document, Some(document));
    assert_eq!(after.gone, b_is_gone.then_some(Gone::Deactivated));
    assert_eq!((after.version, after.source.as_deref()), (b, Some("universal")));
    assert_eq!(after.fetched_at, Some(second.asked_at));
    assert_eq!(after.stale_at, Some(second.asked_at + second.ttl));
    assert_eq!(after.created_at, before.created_at);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_stored_by_hand_gives_way(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values(false, true)] is_gone: bool,
) {
    let store = on.store().await;
    let did = a_did();
    // Asked for before the key was stored.
    let reading = a_reading(&store, &did, 2).await;
    let new = NewDid { did: did.clone(), owner_address: Some("0x1".into()), ..a_new_did() };
    store.put_did(new.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    if is_gone {
        let stands = recorded(&store, gone(&reading, Gone::NotFound)).await.unwrap();
        assert_eq!((stands.gone, &stands.key), (Some(Gone::NotFound), &Some(new.key)));
        assert_eq!(stands.owner_address.as_deref(), Some("0x1"));
        assert_eq!(stands.fetched_at, Some(reading.asked_at));
    } else {
        let stands = recorded(&store, reading.clone()).await.unwrap();
        assert_eq!((&stands.document, stands.owner_address), (&Some(a_document(&did, 2)), None));
    }
    // From here on it is a resolver's.
    let earlier =
        Reading { asked_at: reading.asked_at - minutes(1), ..a_reading(&store, &did, 3).await };
    let before = find(&store, &did).await;
    assert_eq!(recorded(&store, earlier).await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn storing_by_hand_forgets_what_was_read(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let did = a_did();
    let reading = Reading { version: Some(5), ..a_reading(&store, &did, 2).await };
    recorded(&store, reading.clone()).await;
    recorded(&store, gone(&reading, Gone::Deactivated)).await;
    store
        .put_did(NewDid { did: did.clone(), ..a_new_did() }, an_event("onceguard.did.stored", &"x"))
        .await
        .unwrap();
    let stands = find(&store, &did).await.unwrap();
    assert_eq!(
        (stands.document, stands.gone, stands.version, stands.stale_at),
        (None, None, None, None)
    );
    assert_eq!(stands.source.as_deref(), Some("stored"));
    let lower = Reading { version: Some(4), ..reading };
    assert_eq!(recorded(&store, lower).await.unwrap().version, Some(4));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_reading_touches_a_revoked_did(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (read, stored, unseen) = (a_did(), a_did(), a_did());
    recorded(&store, a_reading(&store, &read, 1).await).await;
    store
        .put_did(
            NewDid { did: stored.clone(), ..a_new_did() },
            an_event("onceguard.did.stored", &"x"),
        )
        .await
        .unwrap();
    for did in [&read, &stored, &unseen] {
        revoke(&store, did).await;
        let before = find(&store, did).await;
        assert!(before.as_ref().unwrap().revoked_at.is_some());
        let reading = later(&a_reading(&store, did, 2).await, 60);
        assert_eq!(recorded(&store, reading.clone()).await, before);
        assert_eq!(recorded(&store, gone(&reading, Gone::NotFound)).await, before);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_may_come_back(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let did = a_did();
    let reading = a_reading(&store, &did, 1).await;
    let deactivated = gone(&reading, Gone::Deactivated);
    assert_eq!(recorded(&store, deactivated).await, None, "nothing to mark");

    recorded(&store, reading.clone()).await;
    let marked = recorded(&store, gone(&later(&reading, 2), Gone::NotFound)).await.unwrap();
    assert_eq!(marked.gone, Some(Gone::NotFound));
    assert_eq!(marked.document, Some(a_document(&did, 1)), "it stays known");
    assert_eq!(recorded(&store, later(&reading, 1)).await.unwrap(), marked, "read before it went");
    let back = recorded(&store, later(&reading, 3)).await.unwrap();
    assert_eq!((back.gone, back.document), (None, Some(a_document(&did, 1))));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_no_longer_parses_is_none(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let did = a_did();
    let before = recorded(&store, a_reading(&store, &did, 1).await).await.unwrap();
    assert!(before.document.is_some());
    for unreadable in ["{}", "[]", "{\"id\": \"did:web:another.example\"}"] {
        store.raw().execute(&format!("UPDATE dids SET document = '{unreadable}'")).await;
        let after = find(&store, &did).await.unwrap();
        assert_eq!((after.document, &after.key), (None, &before.key), "{unreadable}");
    }
}

/// Readings that cross: the newest stands, whichever came last, and a revocation ends it all.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn readings_that_cross_leave_the_newest(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values(false, true)] with_versions: bool,
    #[values(false, true)] revoked: bool,
) {
    let store = on.store().await;
    let instance = if on == Postgres { store.another().await } else { (*store).clone() };
    for round in 0..20_u8 {
        let did = a_did();
        let first = a_reading(&store, &did, 0).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in (0..8_u8).map(|n| (n + round) % 8) {
            let store = if number % 2 == 0 { (*store).clone() } else { instance.clone() };
            let reading = Reading {
                version: with_versions.then_some(number.into()),
                ..a_reading(&store, &did, number).await
            };
            let asked_at = first.asked_at + Duration::from_secs(number.into());
            let reading = Reading { asked_at, ..reading };
            tasks.spawn(async move {
                let stands = store.record_did(reading).await.unwrap().unwrap();
                assert!(stands.revoked_at.is_some() || stands.fetched_at >= Some(asked_at));
            });
        }
        if revoked {
            let (store, did) = (instance.clone(), did.clone());
            tasks.spawn(async move { revoke(&store, &did).await });
        }
        tasks.join_all().await;
        let stands = find(&store, &did).await.unwrap();
        assert_eq!(stands.revoked_at.is_some(), revoked);
        if !revoked {
            assert_eq!(stands.document, Some(a_document(&did, 7)), "round {round}");
            assert_eq!(stands.version, with_versions.then_some(7));
        }
    }
}
