//! Namespaces: ids that are used once and are no DID's nonces.

use chrono::{Duration, SecondsFormat};
use onceguard::domain::{KeyType, TokenScope};
use onceguard::storage::Recovery;
use rstest::rstest;
use serde_json::{Value, json};

use crate::sessions::{members, time};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, TestApp, minutes};
use crate::verify::now;

/// A time that is so many seconds ahead.
pub(crate) fn ahead(app: &TestApp, seconds: i64) -> String {
    (now(app) + Duration::seconds(seconds)).to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn nonce(app: &TestApp, text: &str) -> Value {
    json!({"nonce": text, "expires_at": ahead(app, 300)})
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_accepted_once(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let caller = app.caller(&[TokenScope::Nonces]).await;
    // A name may have any visible character.
    for name in ["webhooks", "https%3A%2F%2Fissuer.example%2F%23a%25b", "did:web:a.example"] {
        let path = format!("/v1/namespaces/{name}/nonces");
        let unused = caller.get(&format!("{path}/evt_1%2F2")).await;
        unused.refused(404, "nonce_unused");
        let asked = nonce(&app, "evt_1/2");
        let first = caller.post(&path, &asked).await.is(201);
        assert_eq!(members(first.json()), ["expires_at", "namespace", "used_at"]);
        assert_eq!(time(&first["expires_at"]), time(&asked["expires_at"]));
        let replay = caller.post(&path, &nonce(&app, "evt_1/2")).await;
        let replay = replay.refused(409, "nonce_replayed");
        assert_eq!(replay["first_used_at"], first["used_at"]);
        let used = caller.get(&format!("{path}/evt_1%2F2")).await.is(200);
        assert_eq!(used.text_of("nonce"), "evt_1/2");
        assert_eq!(
            (&used["used_at"], &used["expires_at"]),
            (&first["used_at"], &first["expires_at"])
        );
        let read = caller.get(&format!("/v1/namespaces/{name}")).await.is(200);
        assert_eq!((&read["live"], &read["quota"]), (&json!(1), &json!(100_000_000)));
        assert_eq!(read["namespace"], first["namespace"]);
    }
    let empty = caller.get("/v1/namespaces/nothing").await.is(200);
    assert_eq!((&empty["namespace"], &empty["live"]), (&json!("nothing"), &json!(0)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_any_bytes(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = "/v1/namespaces/bytes/nonces";
    let bytes = |base64: &str| json!({"nonce_base64": base64, "expires_at": ahead(&app, 300)});
    app.post(path, &bytes("AAEC")).await.is(201);
    app.post(path, &bytes("AAEC")).await.refused(409, "nonce_replayed");
    // The bytes of a text are the text.
    app.post(path, &bytes("dGV4dA==")).await.is(201);
    app.post(path, &nonce(&app, "text")).await.refused(409, "nonce_replayed");
    let batch = json!({"claims": [
        {"namespace": "bytes", "nonce_base64": "AAEC", "expires_at": ahead(&app, 300)},
        {"namespace": "bytes", "nonce_base64": "AAED", "expires_at": ahead(&app, 300)},
    ]});
    let answer = app.post("/v1/claims", &batch).await.is(200);
    assert_eq!(answer["results"][0]["outcome"], "replayed");
    assert_eq!(answer["results"][1]["outcome"], "accepted");
}

/// Each claim of a batch has its own scope, and a nonce is one in each.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_have_claims_of_every_kind(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let session = app.session().await;
    let did = "did:web:a.example";
    let batch = json!({"claims": [
        {"session_id": session, "nonce": "n"},
        {"signer": did, "nonce": "n", "expires_at": ahead(&app, 300)},
        {"namespace": did, "nonce": "n", "expires_at": ahead(&app, 300)},
        {"namespace": "b", "nonce": "n", "expires_at": ahead(&app, 300), "issued_at": ahead(&app, -1)},
        {"namespace": "b", "nonce": "n", "expires_at": ahead(&app, 600)},
        {"namespace": "b", "nonce": "late", "expires_at": ahead(&app, -1)},
    ]});
    let words = |answer: &Value| -> Vec<String> {
        let results = answer["results"].as_array().unwrap().iter();
        results.map(|result| result["outcome"].as_str().unwrap().to_owned()).collect()
    };
    let answer = app.post("/v1/claims", &batch).await.is(200);
    let first = ["accepted", "accepted", "accepted", "accepted", "replayed", "expired"];
    assert_eq!(words(answer.json()), first);
    let answer = app.post("/v1/claims", &batch).await.is(200);
    let again = ["replayed", "replayed", "replayed", "replayed", "replayed", "expired"];
    assert_eq!(words(answer.json()), again);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_given_again(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = "/v1/namespaces/webhooks/nonces";
    let asked = nonce(&app, "evt");
    let post = async |key: &str| {
        app.request("POST", path).json(&asked).header("idempotency-key", key).send().await
    };
    let first = post("key").await.is(201);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = post("key").await.is(201);
    assert_eq!(again.json(), first.json());
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    post("other").await.refused(409, "nonce_replayed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_changes_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = "/v1/namespaces/a/nonces";
    let (soon, ago, tomorrow) = (ahead(&app, 300), ahead(&app, -1), ahead(&app, 90_000));
    for (body, pointer) in [
        (json!({"expires_at": soon}), "/nonce"),
        (json!({"nonce": "n"}), "/expires_at"),
        (json!({"nonce": "a b", "expires_at": soon}), "/nonce"),
        (json!({"nonce": "n", "nonce_base64": "AAEC", "expires_at": soon}), "/nonce"),
        (json!({"nonce_base64": "", "expires_at": soon}), "/nonce_base64"),
        (json!({"nonce_base64": "AAE", "expires_at": soon}), "/nonce_base64"),
        (json!({"nonce": "n", "expires_at": tomorrow}), "/expires_at"),
        (json!({"nonce": "n", "expires_at": ago}), "/expires_at"),
        (json!({"nonce": "n", "expires_at": soon, "issued_at": tomorrow}), "/issued_at"),
        (json!({"nonce": "n", "expires_at": soon, "namespace": "b"}), "/namespace"),
    ] {
        let request = app.request("POST", path).json(&body);
        app.refuses(request, 422, "validation_failed").await.names(&[pointer]);
    }
    for name in ["a%20b", "%C3%A9", &"x".repeat(256)] {
        let request = app.request("POST", &format!("/v1/namespaces/{name}/nonces"));
        let request = request.json(&nonce(&app, "n"));
        app.refuses(request, 422, "validation_failed").await.names(&["namespace"]);
    }
    let both = json!({"claims": [
        {"namespace": "a", "signer": "did:web:a", "nonce": "n", "expires_at": soon},
    ]});
    let request = app.request("POST", "/v1/claims").json(&both);
    app.refuses(request, 422, "validation_failed").await.names(&["/claims/0"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_a_token_holders(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = "/v1/namespaces/a/nonces";
    let stranger = app.caller(&[TokenScope::Sessions]).await;
    stranger.post(path, &nonce(&app, "n")).await.refused(403, "forbidden");
    stranger.get("/v1/namespaces/a").await.refused(403, "forbidden");
    stranger.get(&format!("{path}/n")).await.refused(403, "forbidden");
    app.anybody().post(path, &nonce(&app, "n")).await.refused(401, "unauthenticated");
    let agent = Agent::new(KeyType::Ed25519);
    let body = nonce(&app, "n");
    agent.json(&app, "POST", path, &body).send().await.refused(403, "forbidden");
    let batch =
        json!({"claims": [{"namespace": "a", "nonce": "n", "expires_at": ahead(&app, 60)}]});
    agent.json(&app, "POST", "/v1/claims", &batch).send().await.refused(403, "forbidden");
    app.post(path, &nonce(&app, "n")).await.is(201);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_a_namespaces(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| config.claims.quota_per_namespace = 2).await;
    let path = "/v1/namespaces/a/nonces";
    for text in ["1", "2"] {
        app.post(path, &nonce(&app, text)).await.is(201);
    }
    app.post(path, &nonce(&app, "3")).await.refused(429, "claim_quota_reached");
    app.post(path, &nonce(&app, "1")).await.refused(409, "nonce_replayed");
    app.post("/v1/namespaces/b/nonces", &nonce(&app, "3")).await.is(201);
    let read = app.get("/v1/namespaces/a").await.is(200);
    assert_eq!((&read["live"], &read["quota"]), (&json!(2), &json!(2)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn after_a_recovery_only_what_is_new_is_accepted(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let path = "/v1/namespaces/a/nonces";
    app.stop().await;
    let actor = onceguard::domain::Actor::Operator;
    let recovery = Recovery {
        skew: minutes(1),
        now: now(&app),
        issued_until: None,
        clock_was_at: None,
        actor,
        remembered: Vec::new(),
    };
    app.store().recover(recovery).await.unwrap();
    app.restart().await;
    app.post(path, &nonce(&app, "n")).await.refused(409, "issued_before_restore");
    app.store().pass(minutes(3)).await;
    let dated = json!({
        "nonce": "n", "expires_at": ahead(&app, 300), "issued_at": ahead(&app, 0),
    });
    app.post(path, &dated).await.is(201);
}
