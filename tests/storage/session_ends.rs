//! Ending sessions: one, those of parties, those of revoked DIDs.

use onceguard::domain::{Changed, Did, EndReason, Parties, SessionState};
use onceguard::storage::Store;
use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    a_did, a_nonce, a_sealed_key, a_session, an_event, claim, in_session, minutes, opened,
    purge_batch, read,
};

async fn open_between(store: &Store, client: &Did, server: &Did) -> onceguard::domain::Session {
    let mut new = a_session();
    (new.client_did, new.server_did) = (client.clone(), server.clone());
    opened(store, new).await
}

fn is_over(session: &onceguard::domain::Session, reason: EndReason) -> bool {
    matches!(session.state(), SessionState::Over(end) if end.reason == reason)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_recorded_once(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let before = store.now().await.unwrap();
    let Changed::Done(ended) = store.end_session(session.id, EndReason::Ended, None).await.unwrap()
    else {
        panic!("not done")
    };
    assert!(ended.end.unwrap().at >= before);
    assert!(is_over(&ended, EndReason::Ended));

    let again = store.end_session(session.id, EndReason::Restored, None).await.unwrap();
    let Changed::Over(over) = again else { panic!("{again:?}") };
    assert_eq!(over.end, ended.end);
    assert_eq!(store.newest_events(10).await.unwrap(), [], "no event was given");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_end_wipes_the_key_and_keeps_the_nonces(
    #[values(Sqlite, Postgres)] on: Database,
    #[values("one", "parties", "revoked", "overdue")] how: &str,
) {
    let store = on.store().await;
    store.add_sealing_key("k1", b"check").await.unwrap();
    let mut new = a_session();
    new.session_key = Some(a_sealed_key("k1"));
    let session = opened(&store, new).await;
    let spent = a_nonce();
    claim(&store, &in_session(session.id, spent.clone())).await;

    let client = &session.client_did;
    match how {
        "one" => {
            store.end_session(session.id, EndReason::Ended, None).await.unwrap();
        }
        "parties" => {
            let parties = Parties { client_did: Some(client.clone()), server_did: None };
            store.end_sessions(&parties, EndReason::Ended, None, 10).await.unwrap();
        }
        "revoked" => {
            store.revoke_did(client, an_event("onceguard.did.revoked", client)).await.unwrap();
            store.end_sessions_of_revoked(None, None, 10).await.unwrap();
        }
        _ => {
            store.pass(minutes(61)).await;
            purge_batch(&store, onceguard::storage::PurgeStep::EndOverdueSessions, 10).await;
        }
    }
    assert!(read(&store, session.id).await.end.is_some());
    assert_eq!(store.session_key(session.id).await.unwrap().unwrap().1, None);
    let left = "count(*) FROM sessions WHERE session_key IS NOT NULL OR key_id IS NOT NULL";
    assert_eq!(store.raw().number(left).await, 0);
    assert!(store.session_nonce(session.id, &spent).await.unwrap().is_some());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_end_and_its_audit_event_come_together(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let event = an_event("onceguard.session.ended", &session.id);
    store.end_session(session.id, EndReason::Ended, Some(event)).await.unwrap();
    let events = store.newest_events(10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].kind, "onceguard.session.ended");
    assert_eq!(events[0].subject, Some(session.id.to_string()));
    assert_eq!(events[0].data.to_value()["why"], json!("test"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_parties_end_and_no_others(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (one, two, three) = (a_did(), a_did(), a_did());
    let a = open_between(&store, &one, &two).await.id;
    let b = open_between(&store, &one, &three).await.id;
    let c = open_between(&store, &two, &one).await.id;

    let both = Parties { client_did: Some(one.clone()), server_did: Some(two.clone()) };
    assert_eq!(store.end_sessions(&both, EndReason::Ended, None, 10).await.unwrap(), 1);
    assert!(is_over(&read(&store, a).await, EndReason::Ended));
    assert_eq!(read(&store, b).await.state(), SessionState::Active);

    let client = Parties { client_did: Some(one.clone()), server_did: None };
    assert_eq!(store.end_sessions(&client, EndReason::Ended, None, 10).await.unwrap(), 1);
    assert!(is_over(&read(&store, b).await, EndReason::Ended));
    assert_eq!(read(&store, c).await.state(), SessionState::Active);

    let server = Parties { client_did: None, server_did: Some(one) };
    assert_eq!(store.end_sessions(&server, EndReason::Ended, None, 10).await.unwrap(), 1);
    assert!(is_over(&read(&store, c).await, EndReason::Ended));
    assert_eq!(store.end_sessions(&server, EndReason::Ended, None, 10).await.unwrap(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_parties_end_in_batches(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (client, server) = (a_did(), a_did());
    for _ in 0..5 {
        open_between(&store, &client, &server).await;
    }
    let parties = Parties { client_did: Some(client.clone()), server_did: None };
    for expected in [2, 2, 1, 0] {
        let event = an_event("onceguard.sessions.ended", &client);
        let ended = store.end_sessions(&parties, EndReason::Ended, Some(event), 2).await.unwrap();
        assert_eq!(ended, expected);
    }
    let events = store.newest_events(10).await.unwrap();
    let counts: Vec<_> =
        events.iter().map(|event| event.data.to_value()["sessions"].clone()).collect();
    assert_eq!(counts, [json!(1), json!(2), json!(2)], "newest first, and none for nothing");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_expired_is_not_ended_again(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let client = &session.client_did;
    store.pass(minutes(61)).await;
    let parties = Parties { client_did: Some(client.clone()), server_did: None };
    assert_eq!(store.end_sessions(&parties, EndReason::Ended, None, 10).await.unwrap(), 0);
    assert_eq!(read(&store, session.id).await.state().as_str(), "expired");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_revoked_dids_end(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (bad, worse, good, other) = (a_did(), a_did(), a_did(), a_did());
    let a = open_between(&store, &bad, &good).await.id;
    let b = open_between(&store, &good, &bad).await.id;
    let c = open_between(&store, &worse, &good).await.id;
    let d = open_between(&store, &good, &other).await.id;
    for did in [&bad, &worse] {
        store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
    }

    assert_eq!(
        store.end_sessions_of_revoked(Some(&good), None, 10).await.unwrap(),
        0,
        "not revoked"
    );
    assert_eq!(store.end_sessions_of_revoked(Some(&bad), None, 10).await.unwrap(), 2);
    for id in [a, b] {
        assert!(is_over(&read(&store, id).await, EndReason::DidRevoked));
    }
    assert_eq!(read(&store, c).await.state(), SessionState::Active);

    assert_eq!(store.end_sessions_of_revoked(None, None, 10).await.unwrap(), 1);
    assert!(is_over(&read(&store, c).await, EndReason::DidRevoked));
    assert_eq!(read(&store, d).await.state(), SessionState::Active);
    assert_eq!(store.end_sessions_of_revoked(None, None, 10).await.unwrap(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_revoked_dids_end_in_batches(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (bad, good) = (a_did(), a_did());
    for number in 0..5 {
        // Also with itself: such a session is ended, and counted, once.
        let server = if number == 0 { &bad } else { &good };
        open_between(&store, &bad, server).await;
    }
    store.revoke_did(&bad, an_event("onceguard.did.revoked", &bad)).await.unwrap();
    for expected in [2, 2, 1, 0] {
        assert_eq!(store.end_sessions_of_revoked(Some(&bad), None, 2).await.unwrap(), expected);
    }
}
