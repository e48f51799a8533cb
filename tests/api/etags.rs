//! PATCH, and who wins when two change a session at once: `ETag` and `If-Match`.

use chrono::Duration;
use rstest::rstest;
use serde_json::json;

use crate::sessions::time;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Answer, TestApp, minutes};

async fn tag_of(app: &TestApp, path: &str) -> String {
    app.get(path).await.is(200).header("etag").unwrap().to_owned()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_changes_what_it_names_and_no_more(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({"metadata": {"a": 1, "b": 2}, "max_claims": 5})).await;
    let path = format!("/v1/sessions/{}", opened.text_of("id"));
    let patched = app.patch(&path, &json!({"metadata": {"c": 3}})).await.is(200);
    let mut expected = opened.json().clone();
    expected["metadata"] = json!({"c": 3});
    expected["last_activity"] = patched["last_activity"].clone();
    assert_eq!(*patched.json(), expected, "metadata is replaced as a whole");
    assert_ne!(patched.header("etag"), opened.header("etag"));
    let read = app.get(&path).await;
    assert_eq!((read.json(), read.header("etag")), (patched.json(), patched.header("etag")));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_patch_moves_a_session_past_its_deadline(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| {
        config.sessions.max_ttl = minutes(60);
        config.sessions.default_ttl = minutes(10);
    })
    .await;
    let opened = app.open_with(json!({})).await;
    let path = format!("/v1/sessions/{}", opened.text_of("id"));
    let deadline = time(&opened["created_at"]) + Duration::hours(1);
    assert_eq!(time(&opened["deadline"]), deadline);
    assert_eq!(time(&opened["expires_at"]), time(&opened["created_at"]) + Duration::minutes(10));

    // From now, not from the opening; and both ways.
    let before = app.store().now().await.unwrap();
    let patched = app.patch(&path, &json!({"ttl_seconds": 1800})).await.is(200);
    let expires_at = time(&patched["expires_at"]);
    assert!(expires_at >= before + Duration::minutes(30) && expires_at < deadline);
    let patched = app.patch(&path, &json!({"ttl_seconds": 900})).await.is(200);
    assert!(time(&patched["expires_at"]) < expires_at);
    let patched = app.patch(&path, &json!({"ttl_seconds": 3600})).await.is(200);
    assert_eq!(time(&patched["expires_at"]), deadline, "clamped");
    assert_eq!(time(&patched["deadline"]), deadline, "fixed when the session opened");

    let request = app.request("PATCH", &path).json(&json!({"ttl_seconds": 3601}));
    app.refuses(request, 422, "validation_failed").await.names(&["/ttl_seconds"]);
    let body = json!({"client_did": "did:web:a", "server_did": "did:web:b", "ttl_seconds": 3601});
    let request = app.request("POST", "/v1/sessions").json(&body);
    app.refuses(request, 422, "validation_failed").await.names(&["/ttl_seconds"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_is_read_strictly(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}", app.session().await);
    for (body, pointers) in [
        ("{}", &[""][..]),
        (r#"{"client_did":"did:web:x"}"#, &["/client_did"]),
        (r#"{"id":"x","state":"ended","ttl_seconds":60}"#, &["/id", "/state"]),
        (r#"{"metadata":null}"#, &["/metadata"]),
        (r#"{"session_key":null}"#, &["/session_key"]),
        (
            r#"{"session_key":"","ttl_seconds":86401,"metadata":1}"#,
            &["/session_key", "/ttl_seconds", "/metadata"],
        ),
        (r#"{"ttl_seconds":60,"ttl_seconds":60}"#, &["/ttl_seconds"]),
        (r#"{"deadline":"2030-01-01T00:00:00Z"}"#, &["/deadline"]),
    ] {
        let request = app.request("PATCH", &path).text(body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn if_match_must_match(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}", app.session().await);
    let change = json!({"metadata": {"changed": true}});
    let patch =
        |if_match: &str| app.request("PATCH", &path).json(&change).header("if-match", if_match);
    let tag = tag_of(&app, &path).await;
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "a strong tag: {tag}");

    let weak = format!("W/{tag}");
    for stale in [r#""other""#, r#""""#, &weak, &format!("{weak}, \"a\", \"b,c\"")] {
        app.refuses(patch(stale), 412, "precondition_failed").await;
    }
    for malformed in ["", "x", &tag[1..], "*, \"a\"", "\"a\" \"b\""] {
        app.refuses(patch(malformed), 422, "validation_failed").await.names(&["If-Match"]);
    }
    let first = patch(&tag).send().await.is(200);
    app.refuses(patch(&tag), 412, "precondition_failed").await;
    let tag = first.header("etag").unwrap();
    let listed = patch(&format!("\"x\" , {tag}")).send().await.is(200);
    let tag = listed.header("etag").unwrap();
    // A list may come in several lines (RFC 9110, section 5.3).
    patch("\"x\"").header("if-match", tag).send().await.is(200);
    patch("*").send().await.is(200);
    app.patch(&path, &change).await.is(200);

    let unknown = app.request("PATCH", "/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55");
    let unknown = unknown.json(&change).header("if-match", "*");
    app.refuses(unknown, 404, "session_not_found").await;
    app.delete(&path).await.is(204);
    app.refuses(patch("*"), 410, "session_ended").await;
    app.refuses(patch("\"stale\""), 410, "session_ended").await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn claims_and_touches_are_no_change(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({"max_claims": 10})).await;
    let path = format!("/v1/sessions/{}", opened.text_of("id"));
    app.post(&format!("{path}/nonces"), &json!({"nonce": "n"})).await.is(201);
    app.request("POST", &format!("{path}/touch")).send().await.is(204);
    assert_eq!(tag_of(&app, &path).await, opened.header("etag").unwrap());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_changes_at_once_one_wins(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}", app.session().await);
    for round in 0..5 {
        let tag = tag_of(&app, &path).await;
        let patches = (0..16).map(|writer| {
            let body = json!({"metadata": {"round": round, "writer": writer}});
            app.request("PATCH", &path).json(&body).header("if-match", &tag).send()
        });
        let answers: Vec<Answer> = futures_util::future::join_all(patches).await;
        let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == 200);
        assert_eq!(won.len(), 1, "exactly one wins");
        for answer in lost {
            answer.refused(412, "precondition_failed");
        }
        let read = app.get(&path).await;
        assert_eq!(read["metadata"], won[0]["metadata"]);
        assert_eq!(read.header("etag"), won[0].header("etag"));
    }
    // Without If-Match every change is made, one after the other.
    let patches =
        (0..16).map(|n| app.request("PATCH", &path).json(&json!({"metadata": {"n": n}})).send());
    let tags = futures_util::future::join_all(patches).await.into_iter();
    let mut tags: Vec<_> = tags.map(|a| a.is(200).header("etag").unwrap().to_owned()).collect();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 16, "each change has its own tag");
}
