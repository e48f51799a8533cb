//! `Idempotency-Key`: who lost an answer learns the true outcome, and nobody else does.

use onceguard::domain::{KeyType, TokenScope};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Answer, Caller, Message, TestApp, minutes, unique};
use crate::verify::session_of;

async fn post(caller: &Caller, path: &str, body: &Value, key: &str) -> Answer {
    caller.request("POST", path).json(body).header("idempotency-key", key).send().await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_outcome(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}/nonces", app.session().await);
    let body = json!({"nonce": "n"});
    let first = post(&app, &path, &body, "key-1").await.is(201);
    assert_eq!(first.header("idempotency-replayed"), None);
    for _ in 0..3 {
        let before = app.data().await;
        let again = post(&app, &path, &body, "key-1").await.is(201);
        assert_eq!(again.json(), first.json());
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(app.data().await, before, "a repeat changes nothing");
    }
    // Another key, no key, or the same key of somebody else: a replay.
    let stranger = app.caller(&[TokenScope::Nonces]).await;
    for answer in [
        post(&app, &path, &body, "key-2").await,
        post(&app, &path, &body, "KEY-1").await,
        app.post(&path, &body).await,
        post(&stranger, &path, &body, "key-1").await,
    ] {
        let replayed = answer.refused(409, "nonce_replayed");
        assert_eq!(replayed["first_used_at"], first["used_at"]);
        assert_eq!(replayed.header("idempotency-replayed"), None);
    }
    // A claim that had no key cannot be repeated with one later.
    app.post(&path, &json!({"nonce": "bare"})).await.is(201);
    post(&app, &path, &json!({"nonce": "bare"}), "key-3").await.refused(409, "nonce_replayed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_on_another_nonce_is_a_claim_of_its_own(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let one = format!("/v1/sessions/{}/nonces", app.session().await);
    let two = format!("/v1/sessions/{}/nonces", app.session().await);
    for (path, nonce) in [(&one, "a"), (&one, "b"), (&two, "a")] {
        let claimed = post(&app, path, &json!({"nonce": nonce}), "key").await.is(201);
        assert_eq!(claimed.header("idempotency-replayed"), None, "{path} {nonce}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_true_after_the_session_is_over(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({"max_claims": 1})).await;
    let session = format!("/v1/sessions/{}", opened.text_of("id"));
    let path = format!("{session}/nonces");
    let body = json!({"nonce": "n"});
    let first = post(&app, &path, &body, "key").await.is(201);
    assert_eq!(post(&app, &path, &body, "key").await.is(201).json(), first.json(), "quota used up");
    assert_eq!(app.get(&session).await["claims"], 1);
    app.delete(&session).await.is(204);
    let again = post(&app, &path, &body, "key").await.is(201);
    assert_eq!(again.json(), first.json());
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    app.post(&path, &body).await.refused(410, "session_ended");
    post(&app, &path, &body, "other").await.refused(410, "session_ended");
    post(&app, &path, &json!({"nonce": "m"}), "key").await.refused(410, "session_ended");
    let client = opened.text_of("client_did");
    app.request("POST", &format!("/v1/dids/{client}/revoke")).send().await.is(200);
    assert_eq!(post(&app, &path, &body, "key").await.is(201).json(), first.json());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_stands_for_ten_minutes(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}/nonces", app.session().await);
    let body = json!({"nonce": "n"});
    post(&app, &path, &body, "key").await.is(201);
    app.store().pass(minutes(9)).await;
    post(&app, &path, &body, "key").await.is(201);
    app.store().pass(minutes(2)).await;
    post(&app, &path, &body, "key").await.refused(409, "nonce_replayed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn in_a_batch_a_key_is_of_each_place(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let session = app.session().await;
    let claim = |nonce: &str| json!({"session_id": session, "nonce": nonce});
    let at = app.store().now().await.unwrap() + chrono::Duration::minutes(5);
    let signed = json!({"signer": "did:web:a", "nonce": "a", "expires_at": at.to_rfc3339()});
    let batch = json!({"claims": [claim("a"), claim("b"), claim("a"), signed]});
    let first = post(&app, "/v1/claims", &batch, "key").await.is(200);
    let outcomes = |answer: &Answer| -> Vec<String> {
        let results = answer["results"].as_array().unwrap().iter();
        results.map(|result| result["outcome"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(outcomes(&first), ["accepted", "accepted", "replayed", "accepted"]);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = post(&app, "/v1/claims", &batch, "key").await.is(200);
    assert_eq!(again.json(), first.json(), "the whole batch, as it was");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));

    // In another order the same claims are others.
    let turned = json!({"claims": [claim("b"), claim("a"), claim("c")]});
    let answer = post(&app, "/v1/claims", &turned, "key").await.is(200);
    assert_eq!(outcomes(&answer), ["replayed", "replayed", "accepted"]);
    assert_eq!(answer.header("idempotency-replayed"), None);
    // A batch that lost its answer half-way and grew: the known part is repeated, the rest claimed.
    let grown = json!({"claims": [claim("a"), claim("b"), claim("a"), signed, claim("d")]});
    let answer = post(&app, "/v1/claims", &grown, "key").await.is(200);
    assert_eq!(outcomes(&answer), ["accepted", "accepted", "replayed", "accepted", "accepted"]);
    assert_eq!(answer.header("idempotency-replayed"), Some("true"));
    // A single claim is place 0.
    let path = format!("/v1/sessions/{session}/nonces");
    post(&app, &path, &json!({"nonce": "a"}), "key").await.is(201);
    post(&app, &path, &json!({"nonce": "b"}), "key").await.refused(409, "nonce_replayed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn repeats_at_once_agree(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = format!("/v1/sessions/{}/nonces", app.session().await);
    for round in 0..5 {
        let body = json!({"nonce": format!("n-{round}")});
        let repeats = (0..12).map(|_| post(&app, &path, &body, "key"));
        let answers = futures_util::future::join_all(repeats).await;
        let first = answers.iter().filter(|a| a.header("idempotency-replayed").is_none()).count();
        assert_eq!(first, 1, "one claimed, the others repeated");
        for answer in &answers {
            assert_eq!((answer.status, answer.json()), (201, answers[0].json()));
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}/nonces");
    let batch = json!({"claims": [{"session_id": session, "nonce": "n"}]});
    let too_long = "k".repeat(256);
    for key in ["", "a b", "a\tb", "\u{e9}", &too_long] {
        for (path, body) in [(path.as_str(), &json!({"nonce": "n"})), ("/v1/claims", &batch)] {
            let request = app.request("POST", path).json(body).header("idempotency-key", key);
            app.refuses(request, 422, "validation_failed").await.names(&["Idempotency-Key"]);
        }
    }
    let two = app.request("POST", &path).json(&json!({"nonce": "n"}));
    let two = two.header("idempotency-key", "a").header("idempotency-key", "a");
    app.refuses(two, 422, "validation_failed").await.names(&["Idempotency-Key"]);
    post(&app, &path, &json!({"nonce": "n"}), &"k".repeat(255)).await.is(201);
}

async fn verify(caller: &Caller, body: &Value, key: &str) -> Answer {
    post(caller, "/v1/verify", body, key).await
}

/// A verdict whose answer was lost is asked for again, and is the same.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_is_given_again(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let verifier = app.caller(&[TokenScope::Verify]).await;
    let agent = Agent::new(KeyType::P256);
    let signed_at = app.store().clock().now();
    let message = Message::new("POST", "https://service.example/orders").json(&json!({"n": 1}));
    let call = message.signed(&agent, signed_at).to_verify();
    let first = verify(&verifier, &call, "key-1").await.is(200);
    assert_eq!(first.header("idempotency-replayed"), None);
    for _ in 0..3 {
        let before = app.data().await;
        let again = verify(&verifier, &call, "key-1").await.is(200);
        assert_eq!(again.json(), first.json());
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(app.data().await, before, "a repeat changes nothing");
    }
    let stranger = app.caller(&[TokenScope::Verify]).await;
    for answer in [
        verify(&verifier, &call, "key-2").await,
        verifier.post("/v1/verify", &call).await,
        verify(&stranger, &call, "key-1").await,
    ] {
        answer.refused(403, "signature_replayed");
    }
}

/// The key is the caller's. What the judged message says of one is the message's own affair.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_judged_message_repeats_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let message = Message::new("GET", "https://service.example/").with("Idempotency-Key", "key-1");
    let call = message.signed(&agent, app.store().clock().now()).to_verify();
    app.post("/v1/verify", &call).await.is(200);
    app.post("/v1/verify", &call).await.refused(403, "signature_replayed");
    verify(&app, &call, "key-1").await.refused(403, "signature_replayed");
}

/// Two messages of one signer with one nonce: the second is a replay under every key of the caller.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_repeats_the_verdict_on_the_same_request_only(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let now = app.store().clock().now();
    let nonce = format!("a-nonce-of-two-messages-{}", unique());
    let url = "https://service.example/orders";
    let message = || Message::new("POST", url).json(&json!({"amount": 1}));
    let signed = |message: Message| message.signed_with(&agent.signer, &nonce, now).to_verify();
    verify(&app, &signed(message()), "key").await.is(200);
    let mut in_session = signed(message());
    in_session["session_id"] = session_of(&app, &agent.did).await.into();
    let mut by_name = signed(message());
    by_name["profile"] = "onceguard".into();
    for other in [
        signed(Message::new("POST", url).json(&json!({"amount": 1000}))),
        signed(Message::new("PUT", url).json(&json!({"amount": 1}))),
        signed(Message::new("POST", &format!("{url}?id=2")).json(&json!({"amount": 1}))),
        signed(message().with("X-Of-No-Interest", "1")),
        in_session,
        by_name,
    ] {
        verify(&app, &other, "key").await.refused(403, "signature_replayed");
    }
    // A claim with the key is another call, too.
    let expires_at = (now + chrono::Duration::minutes(5)).to_rfc3339();
    let claim = json!({"claims": [
        {"signer": agent.did.as_str(), "nonce": nonce, "expires_at": expires_at},
    ]});
    let claimed = post(&app, "/v1/claims", &claim, "key").await.is(200);
    assert_eq!(claimed["results"][0]["outcome"], "replayed");
    assert_eq!(
        verify(&app, &signed(message()), "key").await.is(200).header("idempotency-replayed"),
        Some("true")
    );
}
