//! Audit events: written with the change or not at all.

use onceguard::domain::{
    EndReason, NewDid, NewToken, Parties, SessionPatch, TokenHash, TokenScope, TokenScopes,
};
use rstest::rstest;
use serde_json::json;
use uuid::Uuid;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_did, a_new_did, a_public_key, a_session, an_event, opened, read};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_event_reads_as_it_was_written_newest_first(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let before = store.now().await.unwrap();
    for subject in ["one", "two ü", "three"] {
        store.publish(vec![an_event("test.write", &subject)]).await.unwrap();
    }
    let events = store.newest_events(2).await.unwrap();
    let subjects: Vec<_> = events.iter().map(|event| event.subject.as_deref().unwrap()).collect();
    assert_eq!(subjects, ["three", "two ü"]);
    for event in &events {
        assert!(event.at >= before);
        assert_eq!((event.actor.as_deref(), event.kind.as_str()), (Some("operator"), "test.write"));
        assert_eq!(event.data.to_value(), json!({"why": "test"}));
        assert_eq!(event.id.get_version_num(), 7);
    }
}

fn a_token() -> NewToken {
    NewToken {
        id: Uuid::now_v7(),
        name: "agent".into(),
        hash: TokenHash([9; 32]),
        scopes: TokenScopes::new(vec![TokenScope::Admin]),
        binding: None,
        ttl_seconds: None,
    }
}

/// When the event cannot be written, the change does not happen.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_change_goes_unrecorded(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let token = a_token();
    store.create_token(token.clone(), an_event("onceguard.token.created", &"x")).await.unwrap();
    let known = a_new_did();
    store.put_did(known.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    store.raw().break_audit_log().await;
    let event = || an_event("test", &"x");

    assert!(store.publish(vec![event()]).await.is_err());
    let ended = store.end_session(session.id, EndReason::Ended, Some(event())).await;
    assert!(ended.is_err(), "{ended:?}");
    let parties = Parties { client_did: Some(session.client_did.clone()), server_did: None };
    let ended = store.end_sessions(&parties, EndReason::Ended, Some(event()), 10).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(read(&store, session.id).await.end, None);

    let patch =
        SessionPatch { ttl_seconds: Some(60), audit: Some(event()), ..SessionPatch::default() };
    assert!(store.update_session(session.id, patch).await.is_err());
    let unchanged = read(&store, session.id).await;
    assert_eq!((unchanged.version, unchanged.expires_at), (session.version, session.expires_at));

    let did = a_did();
    assert!(store.revoke_did(&did, event()).await.is_err());
    assert_eq!(store.did(&did).await.unwrap(), None);
    assert!(store.put_did(NewDid { did: did.clone(), ..a_new_did() }, event()).await.is_err());
    assert_eq!(store.did(&did).await.unwrap(), None);
    let other_key = NewDid { key: a_public_key(2), ..known.clone() };
    assert!(store.put_did(other_key, event()).await.is_err());
    assert!(store.forget_did(&known.did, event()).await.is_err());
    assert_eq!(store.did(&known.did).await.unwrap().unwrap().key, Some(known.key));

    let other = NewToken { id: Uuid::now_v7(), hash: TokenHash([8; 32]), ..token.clone() };
    assert!(store.create_token(other.clone(), event()).await.is_err());
    assert_eq!(store.token(&other.hash).await.unwrap(), None);
    assert!(store.revoke_token(token.id, event()).await.is_err());
    assert_eq!(store.token(&token.hash).await.unwrap().unwrap().revoked_at, None);

    // What needs no event works.
    let patch = SessionPatch { ttl_seconds: Some(60), ..SessionPatch::default() };
    store.update_session(session.id, patch).await.unwrap();
    store.end_session(session.id, EndReason::Ended, None).await.unwrap();
    assert!(read(&store, session.id).await.end.is_some());
}

/// What changes nothing leaves no event.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recorded_that_did_not_happen(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let event = || an_event("test", &"x");
    store.forget_did(&a_did(), event()).await.unwrap();
    let revoked = a_new_did();
    store.revoke_did(&revoked.did, event()).await.unwrap();
    store.put_did(revoked.clone(), event()).await.unwrap();
    store.forget_did(&revoked.did, event()).await.unwrap();
    let session = opened(&store, a_session()).await;
    let patch = SessionPatch {
        expected_version: Some(session.version + 1),
        audit: Some(event()),
        ..SessionPatch::default()
    };
    store.update_session(session.id, patch).await.unwrap();
    assert_eq!(store.newest_events(10).await.unwrap().len(), 1, "only the revocation");

    store.put_did(a_new_did(), event()).await.unwrap();
    assert_eq!(store.newest_events(10).await.unwrap().len(), 2);
}
