//! Opening and reading sessions.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Duration, Utc};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{TestApp, a_did, days, minutes};

/// Every member of a session, as api.md lists them.
const MEMBERS: [&str; 16] = [
    "claims",
    "client_did",
    "created_at",
    "deadline",
    "end_reason",
    "ended_at",
    "expires_at",
    "id",
    "idle_timeout_seconds",
    "ip_address",
    "last_activity",
    "max_claims",
    "metadata",
    "server_did",
    "state",
    "user_agent",
];

/// Reads a time, which must be in UTC with six digits of the second.
#[track_caller]
pub(crate) fn time(value: &Value) -> DateTime<Utc> {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    assert_eq!(text.len(), "2026-01-02T03:04:05.678901Z".len(), "{text}");
    assert!(text.ends_with('Z') && text.as_bytes()[19] == b'.', "{text}");
    text.parse().unwrap()
}

pub(crate) fn members(value: &Value) -> Vec<&str> {
    let mut members: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    members
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_opens_with_the_defaults(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (client, server) = (a_did(), a_did());
    let before = app.store().now().await.unwrap();
    let body = json!({"client_did": client.as_str(), "server_did": server.as_str()});
    let request = app.request("POST", "/v1/sessions").json(&body).header("user-agent", "agent/1");
    let opened = request.send().await.is(201);
    let after = app.store().now().await.unwrap();

    let id = opened.text_of("id");
    let uuid = uuid::Uuid::try_parse(&id).unwrap();
    assert_eq!((uuid.get_version_num(), uuid.to_string()), (7, id.clone()));
    assert_eq!(opened.header("location"), Some(format!("/v1/sessions/{id}").as_str()));
    assert_eq!(opened.header("content-type"), Some("application/json"));
    assert_eq!(members(opened.json()), MEMBERS);
    let created_at = time(&opened["created_at"]);
    assert!(before <= created_at && created_at <= after, "the database's clock");
    assert_eq!(time(&opened["expires_at"]), created_at + Duration::hours(1));
    assert_eq!(time(&opened["deadline"]), created_at + Duration::hours(24));
    assert_eq!(time(&opened["last_activity"]), created_at);
    for (member, value) in [
        ("client_did", json!(client.as_str())),
        ("server_did", json!(server.as_str())),
        ("state", json!("active")),
        ("claims", json!(0)),
        ("metadata", json!({})),
        ("user_agent", json!("agent/1")),
        ("ip_address", json!("127.0.0.1")),
        ("idle_timeout_seconds", json!(null)),
        ("max_claims", json!(null)),
        ("ended_at", json!(null)),
        ("end_reason", json!(null)),
    ] {
        assert_eq!(opened[member], value, "{member}");
    }
    let read = app.get(&format!("/v1/sessions/{id}")).await.is(200);
    assert_eq!(read.json(), opened.json());
    assert_eq!(read.header("etag"), opened.header("etag"));
    assert!(read.header("etag").is_some());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_opens_with_everything_said(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let metadata = json!({
        "text": "ü \" \\ \u{1F511}", "number": 1.5, "large": 9_007_199_254_740_993_i64,
        "numbers": [u64::MAX, i64::MIN, 1e300, -5e-324, 0.1, 1e-7], "nothing": null, "list": [1, [true, {}]], "": "empty name",
    });
    let asked = json!({
        "id": "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55",
        "session_key": "c2VjcmV0", "ttl_seconds": 60, "idle_timeout_seconds": 30,
        "max_claims": 7, "metadata": metadata,
    });
    let opened = app.open_with(asked.clone()).await;
    for member in ["id", "idle_timeout_seconds", "max_claims", "metadata"] {
        assert_eq!(opened[member], asked[member], "{member}");
    }
    assert_eq!(members(opened.json()), MEMBERS);
    let created_at = time(&opened["created_at"]);
    assert_eq!(time(&opened["expires_at"]), created_at + Duration::seconds(60));
    assert_eq!(time(&opened["deadline"]), created_at + Duration::hours(24));
    let read = app.get("/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55").await.is(200);
    assert_eq!(read["metadata"], metadata);
}

/// SAGE writes the same 16 bytes in 22 characters; every answer has the UUID.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_id_may_be_22_characters_everywhere(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let uuid = uuid::Uuid::from_u128(0xfbff_0123_4567_89ab_cdef_fbff_0123_4567);
    let short = URL_SAFE_NO_PAD.encode(uuid.as_bytes());
    assert!(short.contains('-') || short.contains('_'), "{short}");
    let opened = app.open_with(json!({"id": short})).await;
    assert_eq!(opened["id"], uuid.to_string());
    assert_eq!(opened.header("location"), Some(format!("/v1/sessions/{uuid}").as_str()));

    let upper = uuid.to_string().to_uppercase();
    for id in [short.as_str(), upper.as_str()] {
        let path = format!("/v1/sessions/{id}");
        assert_eq!(app.get(&path).await.is(200)["id"], uuid.to_string());
        let nonce = json!({"nonce": format!("n-{id}")});
        let claimed = app.post(&format!("{path}/nonces"), &nonce).await.is(201);
        assert_eq!(claimed["session_id"], uuid.to_string());
        app.get(&format!("{path}/nonces/n-{id}")).await.is(200);
        app.patch(&path, &json!({"metadata": {}})).await.is(200);
        app.request("POST", &format!("{path}/touch")).send().await.is(204);
    }
    let claim = json!({"claims": [{"session_id": short, "nonce": "in a batch".replace(' ', "-")}]});
    assert_eq!(app.post("/v1/claims", &claim).await["results"][0]["outcome"], "accepted");
    let taken = json!({"id": upper, "client_did": "did:web:a", "server_did": "did:web:b"});
    let request = app.request("POST", "/v1/sessions").json(&taken);
    app.refuses(request, 409, "session_exists").await;
    app.delete(&format!("/v1/sessions/{short}")).await.is(204);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_taken_until_the_retention_is_over(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let id = app.session().await;
    let again = json!({"id": id, "client_did": "did:web:a", "server_did": "did:web:b"});
    let open = || app.request("POST", "/v1/sessions").json(&again);
    app.refuses(open(), 409, "session_exists").await;
    app.delete(&format!("/v1/sessions/{id}")).await.is(204);
    app.refuses(open(), 409, "session_exists").await;
    app.store().pass(days(6)).await;
    app.refuses(open(), 409, "session_exists").await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_there_is_not_found(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = "/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";
    for (method, path, body) in [
        ("GET", path.to_owned(), None),
        ("GET", format!("{path}/key"), None),
        ("PATCH", path.to_owned(), Some(json!({"metadata": {}}))),
        ("PATCH", path.to_owned(), Some(json!({"session_key": "a2V5"}))),
        ("POST", format!("{path}/touch"), None),
        ("DELETE", path.to_owned(), None),
        ("POST", format!("{path}/nonces"), Some(json!({"nonce": "n"}))),
    ] {
        let mut request = app.request(method, &path);
        if let Some(body) = &body {
            request = request.json(body);
        }
        app.refuses(request, 404, "session_not_found").await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_id_is_named(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for id in [
        "x",
        "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c5",
        "0198f2a45b1e7c3a9d426f0e8b7a1c55",
        "%ff",
        "AAAAAAAAAAAAAAAAAAAA%2BA",
        "null",
    ] {
        let path = format!("/v1/sessions/{id}");
        app.get(&path).await.names(&["id"]);
        app.get(&format!("{path}/key")).await.names(&["id"]);
        app.delete(&path).await.names(&["id"]);
        app.request("POST", &format!("{path}/touch")).send().await.names(&["id"]);
        app.patch(&path, &json!({"ttl_seconds": 0})).await.names(&["id", "/ttl_seconds"]);
        app.get(&format!("{path}/nonces/n")).await.names(&["id"]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session_is_gone(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({"ttl_seconds": 600, "session_key": "a2V5"})).await;
    let idle = app.open_with(json!({"idle_timeout_seconds": 60})).await;
    app.store().pass(minutes(11)).await;
    for (session, reason) in [(opened, "expired"), (idle, "idle")] {
        let path = format!("/v1/sessions/{}", session.text_of("id"));
        for (method, path, body) in [
            ("GET", path.clone(), None),
            ("GET", format!("{path}/key"), None),
            ("PATCH", path.clone(), Some(json!({"ttl_seconds": 60}))),
            ("POST", format!("{path}/touch"), None),
            ("DELETE", path.clone(), None),
            ("POST", format!("{path}/nonces"), Some(json!({"nonce": "n"}))),
        ] {
            let mut request = app.request(method, &path);
            if let Some(body) = &body {
                request = request.json(body);
            }
            let answer = app.refuses(request, 410, "session_expired").await;
            assert_eq!(answer["end_reason"], reason, "{method} {path}");
            assert!(time(&answer["ended_at"]) <= app.store().now().await.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_user_agent_is_cut_and_a_missing_one_is_null() {
    let app = TestApp::start(Sqlite).await;
    let body = json!({"client_did": "did:web:a", "server_did": "did:web:b"});
    let request = app.request("POST", "/v1/sessions").json(&body);
    let opened = request.header("user-agent", &"x".repeat(2000)).send().await.is(201);
    assert_eq!(opened["user_agent"].as_str().unwrap().len(), 512);
    let opened = app.request("POST", "/v1/sessions").json(&body).send().await.is(201);
    assert_eq!(opened["user_agent"], json!(null));
    // The peer's address counts, not what a caller claims it to be.
    let request = app.request("POST", "/v1/sessions").json(&body);
    let opened = request.header("x-forwarded-for", "192.0.2.1").send().await.is(201);
    assert_eq!(opened["ip_address"], "127.0.0.1");
}
