//! Audit events: written with the change or not at all.

use onceguard::domain::{EndReason, NewToken, TokenHash, TokenScope, TokenScopes};
use onceguard::storage::Parties;
use rstest::rstest;
use serde_json::json;
use uuid::Uuid;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{a_did, a_session, an_audit_event, opened, read};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_event_reads_as_it_was_written_newest_first(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let before = store.now().await.unwrap();
    for subject in ["one", "two ü", "three"] {
        store.audit(an_audit_event("test.write", &subject)).await.unwrap();
    }
    let events = store.audit_events(2).await.unwrap();
    let subjects: Vec<_> = events.iter().map(|event| event.subject.as_str()).collect();
    assert_eq!(subjects, ["three", "two ü"]);
    for event in &events {
        assert!(event.at >= before);
        assert_eq!((event.actor.as_str(), event.action.as_str()), ("operator", "test.write"));
        assert_eq!(event.detail, json!({"why": "test"}));
        assert_eq!(event.id.get_version_num(), 7);
    }
}

fn a_token() -> NewToken {
    NewToken {
        id: Uuid::now_v7(),
        name: "agent".into(),
        hash: TokenHash([9; 32]),
        scopes: TokenScopes::new(vec![TokenScope::Admin]),
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
    store.create_token(token.clone(), an_audit_event("token.create", &"x")).await.unwrap();
    store.raw().break_audit_log().await;
    let event = || an_audit_event("test", &"x");

    assert!(store.audit(event()).await.is_err());
    let ended = store.end_session(session.id, EndReason::Ended, Some(event())).await;
    assert!(ended.is_err(), "{ended:?}");
    let parties = Parties { client_did: Some(session.client_did.clone()), server_did: None };
    let ended = store.end_sessions(&parties, EndReason::Ended, Some(event()), 10).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(read(&store, session.id).await.ended_at, None);

    let did = a_did();
    assert!(store.revoke_did(&did, event()).await.is_err());
    assert_eq!(store.did(&did).await.unwrap(), None);

    let other = NewToken { id: Uuid::now_v7(), hash: TokenHash([8; 32]), ..token.clone() };
    assert!(store.create_token(other.clone(), event()).await.is_err());
    assert_eq!(store.token(&other.hash).await.unwrap(), None);
    assert!(store.revoke_token(token.id, event()).await.is_err());
    assert_eq!(store.token(&token.hash).await.unwrap().unwrap().revoked_at, None);

    // What needs no event works.
    store.end_session(session.id, EndReason::Ended, None).await.unwrap();
    assert!(read(&store, session.id).await.ended_at.is_some());
}
