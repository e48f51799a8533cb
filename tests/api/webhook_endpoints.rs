//! Webhooks that the configuration names: each start makes them as they are there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use onceguard::app::StartError;
use onceguard::config::{Config, WebhookEndpoint};
use onceguard::domain::{WebhookSecret, WebhookSignature};
use rstest::rstest;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Got, Receiver, TestApp, start_application};
use crate::webhook_sending::{delivery, got, hmac, is_verified_by, publish_one, signed};
use crate::webhooks::PATH;

fn endpoint(name: &str, url: &str, secret: [u8; 32]) -> WebhookEndpoint {
    WebhookEndpoint {
        name: name.to_owned(),
        url: url.to_owned().into(),
        types: vec!["example.a".to_owned()],
        secret: WebhookSecret { signature: WebhookSignature::V1, bytes: Zeroizing::new(secret) },
    }
}

/// Has the configuration name these webhooks, and no others.
fn named(endpoints: Vec<WebhookEndpoint>) -> impl FnOnce(&mut Config) {
    move |config| {
        config.webhooks.allow_private_addresses = true;
        config.webhooks.endpoints = endpoints;
    }
}

async fn list(app: &TestApp) -> Vec<Value> {
    app.get(PATH).await.is(200)["items"].as_array().unwrap().clone()
}

fn is_signed_with(got: &Got, secret: [u8; 32]) -> bool {
    let expected = format!("v1,{}", STANDARD.encode(hmac(&secret, &signed(got))));
    got.headers["webhook-signature"] == expected
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_names_webhooks(#[values(Sqlite, Postgres)] on: Database) {
    let receiver = Receiver::start().await;
    let url = receiver.url("/a");
    let mut app = TestApp::start_with(on, named(vec![endpoint("shop", &url, [1; 32])])).await;
    let made = list(&app).await;
    assert_eq!(made.len(), 1);
    assert_eq!((&made[0]["name"], &made[0]["url"]), (&json!("shop"), &json!(url)));
    assert_eq!((&made[0]["state"], &made[0]["signature"]), (&json!("active"), &json!("v1")));
    assert_eq!(app.audited().await[0], "webhook.created");
    publish_one(&app).await;
    let first = got(&receiver, 1).await.remove(0);
    assert!(is_signed_with(&first, [1; 32]), "{first:?}");
    let path = format!("{PATH}/{}", made[0]["id"].as_str().unwrap());
    delivery(&app, &path, |delivery| delivery["state"] == "delivered").await;

    // Nothing changed: the start changes nothing.
    app.restart().await;
    assert_eq!(list(&app).await, made);
    assert_eq!(app.audited().await[0], "webhook.created");

    // What a caller paused stays so.
    app.patch(&path, &json!({"paused": true})).await.is(200);
    let other = WebhookEndpoint {
        types: vec!["example.a".to_owned(), "example.b".to_owned()],
        ..endpoint("shop", &receiver.url("/b"), [2; 32])
    };
    app.restart_with(named(vec![other])).await;
    let changed = list(&app).await;
    assert_eq!(changed.len(), 1);
    assert_eq!((&changed[0]["id"], &changed[0]["state"]), (&made[0]["id"], &json!("paused")));
    assert_eq!(changed[0]["url"], json!(receiver.url("/b")));
    assert_eq!(changed[0]["types"], json!(["example.a", "example.b"]));
    assert_eq!(app.audited().await[..2], ["webhook.changed", "webhook.changed"]);
    app.patch(&path, &json!({"paused": false})).await.is(200);
    publish_one(&app).await;
    let second = got(&receiver, 2).await.remove(1);
    assert_eq!(second.head, "POST /b HTTP/1.1");
    assert!(is_signed_with(&second, [2; 32]), "{second:?}");

    // The same bytes become a private key.
    let bytes = Zeroizing::new([2; 32]);
    let secret = WebhookSecret { signature: WebhookSignature::V1a, bytes };
    let other = WebhookEndpoint { secret, ..endpoint("shop", &receiver.url("/c"), [2; 32]) };
    app.restart_with(named(vec![other])).await;
    assert_eq!(list(&app).await[0]["signature"], "v1a");
    publish_one(&app).await;
    let third = got(&receiver, 3).await.remove(2);
    assert!(is_verified_by(&third, &SigningKey::from_bytes(&[2; 32]).verifying_key()), "{third:?}");
    let log = app.get("/v1/events?type=onceguard.webhook.changed").await.is(200).text();
    assert!(!log.contains(&receiver.url("/b")) && !log.contains("whsec"), "{log}");
    assert_eq!(log.matches(r#""signature":"v1a""#).count(), 1, "{log}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_names_is_changed_there_only(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let endpoints = vec![endpoint("shop", "https://receiver.example/", [1; 32])];
    let mut app = TestApp::start_with(on, named(endpoints)).await;
    let path = format!("{PATH}/{}", list(&app).await[0]["id"].as_str().unwrap());
    for body in [
        json!({"url": "https://other.example/"}),
        json!({"types": ["*"]}),
        json!({"paused": true, "types": ["*"]}),
    ] {
        let request = app.request("PATCH", &path).json(&body);
        app.refuses(request, 409, "webhook_configured").await;
    }
    app.refuses(app.request("DELETE", &path), 409, "webhook_configured").await;
    // Others are as before.
    let body = json!({"url": "https://other.example/", "types": ["example.never"]});
    let other = app.post(PATH, &body).await.is(201);
    assert_eq!(other["name"], Value::Null);
    let other = format!("{PATH}/{}", other.text_of("id"));
    app.patch(&other, &json!({"types": ["example.b"]})).await.is(200);
    app.delete(&other).await.is(204);

    // What the configuration does not name any more is like any other.
    app.restart_with(named(Vec::new())).await;
    assert_eq!(list(&app).await[0]["name"], "shop");
    app.patch(&path, &json!({"types": ["example.b"]})).await.is(200);
    app.delete(&path).await.is(204);
    assert_eq!(list(&app).await, [] as [Value; 0]);
}

/// They start at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn instances_of_one_configuration_make_one_webhook() {
    let app = TestApp::start(Postgres).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let configs = folders.each_ref().map(|folder| {
        let mut config = app.config().clone();
        config.data_dir = folder.path().to_owned();
        config.recovery.mark_file = folder.path().join("mark");
        let endpoints = ["a", "b", "c"].map(|name| endpoint(name, "https://a.example/", [1; 32]));
        named(endpoints.into())(&mut config);
        config
    });
    let [one, two] = configs;
    let clock = app.store().clock();
    let (one, two) = tokio::join!(start_application(one, clock), start_application(two, clock));
    let mut names: Vec<_> = list(&app).await.iter().map(|one| one["name"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["a", "b", "c"]);
    let (one, two) = (one.unwrap(), two.unwrap());
    tokio::join!(one.stop(), two.stop());
}

#[rstest]
#[case::plain("http://receiver.example/s3cret", "shop.url must begin with https://")]
#[case::private("https://10.0.0.1/s3cret", "shop.url must have a public address")]
#[case::no_url("s3cret", "shop.url must be a URL")]
#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_is_none_stops_the_start(#[case] url: &str, #[case] why: &str) {
    let app = TestApp::start(Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = app.config().clone();
    config.data_dir = folder.path().to_owned();
    config.webhooks.endpoints = vec![endpoint("shop", url, [1; 32])];
    let error = start_application(config, app.store().clock()).await.err().unwrap();
    let StartError::Setting { key, message } = &error else { panic!("{error:?}") };
    assert_eq!(*key, "webhooks.endpoints");
    assert!(message.starts_with(why) && !message.contains("s3cret"), "{message}");
}
