//! `POST /v1/verify`: each check with its code, in their order, and that a nonce is spent by a
//! verdict alone.

use std::collections::BTreeSet;

use onceguard::domain::{Did, DidUrl, KeyType, Timestamp};
use onceguard::signatures::{Component, Profile};
use onceguard::storage::PurgeStep;
use rstest::rstest;
use serde_json::{Value, json};

use crate::sessions::{members, time};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Answer, Message, TestApp, a_did, minutes, purge_batch, wait_for};

pub(crate) const PATH: &str = "/v1/verify";
const URL: &str = "https://service.example/orders?id=1";

pub(crate) fn now(app: &TestApp) -> Timestamp {
    app.store().clock().now()
}

pub(crate) fn order() -> Message {
    Message::new("POST", URL).json(&json!({"amount": 1}))
}

pub(crate) async fn verify(app: &TestApp, message: &Message) -> Answer {
    app.post(PATH, &message.to_verify()).await
}

pub(crate) async fn verify_in(app: &TestApp, message: &Message, session: &str) -> Answer {
    let mut body = message.to_verify();
    body["session_id"] = session.into();
    app.post(PATH, &body).await
}

/// A session of this client with somebody.
pub(crate) async fn session_of(app: &TestApp, client: &Did) -> String {
    app.open_with(json!({"client_did": client.as_str()})).await.text_of("id")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_request_passes_once(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let verifier = app.caller(&[onceguard::domain::TokenScope::Verify]).await;
    for key_type in [KeyType::Ed25519, KeyType::Secp256k1, KeyType::P256] {
        let agent = Agent::new(key_type);
        let signed_at = now(&app);
        let message = order().signed(&agent, signed_at);
        let answer = verifier.post(PATH, &message.to_verify()).await.is(200);
        assert_eq!(
            members(answer.json()),
            [
                "alg",
                "covered",
                "created",
                "did",
                "expires",
                "keyid",
                "nonce",
                "profile",
                "session_id"
            ]
        );
        assert_eq!((answer.text_of("did"), answer.text_of("keyid")), {
            (agent.did.to_string(), agent.did.to_string())
        });
        let alg = match key_type {
            KeyType::Ed25519 => "ed25519",
            KeyType::Secp256k1 => "ES256K",
            KeyType::P256 => "ecdsa-p256-sha256",
        };
        assert_eq!((answer.text_of("alg"), answer.text_of("profile")), {
            (alg.to_owned(), "onceguard".to_owned())
        });
        assert_eq!(time(&answer["created"]).timestamp(), signed_at.timestamp());
        assert_eq!(time(&answer["expires"]).timestamp(), signed_at.timestamp() + 300);
        assert!(message.header("signature-input").contains(&answer.text_of("nonce")));
        let covered: BTreeSet<String> = serde_json::from_value(answer["covered"].clone()).unwrap();
        let expected = ["\"@method\"", "\"@target-uri\"", "\"content-digest\"", "\"content-type\""];
        assert_eq!(covered, expected.map(str::to_owned).into());
        assert_eq!(answer["session_id"], Value::Null);

        for _ in 0..2 {
            let replay = app.request("POST", PATH).json(&message.to_verify());
            let replay = app.refuses(replay, 403, "signature_replayed").await;
            let first = time(&replay["first_used_at"]);
            assert!((first - signed_at).num_seconds().abs() < 60, "{first}");
        }
        // Another message of the same nonce is the same claim.
        let nonce = answer.text_of("nonce");
        let other = Message::new("GET", URL).signed_with(&agent.signer, &nonce, now(&app));
        verify(&app, &other).await.refused(403, "signature_replayed");
        // Another signer's nonces are its own.
        let other =
            Message::new("GET", URL).signed_with(&Agent::new(key_type).signer, &nonce, now(&app));
        verify(&app, &other).await.is(200);
    }
}

/// What can be wrong with a message, in the order of the checks.
const WRONG: [&str; 13] = [
    "signature_required",
    "signature_malformed",
    "signature_tag_invalid",
    "signature_params_incomplete",
    "signature_alg_not_allowed",
    "signature_window_invalid",
    "signature_components_incomplete",
    "signature_key_unknown",
    "signature_key_revoked",
    "signature_invalid",
    "signature_digest_mismatch",
    "signature_not_a_party",
    "signature_replayed",
];

/// A message that is wrong in these ways, and what is answered.
async fn judge_wrong(app: &TestApp, wrong: &[&str]) -> Answer {
    let is = |code: &str| wrong.contains(&code);
    let agent = Agent::new(KeyType::Ed25519);
    let nonce = "a-nonce-that-is-signed-once";
    if is("signature_replayed") {
        let first = order().signed_with(&agent.signer, nonce, now(app));
        verify(app, &first).await.is(200);
    }
    let mut signer = agent.signer.clone();
    let profile = &mut signer.profile;
    if is("signature_tag_invalid") {
        profile.tag = Some("other".to_owned());
    }
    if is("signature_params_incomplete") {
        profile.min_nonce_len = 1;
    }
    if is("signature_components_incomplete") {
        profile.coverage.always = vec![vec![vec![Component::Method]]];
    }
    if is("signature_key_unknown") {
        signer.key_id = DidUrl::parse(a_did().as_str()).unwrap();
    }
    let nonce = if is("signature_params_incomplete") { "short" } else { nonce };
    let back = if is("signature_window_invalid") { 3600 } else { 0 };
    let signed_at = now(app) - chrono::Duration::seconds(back);
    let mut message = order().signed_with(&signer, nonce, signed_at);
    if is("signature_required") {
        message = message.without("signature").without("signature-input");
    } else if is("signature_malformed") {
        message = message.edit("signature", "sig1=", "other=");
    }
    if is("signature_alg_not_allowed") && !is("signature_required") {
        message = message.edit("signature-input", "\"ed25519\"", "\"rsa-pss-sha512\"");
    }
    if is("signature_invalid") {
        message.url = message.url.replace("id=1", "id=2");
    }
    if is("signature_digest_mismatch") {
        message.body.push(b' ');
    }
    let client = if is("signature_not_a_party") { a_did() } else { agent.did.clone() };
    let session = session_of(app, &client).await;
    if is("signature_key_revoked") {
        app.post(&format!("/v1/dids/{}/revoke", agent.did), &json!({})).await.is(200);
    }
    verify_in(app, &message, &session).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_first_check_that_fails_names_the_refusal(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    judge_wrong(&app, &[]).await.is(200);
    for (at, first) in WRONG.iter().enumerate() {
        judge_wrong(&app, &[*first]).await.refused(403, first);
        for later in &WRONG[at + 1..] {
            judge_wrong(&app, &[*first, *later]).await.refused(403, first);
        }
        judge_wrong(&app, &WRONG[at..]).await.refused(403, first);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_fails_spends_no_nonce(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let message = order().signed(&agent, now(&app));
    let forger = Agent::new(KeyType::Ed25519);
    let mut forged_signer = forger.signer.clone();
    forged_signer.key_id = agent.signer.key_id.clone();
    let nonce = "the-same-nonce-for-both";
    let right = order().signed_with(&agent.signer, nonce, now(&app));
    let forged = order().signed_with(&forged_signer, nonce, now(&app));
    let mut changed = message.clone();
    changed.body = b"{\"amount\":1000}".to_vec();
    let (theirs, unknown) = (app.session().await, "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55");
    for (message, session, code) in [
        (&forged, None, "signature_invalid"),
        (&changed, None, "signature_digest_mismatch"),
        (&message, Some(theirs.as_str()), "signature_not_a_party"),
        (&message, Some(unknown), "session_not_found"),
    ] {
        let mut body = message.to_verify();
        body.as_object_mut().unwrap().extend(session.map(|id| ("session_id".into(), id.into())));
        app.refuses(app.request("POST", PATH).json(&body), 403, code).await;
    }
    verify(&app, &right).await.is(200);
    verify(&app, &message).await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_verdicts_on_one_message_one_is_yes(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let session = session_of(&app, &agent.did).await;
    let mut body = order().signed(&agent, now(&app)).to_verify();
    let alone = body.clone();
    body["session_id"] = session.into();
    // Naming a session, or none, makes no other message of it.
    let verdicts = (0..200).map(|n| app.post(PATH, if n % 2 == 0 { &alone } else { &body }));
    let answers = futures_util::future::join_all(verdicts).await;
    let (yes, no): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(yes.len(), 1);
    for answer in no {
        answer.refused(403, "signature_replayed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_has_a_quota(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| config.claims.quota_per_signer = 2).await;
    let agent = Agent::new(KeyType::Ed25519);
    for _ in 0..2 {
        verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    }
    for _ in 0..2 {
        let message = order().signed(&agent, now(&app));
        let request = app.request("POST", PATH).json(&message.to_verify());
        app.refuses(request, 403, "claim_quota_reached").await;
    }
    verify(&app, &order().signed(&Agent::new(KeyType::Ed25519), now(&app))).await.is(200);
}

/// Check 9 goes before check 10 for as long as the quota is full and no longer, however it was
/// filled; a signer who has room is judged by the signature.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_is_seen_before_the_signature_is_looked_at(
    #[values(Sqlite, Postgres)] on: Database,
    #[values(true, false)] by_verdicts: bool,
) {
    const QUOTA: usize = 3;
    let app = TestApp::start_with(on, |config| {
        config.claims.quota_per_signer = QUOTA as u64;
    })
    .await;
    let (agent, other) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::Ed25519));
    let forged = |agent: &Agent| {
        let mut message = order().signed(agent, now(&app));
        message.url = message.url.replace("id=1", "id=2");
        message
    };
    for number in 0..QUOTA {
        verify(&app, &forged(&agent)).await.refused(403, "signature_invalid");
        if by_verdicts {
            verify(&app, &order().signed(&agent, now(&app))).await.is(200);
        } else {
            let expires_at = now(&app) + minutes(5);
            let claim = json!({
                "signer": agent.did.as_str(), "nonce": format!("nonce-{number}"),
                "expires_at": expires_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            });
            app.post("/v1/claims", &json!({"claims": [claim]})).await.is(200);
        }
    }
    verify(&app, &forged(&agent)).await.refused(403, "claim_quota_reached");
    verify(&app, &forged(&other)).await.refused(403, "signature_invalid");
    // What was seen once is looked at again, and is as it was.
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    verify(&app, &forged(&agent)).await.refused(403, "claim_quota_reached");

    app.store().pass(minutes(30)).await;
    let margin = minutes(1);
    purge_batch(app.store(), PurgeStep::DeleteSignerNonces { margin }, 100).await;
    // For no longer than a moment after there is room again.
    wait_for("room", async || {
        let verdict = verify(&app, &forged(&agent)).await;
        (verdict.code() == "signature_invalid").then_some(())
    })
    .await;
    verify(&app, &order().signed(&agent, now(&app))).await.is(200);
}

/// An instance learns from the first claim that is refused that others have filled a quota.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_was_filled_elsewhere_is_seen_from_the_first_refusal_on(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let mut app = TestApp::start_with(on, |config| config.claims.quota_per_signer = 3).await;
    let agent = Agent::new(KeyType::Ed25519);
    let order = |app: &TestApp| order().signed(&agent, now(app));
    let forged = |app: &TestApp| {
        let mut message = order(app);
        message.url = message.url.replace("id=1", "id=2");
        message
    };
    for _ in 0..3 {
        verify(&app, &order(&app)).await.is(200);
    }
    // It counts anew, as another instance does.
    app.restart().await;
    verify(&app, &forged(&app)).await.refused(403, "signature_invalid");
    verify(&app, &order(&app)).await.refused(403, "claim_quota_reached");
    verify(&app, &forged(&app)).await.refused(403, "claim_quota_reached");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_profile_is_named(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::with_profile(KeyType::Secp256k1, Profile::sage());
    let body = |profile: &str| {
        let mut body = order().signed(&agent, now(&app)).to_verify();
        body["profile"] = profile.into();
        body
    };
    let answer = app.post(PATH, &body("sage")).await.is(200);
    assert_eq!((answer.text_of("profile"), answer.text_of("did")), {
        ("sage".to_owned(), agent.did.to_string())
    });
    app.post(PATH, &body("onceguard")).await.refused(403, "signature_tag_invalid");
    for unknown in ["", "Sage", "other"] {
        app.post(PATH, &body(unknown)).await.names(&["/profile"]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_question_is_read_strictly(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let right = json!({"method": "GET", "url": URL, "headers": []});
    app.post(PATH, &right).await.refused(403, "signature_required");
    for (member, value, pointers) in [
        ("method", json!("G T"), &["/method"][..]),
        ("method", json!(""), &["/method"]),
        ("url", json!("/orders"), &["/url"]),
        ("url", json!("https://a.example/#x"), &["/url"]),
        ("url", json!("https://user@a.example/"), &["/url"]),
        ("url", json!("ftp://a.example/"), &["/url"]),
        ("headers", json!({}), &["/headers"]),
        ("headers", json!(["a"]), &["/headers/0"]),
        ("headers", json!([["a", "b"], ["a"]]), &["/headers/1"]),
        ("headers", json!([["a", "b", "c"]]), &["/headers/0"]),
        ("headers", json!([["a b", 1]]), &["/headers/0/0", "/headers/0/1"]),
        ("body", json!("a"), &["/body"]),
        ("body", json!(null), &["/body"]),
        ("profile", json!(1), &["/profile"]),
        ("session_id", json!("x"), &["/session_id"]),
        ("other", json!(1), &["/other"]),
    ] {
        let mut body = right.clone();
        body[member] = value;
        let request = app.request("POST", PATH).json(&body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    app.post(PATH, &json!({})).await.names(&["/method", "/url", "/headers"]);
    let large = app.request("POST", PATH).text("x".repeat(256 * 1024 + 1));
    app.refuses(large, 413, "payload_too_large").await;
}

/// What cannot be said is not a "no".
#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_nothing_is_said() {
    let app = TestApp::start(Sqlite).await;
    let agent = Agent::new(KeyType::Ed25519);
    verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    let message = order().signed(&agent, now(&app));
    app.store().raw().execute("ALTER TABLE signer_nonces RENAME TO gone").await;
    let answer = verify(&app, &message).await;
    assert!(answer.status >= 500, "{answer:?}");
}
