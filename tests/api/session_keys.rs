//! Session keys: sealed at rest, given only to who may have them, shown nowhere else.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, TestApp, hex, http_client};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_comes_back_as_it_was_and_is_never_cached(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut keys = vec![STANDARD.encode([0]), STANDARD.encode(&every_byte)];
    keys.push(STANDARD.encode(every_byte.repeat(16)));
    let mut paths = Vec::new();
    for key in &keys {
        let opened = app.open_with(json!({"session_key": key})).await;
        paths.push(format!("/v1/sessions/{}/key", opened.text_of("id")));
    }
    for round in 0..2 {
        for (path, key) in paths.iter().zip(&keys) {
            let answer = app.get(path).await.is(200);
            assert_eq!(*answer.json(), json!({"session_key": key}), "round {round}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("etag"), None);
        }
        // It is opened by the same sealing key after a restart.
        app.restart().await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_in_no_other_answer_and_sealed_at_rest(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let key = STANDARD.encode("the one and only session key");
    let opened = app.open_with(json!({"session_key": key})).await;
    let id = opened.text_of("id");
    let path = format!("/v1/sessions/{id}");
    let again =
        json!({"id": id, "client_did": "did:web:a", "server_did": "did:web:b", "session_key": key});
    let answers = [
        opened,
        app.get(&path).await,
        app.get("/v1/sessions?state=all").await,
        app.patch(&path, &json!({"session_key": key})).await.is(200),
        app.patch(&path, &json!({"session_key": key, "ttl_seconds": 0})).await.is(422),
        app.patch(&path, &json!({"session_key": format!("{key}!")})).await.is(422),
        app.post("/v1/sessions", &again).await.is(409),
        app.get("/v1/stats").await,
        app.delete(&path).await.is(204),
        app.get(&path).await.is(410),
        app.get("/v1/sessions?state=all").await,
        app.ops().get("/metrics").await,
    ];
    for answer in answers {
        let text = answer.text();
        assert!(!text.contains(&key[..8]) && !text.contains("\"session_key\":"), "{text}");
    }
    // Neither the bytes nor their base64 are in the database.
    let other = app.open_with(json!({"session_key": key})).await.text_of("id");
    let hex = hex(b"the one and only");
    let data = app.data().await.to_lowercase();
    assert!(data.contains(&other.replace('-', "")) || data.contains(&other));
    assert!(!data.contains(&hex) && !data.contains(&key.to_lowercase()), "{data}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_a_key_says_so(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}/key", app.session().await);
    app.get(&path).await.refused(404, "not_found");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_and_wiped_at_the_end(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}", app.session().await);
    let key = format!("{path}/key");
    for value in ["b25l", "dHdv"] {
        let before = app.get(&path).await;
        let after = app.patch(&path, &json!({"session_key": value})).await.is(200);
        assert_ne!(before.header("etag"), after.header("etag"), "a new key is a change");
        assert_eq!(app.get(&key).await["session_key"], value);
    }
    let sealed = "count(*) FROM sessions WHERE session_key IS NOT NULL OR key_id IS NOT NULL";
    assert_eq!(app.store().raw().number(sealed).await, 1);
    app.delete(&path).await.is(204);
    app.get(&key).await.refused(410, "session_ended");
    assert_eq!(app.store().raw().number(sealed).await, 0, "wiped at once");
}

/// A sealed key that was copied onto another session, or damaged, does not open, and the answer
/// says nothing about why.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_moved_key_does_not_open(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    app.open_with(json!({"session_key": "b25l"})).await;
    let target = app.open_with(json!({"session_key": "dHdv"})).await.text_of("id");
    let raw = app.store().raw();
    let target_id = raw.id(onceguard::domain::SessionId::parse(&target).unwrap());
    raw.execute(&format!(
        "UPDATE sessions SET session_key = (SELECT session_key FROM sessions \
         WHERE id <> {target_id}) WHERE id = {target_id}"
    ))
    .await;
    app.get(&format!("/v1/sessions/{target}/key")).await.refused(500, "internal_error");
}

/// What goes over the wire in the clear must stay on this machine.
#[rstest]
#[case::refused(false)]
#[case::allowed(true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_sent_in_the_clear_to_elsewhere(#[case] allowed: bool) {
    let app = TestApp::start_with(Sqlite, |config| {
        config.server.listen = SocketAddr::from(([0, 0, 0, 0], 0));
        config.server.allow_plaintext_keys = allowed;
    })
    .await;
    let base = format!("http://127.0.0.1:{}", app.api_address().port());
    let caller = Caller::new(http_client().build().unwrap(), base, Some(app.token_text()));
    let opened = caller.open_with(json!({"session_key": "c2VjcmV0"})).await.text_of("id");
    let answer = caller.get(&format!("/v1/sessions/{opened}/key")).await;
    if allowed {
        assert_eq!(answer.is(200)["session_key"], "c2VjcmV0");
    } else {
        answer.refused(403, "forbidden");
        caller.get(&format!("/v1/sessions/{opened}")).await.is(200);
    }
}
