//! The audit log: what a caller does to trust, and to secrets, is written down with its name.

use onceguard::domain::{KeyType, TokenScope};
use rstest::rstest;
use serde_json::json;

use crate::dids::ed25519;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, TestApp};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_trust_is_written_down(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}", app.session().await);
    let did = "/v1/dids/did:example:stored";
    app.patch(&path, &json!({"metadata": {"no": "trust"}})).await.is(200);
    app.patch(&path, &json!({"ttl_seconds": 60})).await.is(200);
    app.patch(&path, &json!({"session_key": "bmV3"})).await.is(200);
    app.get(&format!("{path}/key")).await.is(200);
    app.put(did, &ed25519(1)).await.is(201);
    app.put(did, &ed25519(2)).await.is(200);
    app.delete(did).await.is(204);
    app.delete(did).await.is(404);
    app.delete(&path).await.is(204);
    let mut audited = app.audited().await;
    audited.reverse();
    assert_eq!(
        audited,
        [
            "session.changed",
            "session.changed",
            "session.key_read",
            "did.stored",
            "did.stored",
            "did.forgotten",
            "session.ended"
        ]
    );

    let events = app.store().newest_events(3).await.unwrap();
    let [_, forgotten, replaced] = &events[..] else { panic!("{events:?}") };
    for event in [forgotten, replaced] {
        assert!(event.actor.as_ref().unwrap().starts_with("token:admin ("), "{event:?}");
        assert_eq!(event.subject.as_deref(), Some("did:example:stored"));
    }
    let key = ed25519(2);
    assert_eq!(replaced.data.to_value()["public_key"], key["public_key"]);
    assert_eq!(replaced.data.to_value()["key_type"], key["key_type"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_key_is_given_to_nobody_unrecorded(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let key = "dGhlIGtleSBvZiB0d28gcGFydGllcw==";
    let fields = json!({"client_did": agent.did.as_str(), "session_key": key});
    let id = app.open_with(fields).await.text_of("id");
    let path = format!("/v1/sessions/{id}/key");
    agent.request(&app, "GET", &path).send().await.is(200);
    app.caller(&[TokenScope::SessionKeys]).await.get(&path).await.is(200);
    // What is refused reads nothing.
    app.caller(&[TokenScope::Sessions]).await.get(&path).await.is(403);
    Agent::new(KeyType::Ed25519).request(&app, "GET", &path).send().await.is(404);

    let events = app.store().newest_events(500).await.unwrap();
    let mut readers = events.iter().filter(|event| event.kind == "onceguard.session.key_read");
    let (token, party) = (readers.next().unwrap(), readers.next().unwrap());
    assert_eq!(readers.next(), None);
    assert!(token.actor.as_ref().unwrap().starts_with("token:of a test ("), "{token:?}");
    assert_eq!(party.actor.as_deref(), Some(agent.did.as_str()));
    assert_eq!((&token.subject, &party.subject), (&Some(id.clone()), &Some(id)));
    assert!(!format!("{events:?}").contains(key));

    app.store().raw().break_audit_log().await;
    let refused = app.get(&path).await;
    assert!(refused.status >= 500 && !refused.text().contains(key), "{refused:?}");
}
