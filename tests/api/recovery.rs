//! After a recovery: what was sent before it is refused, in the words of each call, and operators
//! see that there was one.

use onceguard::domain::{Actor, KeyType, TokenScope};
use onceguard::storage::Recovery;
use rstest::rstest;
use serde_json::{Value, json};

use crate::forward_auth::{ask, get};
use crate::sessions::time;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Receiver, TestApp, minutes, wait_for};
use crate::verify::{now, order, verify};
use crate::webhook_sending::{got, publish_one, webhook};

const METRIC: &str = "onceguard_database_recovery_timestamp_seconds";

/// Stops the service, recovers its database, and starts the service again.
async fn recover(app: &mut TestApp) {
    app.stop().await;
    let recovery = Recovery {
        skew: minutes(1),
        now: now(app),
        issued_until: None,
        clock_was_at: None,
        actor: Actor::Operator,
        remembered: Vec::new(),
    };
    app.store().recover(recovery).await.unwrap();
    app.restart().await;
}

/// A claim by the agent, issued this many seconds from now, or without a word of it.
fn claim(app: &TestApp, agent: &Agent, nonce: &str, seconds: Option<i64>) -> Value {
    let at = |seconds| now(app) + chrono::Duration::seconds(seconds);
    let mut claim = json!({
        "signer": agent.did.as_str(), "nonce": nonce, "expires_at": at(3_600).to_rfc3339(),
    });
    if let Some(seconds) = seconds {
        claim["issued_at"] = at(seconds).to_rfc3339().into();
    }
    claim
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_message_from_before_a_recovery_is_refused_wherever_it_is_judged(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let mut app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let old = order().signed(&agent, now(&app));
    recover(&mut app).await;
    let refused = app.post("/v1/verify", &old.to_verify()).await;
    refused.refused(403, "signature_before_restore");
    let proxy = app.caller(&[TokenScope::Verify]).await;
    let asked = get().signed(&agent, now(&app));
    ask(&proxy, &asked).send().await.refused(401, "signature_before_restore");
    let list = format!("/v1/sessions?client_did={}", agent.did);
    agent.request(&app, "GET", &list).send().await.refused(401, "signature_before_restore");

    app.store().pass(minutes(2)).await;
    verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    agent.request(&app, "GET", &list).send().await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_says_when_its_message_was_issued(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let claims = json!({"claims": [
        claim(&app, &agent, "n-1", Some(-5)), claim(&app, &agent, "n-2", None),
    ]});
    let answer = app.post("/v1/claims", &claims).await.is(200);
    assert_eq!(answer["results"][0]["outcome"], "accepted");
    assert_eq!(answer["results"][1]["outcome"], "accepted");
    let ahead = json!({"claims": [claim(&app, &agent, "n-3", Some(90))]});
    app.post("/v1/claims", &ahead).await.names(&["/claims/0/issued_at"]);

    recover(&mut app).await;
    app.store().pass(minutes(2)).await;
    // The first of equal claims is older than the recovery, the second is not.
    let claims = json!({"claims": [
        claim(&app, &agent, "n-4", Some(-3_000)),
        claim(&app, &agent, "n-4", Some(-5)),
        claim(&app, &agent, "n-5", None),
        claim(&app, &agent, "n-1", Some(-5)),
    ]});
    let answer = app.post("/v1/claims", &claims).await.is(200);
    let outcomes: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|result| &result["outcome"]).collect();
    assert_eq!(
        outcomes,
        ["issued_before_restore", "accepted", "issued_before_restore", "replayed"]
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_chosen_before_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let old = uuid::Uuid::now_v7();
    recover(&mut app).await;
    let open = |id: uuid::Uuid| {
        let body = json!({"id": id, "client_did": "did:web:a", "server_did": "did:web:b"});
        app.request("POST", "/v1/sessions").json(&body)
    };
    for id in [old, uuid::Uuid::new_v4()] {
        app.refuses(open(id), 409, "session_id_before_restore").await;
    }
    app.session().await;
    let ahead = uuid::Timestamp::from_unix(
        uuid::NoContext,
        (now(&app) + minutes(5)).timestamp().unsigned_abs(),
        0,
    );
    open(uuid::Uuid::new_v7(ahead)).send().await.names(&["/id"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn operators_see_when_the_database_was_recovered(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    assert_eq!(app.get("/v1/stats").await.is(200)["database"]["recovered_at"], Value::Null);
    assert_eq!(app.ops().get("/readyz").await.is(200)["database"]["recovered_at"], Value::Null);
    assert_eq!(app.metric(METRIC, &[]).await, 0.0);
    let before = now(&app);
    recover(&mut app).await;
    let stats = app.get("/v1/stats").await.is(200);
    let at = time(&stats["database"]["recovered_at"]);
    assert!(before <= at && at <= now(&app), "{at}");
    let ready = app.ops().get("/readyz").await.is(200);
    assert_eq!(ready["database"]["recovered_at"], stats["database"]["recovered_at"]);
    assert_eq!(app.metric(METRIC, &[]).await.to_string(), at.timestamp().to_string());
    assert!(app.audited().await.contains(&"database.recovered".to_owned()));
}

/// A copy must not send beside its original.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_wait_until_an_operator_resumes_them(#[values(Sqlite, Postgres)] on: Database) {
    const PAUSED: &str = "onceguard_webhooks_paused_by_recovery";
    let app = TestApp::start_with(on, |config| config.webhooks.allow_private_addresses = true);
    let mut app = app.await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let (path, _) = webhook(&app, &receiver.url("/"), "v1").await;
    recover(&mut app).await;
    let list = app.get("/v1/webhooks").await.is(200);
    assert_eq!(list["items"][0]["state"], "paused");
    let reason = list["items"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("recovered") && reason.contains("resume"), "{reason}");
    // The start takes a sample.
    wait_for("a sample", async || (app.metric(PAUSED, &[]).await == 1.0).then_some(())).await;
    assert_eq!(app.metric("onceguard_webhooks", &["paused"]).await, 1.0);
    let id = publish_one(&app).await;
    // One that is made since is sent what is published.
    webhook(&app, &other.url("/"), "v1").await;
    publish_one(&app).await;
    got(&other, 1).await;
    assert_eq!(receiver.count(), 0);

    app.patch(&path, &json!({"paused": false})).await.is(200);
    assert!(got(&receiver, 2).await.iter().any(|got| got.id() == id));
    app.restart().await;
    wait_for("a sample", async || {
        (app.metric("onceguard_webhooks", &["active"]).await == 2.0).then_some(())
    })
    .await;
    assert_eq!(app.metric(PAUSED, &[]).await, 0.0);
}
