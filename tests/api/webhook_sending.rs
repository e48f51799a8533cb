//! Sending events to webhooks: what a receiver gets, what becomes of it when the receiver fails, and
//! that no receiver holds up another one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    Answers, DEADLINE, Got, Receiver, TestApp, days, minutes, start_application, wait_for,
};
use crate::webhooks::PATH;

const TIMEOUT: Duration = Duration::from_secs(1);

/// A service that sends to this machine, and gives up soon on a receiver that is silent.
async fn start(on: Database) -> TestApp {
    let app = TestApp::start_with(on, |config| {
        config.webhooks.allow_private_addresses = true;
        config.webhooks.timeout = TIMEOUT;
    });
    app.await
}

/// Makes a webhook that hears `example.a`, and returns its path and what it is verified with.
pub(crate) async fn webhook(app: &TestApp, url: &str, signature: &str) -> (String, String) {
    let body = json!({"url": url, "types": ["example.a"], "signature": signature});
    let made = app.post(PATH, &body).await.is(201);
    (format!("{PATH}/{}", made.text_of("id")), made.text_of("secret"))
}

pub(crate) async fn publish(
    app: &TestApp,
    subjects: impl IntoIterator<Item = String>,
) -> Vec<String> {
    let events: Vec<Value> = subjects
        .into_iter()
        .map(|subject| json!({"type": "example.a", "subject": subject, "data": {"n": 1.50}}))
        .collect();
    let answer = app.post("/v1/events", &json!({ "events": events })).await.is(200);
    let ids = answer["ids"].as_array().unwrap().iter();
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn publish_one(app: &TestApp) -> String {
    publish(app, ["one".to_owned()]).await.remove(0)
}

/// Waits until the receiver got so many, and returns them.
pub(crate) async fn got(receiver: &Receiver, count: usize) -> Vec<Got> {
    let got = wait_for("events to be sent", async || {
        let got = receiver.got();
        (got.len() >= count).then_some(got)
    });
    got.await
}

/// Waits until the newest delivery is as `is` wants.
pub(crate) async fn delivery(app: &TestApp, path: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_for("a delivery", async || {
        let page = app.get(&format!("{path}/deliveries")).await.is(200);
        let newest = page["items"].as_array().unwrap().first()?.clone();
        is(&newest).then_some(newest)
    })
    .await
}

fn after(attempts: u64) -> impl Fn(&Value) -> bool {
    move |delivery| delivery["attempts"] == attempts
}

/// HMAC-SHA256 by its definition (RFC 2104).
pub(crate) fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let padded = |with: u8| -> Vec<u8> {
        (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect()
    };
    let inner = Sha256::digest([padded(0x36).as_slice(), text].concat());
    Sha256::digest([padded(0x5c).as_slice(), inner.as_slice()].concat()).to_vec()
}

pub(crate) fn signed(got: &Got) -> Vec<u8> {
    let head = format!("{}.{}.", got.headers["webhook-id"], got.headers["webhook-timestamp"]);
    [head.as_bytes(), &got.body].concat()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_the_event_signed_with_its_secret(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = start(on).await;
    let receiver = Receiver::start().await;
    let (path, secret) = webhook(&app, &receiver.url("/hooks?a=b"), "v1").await;
    let other = json!({"type": "example.b", "subject": "not heard"});
    app.post("/v1/events", &other).await.is(201);
    let id = publish_one(&app).await;
    let got = got(&receiver, 1).await.remove(0);
    assert_eq!(got.head, "POST /hooks?a=b HTTP/1.1");
    assert_eq!(got.headers["content-type"], "application/json");
    assert_eq!(got.id(), id);
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let expected = format!("v1,{}", STANDARD.encode(hmac(&key, &signed(&got))));
    assert_eq!(got.headers["webhook-signature"], expected);
    // Receivers refuse what is five minutes old.
    let timestamp: i64 = got.headers["webhook-timestamp"].parse().unwrap();
    let now = app.store().clock().now().timestamp();
    assert!((0..=DEADLINE.as_secs()).contains(&u64::try_from(now - timestamp).unwrap()));

    let log = app.get("/v1/events?type=example.a").await.is(200);
    let event = &log["items"][0];
    let body = got.json();
    assert_eq!((&body["type"], &body["timestamp"]), (&event["type"], &event["at"]));
    for name in ["id", "sequence", "source", "subject", "actor", "outcome", "request_id", "data"] {
        assert_eq!(body["data"][name], event[name], "{name}");
    }
    let delivered = delivery(&app, &path, after(1)).await;
    assert_eq!(delivered["event"], id.as_str());
    assert_eq!(delivered["sequence"], event["sequence"]);
    assert_eq!(
        (&delivered["state"], &delivered["last_status"]),
        (&json!("delivered"), &json!(204))
    );
    assert_eq!(
        (&delivered["last_error"], &delivered["next_attempt_at"]),
        (&json!(null), &json!(null))
    );
    assert_eq!(receiver.count(), 1);
    assert_eq!(app.metric("onceguard_webhook_attempts_total", &["delivered"]).await, 1.0);
    assert_eq!(app.metric("onceguard_events_published_total", &[]).await, 2.0);
}

/// Whether its signature is `v1a`, and this key's.
pub(crate) fn is_verified_by(got: &Got, public: &VerifyingKey) -> bool {
    let signature = got.headers["webhook-signature"].strip_prefix("v1a,").unwrap();
    let signature = Signature::from_slice(&STANDARD.decode(signature).unwrap()).unwrap();
    public.verify_strict(&signed(got), &signature).is_ok()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_v1a_verifies_with_a_public_key(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = start(on).await;
    let receiver = Receiver::start().await;
    let (_, public) = webhook(&app, &receiver.url("/"), "v1a").await;
    publish_one(&app).await;
    let got = got(&receiver, 1).await.remove(0);
    let public = STANDARD.decode(public.strip_prefix("whpk_").unwrap()).unwrap();
    let public = VerifyingKey::from_bytes(&public.try_into().unwrap()).unwrap();
    assert!(is_verified_by(&got, &public), "{got:?}");
}

#[rstest]
#[case::error(Answers::With(500, ""), Some(500), "answers 500")]
#[case::refusal(Answers::With(404, ""), Some(404), "answers 404")]
#[case::redirect(
    Answers::With(302, "location: http://127.0.0.1:9/\r\n"),
    Some(302),
    "redirects (302): that is not followed"
)]
#[case::silence(Answers::Nothing, None, "does not answer within 1 s")]
#[case::close(Answers::Close, None, "")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_does_not_take_is_sent_again(
    #[values(Sqlite, Postgres)] on: Database,
    #[case] answers: Answers,
    #[case] status: Option<u16>,
    #[case] why: &str,
) {
    let app = start(on).await;
    let receiver = Receiver::start().await;
    receiver.answers(answers);
    let (path, _) = webhook(&app, &receiver.url("/"), "v1").await;
    let id = publish_one(&app).await;
    let failed = delivery(&app, &path, after(1)).await;
    assert_eq!(failed["state"], "pending");
    assert_eq!(failed["last_status"], json!(status));
    let error = failed["last_error"].as_str().unwrap();
    assert!(if why.is_empty() { !error.is_empty() } else { error == why }, "{error}");
    let first = got(&receiver, 1).await.remove(0);

    receiver.answers(Answers::With(200, ""));
    app.store().pass(Duration::from_secs(6)).await;
    let taken = delivery(&app, &path, |delivery| delivery["state"] == "delivered").await;
    assert_eq!((&taken["attempts"], &taken["last_error"]), (&json!(2), &json!(null)));
    let again = receiver.got().pop().unwrap();
    assert_eq!((again.id(), &again.json()["data"]), (id, &first.json()["data"]));
    assert_eq!(app.metric("onceguard_webhook_attempts_total", &["failed"]).await, 1.0);
}

/// All attempts by the schedule, and what is given up can be sent again.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_taken_is_given_up_and_can_be_replayed(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = start(on).await;
    let receiver = Receiver::start().await;
    receiver.answers(Answers::With(503, ""));
    let (path, _) = webhook(&app, &receiver.url("/"), "v1").await;
    let id = publish_one(&app).await;
    for attempt in 1..=10 {
        let after = delivery(&app, &path, after(attempt)).await;
        let state = if attempt == 10 { "dead" } else { "pending" };
        assert_eq!(after["state"], state);
        app.store().pass(days(1) + days(1) / 10).await;
    }
    assert_eq!(receiver.count(), 10);
    assert_eq!(app.metric("onceguard_webhook_attempts_total", &["dead"]).await, 1.0);
    let dead = app.get(&format!("{path}/deliveries?state=dead")).await.is(200);
    assert_eq!(dead["items"][0]["event"], id.as_str());

    receiver.answers(Answers::With(200, ""));
    app.post(&format!("{path}/replay"), &json!({ "event": id })).await.is(202);
    delivery(&app, &path, |delivery| delivery["state"] == "delivered").await;
    assert_eq!(got(&receiver, 11).await.pop().unwrap().id(), id);
    let since = json!({"since": "2026-01-02T03:04:05Z"});
    app.post(&format!("{path}/replay"), &since).await.is(202);
    assert_eq!(got(&receiver, 12).await.pop().unwrap().id(), id);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn retry_after_puts_the_next_attempt_off(#[values(Sqlite, Postgres)] on: Database) {
    let app = start(on).await;
    let receiver = Receiver::start().await;
    receiver.answers(Answers::With(429, "retry-after: 600\r\n"));
    let (path, _) = webhook(&app, &receiver.url("/"), "v1").await;
    publish_one(&app).await;
    let failed = delivery(&app, &path, after(1)).await;
    let at = |name: &str| crate::sessions::time(&failed[name]);
    assert_eq!((at("next_attempt_at") - at("last_attempt_at")).num_seconds(), 600);
    receiver.answers(Answers::With(204, ""));
    app.store().pass(minutes(10)).await;
    delivery(&app, &path, |delivery| delivery["state"] == "delivered").await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_gets_nothing_more_until_it_is_resumed(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = start(on).await;
    let receiver = Receiver::start().await;
    receiver.answers(Answers::With(410, ""));
    let (path, _) = webhook(&app, &receiver.url("/"), "v1").await;
    publish_one(&app).await;
    let disabled = wait_for("the webhook to be disabled", async || {
        let list = app.get(PATH).await.is(200);
        let webhook = list["items"][0].clone();
        (webhook["state"] == "disabled").then_some(webhook)
    });
    assert_eq!(disabled.await["reason"], "its receiver answered 410 Gone");
    assert_eq!(app.audited().await[0], "webhook.disabled");
    let sent = receiver.count();
    app.store().pass(minutes(10)).await;
    publish_one(&app).await;
    // What is due to another one is sent, and nothing to this one.
    let other = Receiver::start().await;
    webhook(&app, &other.url("/"), "v1").await;
    publish_one(&app).await;
    got(&other, 1).await;
    assert_eq!(receiver.count(), sent);

    receiver.answers(Answers::With(204, ""));
    app.patch(&path, &json!({"paused": false})).await.is(200);
    let ids: BTreeSet<_> = got(&receiver, sent + 3).await.iter().map(Got::id).collect();
    assert_eq!(ids.len(), 3);
}

/// One receiver is silent, and nothing listens where another one should be.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_holds_up_no_other(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| {
        config.webhooks.allow_private_addresses = true;
        // Nothing frees the places of the silent one while the test runs.
        config.webhooks.timeout = DEADLINE * 2;
        config.webhooks.max_in_flight = 8;
        config.webhooks.max_in_flight_per_endpoint = 8;
    });
    let app = app.await;
    let (silent, good) = (Receiver::start().await, Receiver::start().await);
    silent.answers(Answers::Nothing);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    webhook(&app, &silent.url("/"), "v1").await;
    webhook(&app, &format!("http://{closed}/"), "v1").await;
    publish(&app, (0..20).map(|number| format!("first {number}"))).await;
    // It has every place.
    got(&silent, 8).await;
    webhook(&app, &good.url("/"), "v1").await;
    let ids = publish(&app, (0..50).map(|number| format!("then {number}"))).await;
    let taken: BTreeSet<_> = got(&good, 50).await.iter().map(Got::id).collect();
    assert_eq!(taken, ids.into_iter().collect());
    assert_eq!(silent.count(), 8);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn events_wait_while_a_webhook_is_paused_and_while_nothing_runs(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let mut app = start(on).await;
    let receiver = Receiver::start().await;
    let (path, _) = webhook(&app, &receiver.url("/"), "v1").await;
    app.patch(&path, &json!({"paused": true})).await.is(200);
    let mut ids = publish(&app, ["paused".to_owned()]).await;
    app.restart().await;
    ids.extend(publish(&app, ["after the start".to_owned()]).await);
    assert_eq!(receiver.count(), 0);
    app.patch(&path, &json!({"paused": false})).await.is(200);
    let taken: BTreeSet<_> = got(&receiver, 2).await.iter().map(Got::id).collect();
    assert_eq!(taken, ids.into_iter().collect());
}

/// What was erased is not sent to anybody any more.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_is_not_sent(#[values(Sqlite, Postgres)] on: Database) {
    let app = start(on).await;
    let receiver = Receiver::start().await;
    receiver.answers(Answers::With(500, ""));
    let (path, _) = webhook(&app, &receiver.url("/"), "v1").await;
    publish(&app, ["did:web:erased.example".to_owned()]).await;
    delivery(&app, &path, after(1)).await;
    app.delete("/v1/dids/did:web:erased.example/data").await.is(200);
    app.store().pass(minutes(1)).await;
    let dead = delivery(&app, &path, after(2)).await;
    assert_eq!(dead["state"], "dead");
    assert!(dead["last_error"].as_str().unwrap().contains("erased"), "{dead}");
    assert_eq!(receiver.count(), 1);
}

/// Two instances send, and each event is sent by one of them.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_instances_one_sends_each_event() {
    let app = TestApp::start_with(Postgres, |config| {
        config.webhooks.allow_private_addresses = true;
    });
    let app = app.await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = app.config().clone();
    config.data_dir = folder.path().to_owned();
    config.recovery.mark_file = folder.path().join("mark");
    let other = start_application(config, app.store().clock()).await.unwrap();
    let receiver = Receiver::start().await;
    webhook(&app, &receiver.url("/"), "v1").await;
    let mut ids = BTreeSet::new();
    for batch in 0..10 {
        ids.extend(publish(&app, (0..100).map(|number| format!("{batch}/{number}"))).await);
    }
    let all = got(&receiver, 1_000).await;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for one in &all {
        *times.entry(one.id()).or_default() += 1;
    }
    assert_eq!(times.keys().cloned().collect::<BTreeSet<_>>(), ids);
    assert!(times.values().all(|count| *count == 1), "{times:?}");
    other.stop().await;
}
