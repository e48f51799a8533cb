//! `/v1/webhooks`: making, listing, changing and deleting, and what is refused.

use onceguard::domain::TokenScope;
use rstest::rstest;
use serde_json::{Value, json};

use crate::sessions::members;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::TestApp;

pub(crate) const PATH: &str = "/v1/webhooks";
const UNKNOWN: &str = "/v1/webhooks/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";

fn webhook(url: &str) -> Value {
    // No event has this type: nothing is sent.
    json!({"url": url, "types": ["example.never"]})
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_made_listed_changed_and_deleted(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let caller = app.caller(&[TokenScope::Webhooks]).await;
    let made = caller.post(PATH, &webhook("https://receiver.example/s3cret")).await.is(201);
    let columns =
        ["created_at", "id", "name", "reason", "secret", "signature", "state", "types", "url"];
    assert_eq!(members(made.json()), columns);
    assert_eq!((&made["state"], &made["signature"]), (&json!("active"), &json!("v1")));
    assert_eq!((&made["types"], &made["name"]), (&json!(["example.never"]), &Value::Null));
    let secret = made.text_of("secret");
    assert_eq!((secret.len(), secret.starts_with("whsec_")), (50, true), "{secret}");

    let types = ["example.never", "onceguard.transfer.began"];
    let body = json!({"url": "https://receiver.example:8443/", "types": types, "signature": "v1a"});
    let other = caller.post(PATH, &body).await.is(201);
    assert!(other.text_of("secret").starts_with("whpk_"));

    let list = caller.get(PATH).await.is(200);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0]["id"], made["id"]);
    assert_eq!(items[0]["url"], "https://receiver.example/s3cret");
    assert!(!list.text().contains("whsec_") && !list.text().contains(&secret[6..]));

    let path = format!("{PATH}/{}", made.text_of("id"));
    let paused = caller.patch(&path, &json!({"paused": true})).await.is(200);
    assert_eq!((&paused["state"], &paused["reason"]), (&json!("paused"), &Value::Null));
    let change = json!({"url": "https://other.example/", "types": ["a.b", "a.c"], "paused": false});
    let changed = caller.patch(&path, &change).await.is(200);
    assert_eq!(changed["url"], "https://other.example/");
    assert_eq!(changed["types"], json!(["a.b", "a.c"]));
    assert_eq!(changed["state"], "active");
    assert!(changed.json().get("secret").is_none());
    caller.patch(&path, &json!({"types": ["example.never"]})).await.is(200);

    caller.delete(&path).await.is(204);
    caller.delete(&path).await.refused(404, "not_found");
    assert_eq!(caller.get(PATH).await["items"].as_array().unwrap().len(), 1);
    let acts = ["webhook.deleted", "webhook.changed", "webhook.changed", "webhook.changed"];
    let acts = [&acts[..], &["webhook.created", "webhook.created"]].concat();
    assert_eq!(app.audited().await[..6], acts);
    let log = app.get("/v1/events?type=onceguard.webhook.created").await.is(200).text();
    assert!(!log.contains("s3cret") && !log.contains(&secret[6..]), "{log}");
    // The database has it sealed.
    let rows = app.store().raw().rows("webhooks").await;
    assert!(!rows.contains(&secret[6..]) && !rows.contains("whsec"));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_webhook_is_refused_and_changes_nothing(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    let url = "https://receiver.example/";
    let id = app.post(PATH, &webhook(url)).await.is(201).text_of("id");
    let path = format!("{PATH}/{id}");
    let many: Vec<_> = (0..101).map(|number| number.to_string()).collect();
    for (body, pointers) in [
        (json!({}), &["/url", "/types"][..]),
        (json!({"url": "http://receiver.example/", "types": ["*"]}), &["/url"]),
        (json!({"url": "https://127.0.0.1/", "types": ["*"]}), &["/url"]),
        (json!({"url": "https://localhost/", "types": ["*"]}), &["/url"]),
        (json!({"url": "https://[::ffff:10.0.0.1]/", "types": ["*"]}), &["/url"]),
        (json!({"url": "https://a:b@receiver.example/", "types": ["*"]}), &["/url"]),
        (json!({"url": "receiver.example", "types": ["*"]}), &["/url"]),
        (json!({"url": 7, "types": "*"}), &["/url", "/types"]),
        (json!({"url": url, "types": []}), &["/types"]),
        (json!({"url": url, "types": many}), &["/types"]),
        (
            json!({"url": url, "types": ["*", "onceguard.no", "a b", 7]}),
            &["/types/1", "/types/2", "/types/3"],
        ),
        (json!({"url": url, "types": ["*"], "signature": "v2"}), &["/signature"]),
        (json!({"url": url, "types": ["*"], "secret": "mine"}), &["/secret"]),
    ] {
        let request = app.request("POST", PATH).json(&body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    for (body, pointers) in [
        (json!({}), &[""][..]),
        (json!({"paused": "yes"}), &["/paused"]),
        (json!({"paused": null}), &["/paused"]),
        (json!({"url": "http://a.example/", "types": [""]}), &["/url", "/types/0"]),
        (json!({"signature": "v1a"}), &["/signature"]),
    ] {
        let request = app.request("PATCH", &path).json(&body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    for (body, pointers) in [
        (json!({}), &[""][..]),
        (json!({"event": id, "since": "2026-01-02T03:04:05Z"}), &[""]),
        (json!({"event": "7"}), &["/event"]),
        (json!({"since": "yesterday"}), &["/since"]),
    ] {
        let request = app.request("POST", &format!("{path}/replay")).json(&body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    for (query, name) in [("state=sent", "state"), ("cursor=AA", "cursor"), ("a=b", "a")] {
        let request = app.request("GET", &format!("{path}/deliveries?{query}"));
        app.refuses(request, 422, "validation_failed").await.names(&[name]);
    }
    let request = app.request("PATCH", "/v1/webhooks/7").json(&json!({"paused": true}));
    app.refuses(request, 422, "validation_failed").await.names(&["id"]);

    for (method, path, body) in [
        ("PATCH", UNKNOWN.to_owned(), Some(json!({"paused": true}))),
        ("DELETE", UNKNOWN.to_owned(), None),
        ("GET", format!("{UNKNOWN}/deliveries"), None),
        ("POST", format!("{UNKNOWN}/replay"), Some(json!({"event": id}))),
        ("POST", format!("{UNKNOWN}/replay"), Some(json!({"since": "2026-01-02T03:04:05Z"}))),
        // There is no such event.
        ("POST", format!("{path}/replay"), Some(json!({"event": id}))),
    ] {
        let mut request = app.request(method, &path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        app.refuses(request, 404, "not_found").await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_than_may_be(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for _ in 0..100 {
        app.post(PATH, &webhook("https://receiver.example/")).await.is(201);
    }
    let request = app.request("POST", PATH).json(&webhook("https://receiver.example/"));
    let refused = app.refuses(request, 422, "validation_failed").await;
    assert!(refused.text_of("detail").contains("than 100 webhooks"), "{refused:?}");
}

/// An event that cannot be written stops its change.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_webhook_changes_without_its_event(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let id = app.post(PATH, &webhook("https://receiver.example/")).await.is(201).text_of("id");
    let path = format!("{PATH}/{id}");
    app.store().raw().break_audit_log().await;
    for (method, path, body) in [
        ("POST", PATH, Some(webhook("https://receiver.example/"))),
        ("PATCH", &path, Some(json!({"paused": true}))),
        ("DELETE", &path, None),
    ] {
        let mut request = app.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        app.refuses(request, 503, "storage_unavailable").await;
    }
}
