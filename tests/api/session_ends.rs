//! Touching and ending sessions.

use rstest::rstest;
use serde_json::json;

use crate::sessions::time;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{TestApp, a_did, minutes};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_is_gone_and_says_when_and_why(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}", app.session().await);
    let before = app.store().now().await.unwrap();
    let ended = app.delete(&path).await.is(204);
    assert!(ended.body.is_empty());
    let first = app.get(&path).await.refused(410, "session_ended");
    assert!(time(&first["ended_at"]) >= before);
    for (method, path, body) in [
        ("DELETE", path.clone(), None),
        ("PATCH", path.clone(), Some(json!({"ttl_seconds": 60}))),
        ("PATCH", path.clone(), Some(json!({"session_key": "a2V5"}))),
        ("POST", format!("{path}/touch"), None),
        ("GET", format!("{path}/key"), None),
        ("POST", format!("{path}/nonces"), Some(json!({"nonce": "n"}))),
    ] {
        let mut request = app.request(method, &path);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let again = app.refuses(request, 410, "session_ended").await;
        assert_eq!(again["ended_at"], first["ended_at"], "{method} {path}");
        assert_eq!(again["end_reason"], "ended");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_touch_keeps_an_idle_session_alive(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({"idle_timeout_seconds": 120})).await;
    let path = format!("/v1/sessions/{}", opened.text_of("id"));
    for _ in 0..3 {
        app.store().pass(minutes(1)).await;
        let touched = app.request("POST", &format!("{path}/touch")).send().await.is(204);
        assert!(touched.body.is_empty());
    }
    let read = app.get(&path).await.is(200);
    assert!(time(&read["last_activity"]) > time(&read["created_at"]));
    app.store().pass(minutes(3)).await;
    app.get(&path).await.refused(410, "session_expired");
    let request = app.request("POST", &format!("{path}/touch"));
    let over = app.refuses(request, 410, "session_expired").await;
    assert_eq!(over["end_reason"], "idle");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn all_sessions_of_a_party_end_at_once(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (alice, bob, carol) = (a_did(), a_did(), a_did());
    let open = async |client: &str, server: &str| {
        let body = json!({"client_did": client, "server_did": server});
        app.post("/v1/sessions", &body).await.is(201).text_of("id")
    };
    let (alice, bob, carol) = (alice.as_str(), bob.as_str(), carol.as_str());
    let (ab, ab2, ac) = (open(alice, bob).await, open(alice, bob).await, open(alice, carol).await);
    let (ba, cb) = (open(bob, alice).await, open(carol, bob).await);
    let state = async |id: &str| app.get(&format!("/v1/sessions/{id}")).await.status;

    let end = async |body| app.post("/v1/sessions/end", &body).await.is(200);
    let ended = end(json!({"client_did": alice, "server_did": bob})).await;
    assert_eq!(*ended.json(), json!({"ended": 2}));
    assert_eq!((state(&ab).await, state(&ab2).await, state(&ac).await), (410, 410, 200));
    assert_eq!(end(json!({"client_did": alice})).await["ended"], 1);
    assert_eq!((state(&ac).await, state(&ba).await, state(&cb).await), (410, 200, 200));
    assert_eq!(end(json!({"server_did": bob})).await["ended"], 1);
    assert_eq!((state(&ba).await, state(&cb).await), (200, 410));
    let before = app.data().await;
    assert_eq!(end(json!({"server_did": bob})).await["ended"], 0);
    assert_eq!(end(json!({"client_did": a_did().as_str()})).await["ended"], 0);
    assert_eq!(app.data().await, before, "nothing to end, nothing to write down");
    assert_eq!(app.metric("onceguard_sessions_ended_total", &["reason=\"ended\""]).await, 4.0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn whose_sessions_end_must_be_said(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    app.session().await;
    for (body, pointers) in [
        (json!({}), &[""][..]),
        (json!({"client_did": null}), &["/client_did"]),
        (json!({"client_did": "x", "server_did": 1}), &["/client_did", "/server_did"]),
        (json!({"client_did": "did:web:a", "all": true}), &["/all"]),
        (json!({"did": "did:web:a"}), &["/did"]),
    ] {
        let request = app.request("POST", "/v1/sessions/end").json(&body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn ends_are_written_into_the_audit_log(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (one, two) = (app.session().await, app.open_with(json!({})).await);
    app.delete(&format!("/v1/sessions/{one}")).await.is(204);
    app.delete(&format!("/v1/sessions/{one}")).await.is(410);
    let client = two.text_of("client_did");
    app.post("/v1/sessions/end", &json!({"client_did": client})).await.is(200);
    let admin = app.tokens().list().await.unwrap().remove(0);

    let events = app.store().newest_events(10).await.unwrap();
    let ends: Vec<_> =
        events.iter().filter(|event| event.kind != "onceguard.token.created").collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert_eq!(
        (&*ends[0].kind, ends[0].subject.as_deref()),
        ("onceguard.sessions.ended", Some(&*client))
    );
    assert_eq!(
        (&*ends[1].kind, ends[1].subject.as_deref()),
        ("onceguard.session.ended", Some(&*one))
    );
    for event in ends {
        assert!(event.actor.as_ref().unwrap().contains(&admin.id.to_string()), "{event:?}");
        assert_eq!(event.outcome, "success", "{event:?}");
    }
}

/// If it cannot be written down, it does not happen.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_cannot_be_audited_does_not_happen(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({})).await;
    let path = format!("/v1/sessions/{}", opened.text_of("id"));
    app.store().raw().break_audit_log().await;
    let before = app.data().await;
    let ended = app.delete(&path).await;
    assert!(ended.status >= 500, "{ended:?}");
    let body = json!({"client_did": opened["client_did"]});
    let ended = app.post("/v1/sessions/end", &body).await;
    assert!(ended.status >= 500, "{ended:?}");
    assert_eq!(app.data().await, before);
    app.get(&path).await.is(200);
}
