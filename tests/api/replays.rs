//! Replays leave evidence in the log of events, after the answer, and never so much that it hurts.

use onceguard::domain::{Event, KeyType};
use rstest::rstest;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, DEADLINE, Message, TestApp, hex, wait_for};

async fn of_type(app: &TestApp, kind: &str) -> Vec<Event> {
    let events = app.store().newest_events(500).await.unwrap();
    events.into_iter().rev().filter(|event| event.kind == kind).collect()
}

async fn so_many(app: &TestApp, kind: &str, count: usize) -> Vec<Event> {
    wait_for("the evidence", async || {
        let found = of_type(app, kind).await;
        (found.len() >= count).then_some(found)
    })
    .await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_claim_leaves_evidence_and_a_flood_of_them_a_sample(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start_with(on, |config| {
        config.events.replays_per_scope_per_minute = 2;
        config.events.replays_per_minute = 3;
    })
    .await;
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}/nonces");
    let body = json!({ "nonce": "n-1" });
    let first = app.post(&path, &body).await.is(201);
    for number in 0..5 {
        let request = app.request("POST", &path).header("x-request-id", &format!("r-{number}"));
        request.json(&body).send().await.refused(409, "nonce_replayed");
    }
    let of_session = so_many(&app, "onceguard.claim.replayed", 2).await;
    let event = &of_session[0];
    assert_eq!(
        (event.subject.as_deref(), event.actor.as_deref()),
        (Some(&*session), Some("service"))
    );
    assert_eq!(event.outcome, "nonce_replayed");
    assert_eq!(event.request_id.as_deref(), Some("r-0"));
    let data = event.data.to_value();
    assert_eq!(data["scope"], "session");
    assert_eq!(data["nonce_sha256"], hex(&Sha256::digest("n-1")));
    assert_eq!(
        crate::sessions::time(&data["first_used_at"]),
        crate::sessions::time(&first["used_at"])
    );
    assert!(!format!("{of_session:?}").contains("n-1"), "a nonce is not written down");
    let unrecorded = "onceguard_replays_unrecorded_total";
    assert_eq!(app.metric(unrecorded, &["scope"]).await, 3.0);

    // Another scope, until there are enough in all.
    let claims = json!({ "claims": [{ "namespace": "jti", "nonce": "a", "expires_at":
        app.store().now().await.unwrap() + chrono::Duration::minutes(1) }] });
    app.post("/v1/claims", &claims).await.is(200);
    for _ in 0..3 {
        assert_eq!(
            app.post("/v1/claims", &claims).await.is(200)["results"][0]["outcome"],
            "replayed"
        );
    }
    let all = so_many(&app, "onceguard.claim.replayed", 3).await;
    let last = all.last().unwrap();
    assert_eq!(
        (last.subject.as_deref(), &last.data.to_value()["scope"]),
        (Some("jti"), &json!("namespace"))
    );
    assert_eq!(app.metric(unrecorded, &["all"]).await, 2.0);
    assert_eq!(of_type(&app, "onceguard.claim.replayed").await.len(), 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_signature_leaves_evidence(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let message = Message::new("GET", &format!("{}/v1/records/{}", app.base(), agent.did));
    let message = message.signed(&agent, app.store().clock().now());
    message.to_http(&app.anybody()).send().await.is(200);
    message.to_http(&app.anybody()).send().await.refused(401, "signature_replayed");
    let event = so_many(&app, "onceguard.signature.replayed", 1).await.remove(0);
    assert_eq!(event.subject.as_deref(), Some(agent.did.as_str()));
    assert_eq!(event.outcome, "signature_replayed");
    assert_eq!(event.data.to_value()["scope"], "signer");
    assert!(event.request_id.is_some());
    assert!(of_type(&app, "onceguard.claim.replayed").await.is_empty());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_cannot_be_written_fails_no_answer(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}/nonces", app.session().await);
    app.post(&path, &json!({ "nonce": "n" })).await.is(201);
    app.store().raw().break_audit_log().await;
    app.post(&path, &json!({ "nonce": "n" })).await.refused(409, "nonce_replayed");
    wait_for("the loss to be counted", async || {
        let lost = app.metric("onceguard_replays_unrecorded_total", &["failed"]).await;
        (lost == 1.0).then_some(())
    })
    .await;
    app.post(&path, &json!({ "nonce": "m" })).await.is(201);
}

/// An act of a call has the call's id.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn events_have_the_id_of_the_call(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let request = app.request("POST", "/v1/dids/did:web:a.example/revoke");
    request.header("x-request-id", "r-7").send().await.is(200);
    let session = app.session().await;
    let request = app.request("DELETE", &format!("/v1/sessions/{session}"));
    request.header("x-request-id", "r-8").send().await.is(204);
    for (kind, id) in [("onceguard.did.revoked", "r-7"), ("onceguard.session.ended", "r-8")] {
        let event = so_many(&app, kind, 1).await.remove(0);
        assert_eq!(event.request_id.as_deref(), Some(id), "{kind}");
    }
}

/// The answers come while the lock is held: if one waited for its evidence, it would never come.
#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_cannot_be_written_yet_holds_no_answer_up() {
    let app = TestApp::start_with(Postgres, |config| {
        config.database.statement_timeout = std::time::Duration::from_mins(10);
    })
    .await;
    let path = format!("/v1/sessions/{}/nonces", app.session().await);
    let body = json!({ "nonce": "n-1" });
    app.post(&path, &body).await.is(201);
    let raw = app.store().raw();
    raw.execute("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE").await;
    let first = tokio::time::timeout(DEADLINE, app.post(&path, &body));
    first.await.expect("an answer beside the lock").refused(409, "nonce_replayed");
    let waits = "count(*) FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass \
                 AND mode = 'RowExclusiveLock'";
    wait_for("the evidence to wait for the lock", async || {
        (raw.number(waits).await > 0).then_some(())
    })
    .await;
    for _ in 0..5 {
        app.post(&path, &body).await.refused(409, "nonce_replayed");
    }
    app.post(&path, &json!({ "nonce": "n-2" })).await.is(201);
    raw.execute("COMMIT").await;
    so_many(&app, "onceguard.claim.replayed", 6).await;
}
