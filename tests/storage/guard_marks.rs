//! Each transaction that decides is counted by its connection: in the database and in memory alike.

use onceguard::config::OnCut::Recover;
use onceguard::domain::{EndReason, NewSession, Parties, Session, SessionId, SessionPatch};
use onceguard::storage::{Ending, OnLock, Store};
use rstest::rstest;
use uuid::Uuid;

use crate::guard::{cut, opens, serving};
use crate::support::Database::Postgres;
use crate::support::{
    a_did, a_new_did, a_nonce, a_session, an_event, ask_all, by_signer, claim, in_seconds,
    in_session, naming, opened,
};
use crate::tokens::a_token;

/// What is acknowledged, and is the only thing that is missing afterwards.
async fn decide(store: &Store, what: &str, plain: &Session, counted: &Session) {
    let event = an_event("onceguard.did.revoked", &"x");
    match what {
        // After what `decide` was prepared by, the slow one goes around the quick statement.
        "claim" | "claim slowly" => {
            claim(store, &in_session(plain.id, a_nonce())).await;
        }
        "counted" => {
            claim(store, &in_session(counted.id, a_nonce())).await;
        }
        "signer" => {
            let until = in_seconds(store, 600).await;
            claim(store, &by_signer(&plain.client_did, a_nonce(), until)).await;
        }
        "named" => {
            let until = in_seconds(store, 600).await;
            let by = by_signer(&plain.client_did, a_nonce(), until);
            claim(store, &naming(by, plain.id)).await;
        }
        "open" => {
            opened(store, a_session()).await;
        }
        "end" => {
            store.end_session(counted.id, EndReason::Ended, None).await.unwrap();
        }
        "end each" => {
            let ending = |id| Ending { id, reason: EndReason::Ended, audit: None };
            let endings = [plain.id, counted.id].map(ending);
            for ended in store.end_each(&endings, OnLock::Wait).await {
                ended.unwrap();
            }
        }
        "end all" => {
            let parties = Parties { client_did: Some(plain.client_did.clone()), server_did: None };
            let ended = store.end_sessions(&parties, EndReason::Ended, None, 9).await;
            assert_eq!(ended.unwrap(), 1);
        }
        "update" => {
            let patch = SessionPatch { ttl_seconds: Some(60), ..SessionPatch::default() };
            store.update_session(plain.id, patch).await.unwrap();
        }
        "revoke" => {
            store.revoke_did(&a_did(), event).await.unwrap();
        }
        "put" => {
            store.put_did(a_new_did(), event).await.unwrap();
        }
        "forget" => {
            store.forget_did(&plain.client_did, event).await.unwrap();
        }
        "token" => {
            store.create_token(a_token(), event).await.unwrap();
        }
        "revoke token" => {
            store.revoke_token(Uuid::now_v7(), event).await.unwrap();
        }
        other => panic!("{other}"),
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn one_lost_decision_is_noticed(
    #[values(
        "claim",
        "claim slowly",
        "counted",
        "signer",
        "named",
        "open",
        "end",
        "end each",
        "end all",
        "update",
        "revoke",
        "put",
        "forget",
        "token",
        "revoke token"
    )]
    what: &str,
) {
    let store = serving(Postgres, Recover).await;
    let plain = opened(&store, a_session()).await;
    let counted = opened(&store, NewSession { max_claims: Some(9), ..a_session() }).await;
    decide(&store, what, &plain, &counted).await;
    cut(&store).await;
    opens(&store).await.unwrap();
    assert_eq!(store.recovered_at(), None, "nothing is missing");

    let plain = opened(&store, a_session()).await;
    let counted = opened(&store, NewSession { max_claims: Some(9), ..a_session() }).await;
    if what == "claim slowly" {
        // The quick statement leaves it over, so the next claim is not tried there.
        let unknown = in_session(SessionId(Uuid::now_v7()), a_nonce());
        ask_all(&store, &[unknown]).await;
    }
    store.raw().execute("CREATE TABLE before AS SELECT * FROM marks").await;
    decide(&store, what, &plain, &counted).await;
    store.raw().execute("DELETE FROM marks; INSERT INTO marks SELECT * FROM before").await;
    cut(&store).await;
    opens(&store).await.unwrap();
    assert!(store.recovered_at().is_some(), "{what} was lost");
}

/// Claims that the quick statement leaves over are counted where it is tried, too.
#[tokio::test(flavor = "multi_thread")]
async fn claims_that_find_no_session_are_counted_as_often_as_they_are_acknowledged() {
    let store = serving(Postgres, Recover).await;
    for _ in 0..9 {
        let unknown = in_session(SessionId(Uuid::now_v7()), a_nonce());
        ask_all(&store, &[unknown]).await;
    }
    cut(&store).await;
    ask_all(&store, &[in_session(SessionId(Uuid::now_v7()), a_nonce())]).await;
    opens(&store).await.unwrap();
    assert_eq!(store.recovered_at(), None);
}

/// A transaction that commits when its connection counts as closed leaves one.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_is_not_remembered_is_removed() {
    let store = serving(Postgres, Recover).await;
    let stray =
        "INSERT INTO marks (id, instance, value) SELECT gen_random_uuid(), id, 77 FROM instances";
    store.raw().execute(stray).await;
    for _ in 0..2 {
        store.heartbeat().await.unwrap();
    }
    assert_eq!(store.raw().number("count(*) FROM marks WHERE value = 77").await, 0);
    assert!(store.raw().number("count(*) FROM marks").await > 0, "those that are remembered stay");
}
