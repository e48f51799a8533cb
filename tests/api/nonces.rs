//! Claiming one nonce in a session, and asking whether one was used.

use rstest::rstest;
use serde_json::{Value, json};

use crate::sessions::{members, time};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{TestApp, minutes};

fn nonce(text: &str) -> Value {
    json!({ "nonce": text })
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_is_accepted_once(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({})).await;
    let id = opened.text_of("id");
    let path = format!("/v1/sessions/{id}/nonces");
    let before = app.store().now().await.unwrap();
    let first = app.post(&path, &nonce("n-1")).await.is(201);
    let after = app.store().now().await.unwrap();
    assert_eq!(members(first.json()), ["expires_at", "nonce", "session_id", "used_at"]);
    assert_eq!((&first["nonce"], &first["session_id"]), (&json!("n-1"), &json!(id)));
    let used_at = time(&first["used_at"]);
    assert!(before <= used_at && used_at <= after);
    assert_eq!(first["expires_at"], opened["deadline"], "kept until the session's deadline");
    assert_eq!(first.header("idempotency-replayed"), None);

    for _ in 0..3 {
        let request = app.request("POST", &path).json(&nonce("n-1"));
        let replayed = app.refuses(request, 409, "nonce_replayed").await;
        assert_eq!(replayed["first_used_at"], first["used_at"]);
    }
    // Nonces are compared byte for byte, and are of their session alone.
    for other in ["N-1", "n-1.", "n-", "n%2D1"] {
        app.post(&path, &nonce(other)).await.is(201);
    }
    let other = app.session().await;
    app.post(&format!("/v1/sessions/{other}/nonces"), &nonce("n-1")).await.is(201);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_claims_at_once_one_is_accepted(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}/nonces", app.session().await);
    for round in 0..5 {
        let body = nonce(&format!("round-{round}"));
        let claims = (0..24).map(|_| app.post(&path, &body));
        let answers = futures_util::future::join_all(claims).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == 201);
        assert_eq!(won.len(), 1);
        for answer in lost {
            let lost = answer.refused(409, "nonce_replayed");
            assert_eq!(lost["first_used_at"], won[0]["used_at"]);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_is_1_to_255_visible_ascii_characters(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}/nonces", app.session().await);
    let (longest, too_long) = ("x".repeat(255), "x".repeat(256));
    for text in ["", " ", "a b", "a\tb", "a\nb", "\u{7f}", "\0", "é", "\u{1F511}", &too_long] {
        let request = app.request("POST", &path).json(&nonce(text));
        app.refuses(request, 422, "validation_failed").await.names(&["/nonce"]);
    }
    for value in [json!(null), json!(1), json!(["n"]), json!({})] {
        let request = app.request("POST", &path).json(&json!({ "nonce": value }));
        app.refuses(request, 422, "validation_failed").await.names(&["/nonce"]);
    }
    for (body, pointers) in [
        (r"{}", &["/nonce"][..]),
        (r#"{"nonce":"a","nonce":"b"}"#, &["/nonce"]),
        (r#"{"nonce":"a","session_id":"x"}"#, &["/session_id"]),
        (r#"{"nonce":"","expires_at":"x"}"#, &["/nonce", "/expires_at"]),
    ] {
        let request = app.request("POST", &path).text(body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    let every_one: String = ('!'..='~').collect();
    for text in ["!", "~", "'; DROP TABLE nonces; --", &every_one, &longest] {
        let text = text.replace(' ', "_");
        assert_eq!(app.post(&path, &nonce(&text)).await.is(201)["nonce"], text);
        app.post(&path, &nonce(&text)).await.refused(409, "nonce_replayed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_asked_whether_a_nonce_was_used(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}/nonces", app.session().await);
    // In a path everything that could be misread is encoded.
    let awkward = "a/b?c#d%2Fe+f&g=h\"<>\\^`{|}";
    let encoded = "a%2Fb%3Fc%23d%252Fe%2Bf%26g%3Dh%22%3C%3E%5C%5E%60%7B%7C%7D";
    for (text, in_path) in
        [("n", "n"), ("a.b~c_d-e", "a.b~c_d-e"), (awkward, encoded), ("a+b", "a+b")]
    {
        let ask = || app.request("GET", &format!("{path}/{in_path}"));
        app.refuses(ask(), 404, "nonce_unused").await;
        let claimed = app.post(&path, &nonce(text)).await.is(201);
        let used = ask().send().await.is(200);
        assert_eq!(members(used.json()), ["expires_at", "nonce", "used_at"]);
        for member in ["nonce", "used_at", "expires_at"] {
            assert_eq!(used[member], claimed[member], "{member}");
        }
    }
    let other = app.session().await;
    app.get(&format!("/v1/sessions/{other}/nonces/n")).await.refused(404, "nonce_unused");
    let unknown = "/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/nonces/n";
    app.get(unknown).await.refused(404, "nonce_unused");
    for text in ["%20", "%C3%A9", "%ff", "a%00b", &"x".repeat(256)] {
        app.get(&format!("{path}/{text}")).await.names(&["nonce"]);
    }
    // A spent nonce stays spent when its session has ended.
    let session = path.strip_suffix("/nonces").unwrap();
    app.delete(session).await.is(204);
    app.get(&format!("{path}/n")).await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_takes_as_many_claims_as_was_agreed(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({"max_claims": 3})).await;
    let session = format!("/v1/sessions/{}", opened.text_of("id"));
    let path = format!("{session}/nonces");
    for used in 1..=3 {
        app.post(&path, &nonce(&format!("n-{used}"))).await.is(201);
        app.post(&path, &nonce(&format!("n-{used}"))).await.is(409);
        assert_eq!(app.get(&session).await["claims"], used, "exact, replays not counted");
    }
    for _ in 0..2 {
        let request = app.request("POST", &path).json(&nonce("n-4"));
        let used_up = app.refuses(request, 429, "claim_quota_reached").await;
        assert_eq!(used_up.header("retry-after"), None, "no wait makes room in the session");
    }
    let request = app.request("POST", &path).json(&nonce("n-1"));
    app.refuses(request, 409, "nonce_replayed").await;
    app.get(&format!("{path}/n-4")).await.refused(404, "nonce_unused");

    // Many at once never get more.
    let opened = app.open_with(json!({"max_claims": 5})).await;
    let path = format!("/v1/sessions/{}/nonces", opened.text_of("id"));
    let nonces: Vec<_> = (0..20).map(|n| nonce(&format!("n-{n}"))).collect();
    let claims = nonces.iter().map(|body| app.post(&path, body));
    let answers = futures_util::future::join_all(claims).await;
    assert_eq!(answers.iter().filter(|a| a.status == 201).count(), 5);
    assert_eq!(answers.iter().filter(|a| a.status == 429).count(), 15);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn claims_keep_an_idle_session_alive(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({"idle_timeout_seconds": 120})).await;
    let path = format!("/v1/sessions/{}", opened.text_of("id"));
    for n in 0..4 {
        app.store().pass(minutes(1)).await;
        app.post(&format!("{path}/nonces"), &nonce(&format!("n-{n}"))).await.is(201);
    }
    app.store().pass(minutes(3)).await;
    let request = app.request("POST", &format!("{path}/nonces")).json(&nonce("late"));
    app.refuses(request, 410, "session_expired").await;
}
