//! `POST /v1/claims`: many claims at once, each on its own.

use chrono::{Duration, SecondsFormat};
use rstest::rstest;
use serde_json::{Value, json};

use crate::sessions::time;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Answer, TestApp, a_did, minutes};

/// A time by the database's clock, as a caller writes it.
async fn in_minutes(app: &TestApp, minutes: i64) -> String {
    let at = app.store().now().await.unwrap() + Duration::minutes(minutes);
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

async fn claim(app: &TestApp, claims: &Value) -> Answer {
    app.post("/v1/claims", &json!({ "claims": claims })).await
}

fn outcomes(answer: &Answer) -> Vec<&str> {
    let results = answer["results"].as_array().unwrap_or_else(|| panic!("{answer:?}")).iter();
    results.map(|result| result["outcome"].as_str().unwrap()).collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_in_one_batch_in_its_order(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| config.claims.quota_per_signer = 1).await;
    let (live, ended) = (app.session().await, app.session().await);
    let full = app.open_with(json!({"max_claims": 1})).await.text_of("id");
    let expired = app.open_with(json!({"ttl_seconds": 60})).await.text_of("id");
    let revoked = app.session().await;
    let used = app.post(&format!("/v1/sessions/{live}/nonces"), &json!({"nonce": "used"})).await;
    app.post(&format!("/v1/sessions/{full}/nonces"), &json!({"nonce": "used"})).await.is(201);
    app.delete(&format!("/v1/sessions/{ended}")).await.is(204);
    app.store().pass(minutes(2)).await;
    let (signer, bad_signer, greedy) = (a_did(), a_did(), a_did());
    app.request("POST", &format!("/v1/dids/{bad_signer}/revoke")).send().await.is(200);
    // The row alone: as if the sessions' ending lagged behind.
    let raw = app.store().raw();
    let party = app.get(&format!("/v1/sessions/{revoked}")).await.text_of("client_did");
    app.store()
        .raw()
        .execute(&format!(
            "UPDATE sessions SET client_did = '{bad_signer}' WHERE client_did = '{party}'"
        ))
        .await;
    assert_eq!(raw.number("count(*) FROM nonces").await, 2);

    let (soon, past) = (in_minutes(&app, 5).await, in_minutes(&app, -1).await);
    let first_used_at =
        app.get(&format!("/v1/sessions/{live}/nonces/used")).await["used_at"].clone();
    if on == Sqlite {
        assert_eq!(first_used_at, used["used_at"], "nothing moved it");
    }
    let unknown = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";
    let claims = json!([
        {"session_id": live, "nonce": "fresh"},
        {"session_id": live, "nonce": "used"},
        {"session_id": unknown, "nonce": "n"},
        {"session_id": ended, "nonce": "n"},
        {"session_id": expired, "nonce": "n"},
        {"session_id": full, "nonce": "n"},
        {"session_id": revoked, "nonce": "n"},
        {"signer": signer.as_str(), "nonce": "fresh", "expires_at": soon},
        {"signer": signer.as_str(), "nonce": "fresh", "expires_at": soon},
        {"signer": a_did().as_str(), "nonce": "late", "expires_at": past},
        {"signer": greedy.as_str(), "nonce": "1", "expires_at": soon},
        {"signer": greedy.as_str(), "nonce": "2", "expires_at": soon},
        {"signer": bad_signer.as_str(), "nonce": "n", "expires_at": soon},
        {"session_id": live, "nonce": "fresh"},
    ]);
    let answer = claim(&app, &claims).await.is(200);
    assert_eq!(
        outcomes(&answer),
        [
            "accepted",
            "replayed",
            "session_not_found",
            "session_ended",
            "session_expired",
            "claim_quota_reached",
            "did_revoked",
            "accepted",
            "replayed",
            "expired",
            "accepted",
            "claim_quota_reached",
            "did_revoked",
            "replayed",
        ]
    );
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results[1], json!({"outcome": "replayed", "first_used_at": first_used_at}));
    assert_eq!(results[2], json!({"outcome": "session_not_found"}));
    assert_eq!(results[8]["first_used_at"], results[7]["used_at"]);
    assert_eq!(results[13]["first_used_at"], results[0]["used_at"]);
    for accepted in [0, 7, 10] {
        assert_eq!(results[accepted].as_object().unwrap().len(), 2);
        time(&results[accepted]["used_at"]);
    }
    assert_eq!(raw.number("count(*) FROM nonces").await, 3);
    assert_eq!(raw.number("count(*) FROM signer_nonces").await, 2);
    for (outcome, count) in [("accepted", 5.0), ("replayed", 3.0), ("claim_quota_reached", 2.0)] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(app.metric("onceguard_claims_total", &[&label]).await, count, "{outcome}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn one_malformed_claim_refuses_the_whole_batch(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let session = app.session().await;
    let (soon, later) = (in_minutes(&app, 5).await, in_minutes(&app, 24 * 60 + 1).await);
    let good = json!({"session_id": session, "nonce": "good"});
    for (bad, pointers) in [
        (json!({"session_id": session, "nonce": ""}), &["/claims/1/nonce"][..]),
        (json!({"session_id": "x", "nonce": 1}), &["/claims/1/nonce", "/claims/1/session_id"]),
        (json!({"session_id": session}), &["/claims/1/nonce"]),
        (json!({"nonce": "n"}), &["/claims/1/session_id"]),
        (
            json!({"session_id": session, "nonce": "n", "expires_at": soon}),
            &["/claims/1/expires_at"],
        ),
        (json!({"session_id": session, "nonce": "n", "ttl": 1}), &["/claims/1/ttl"]),
        (
            json!({"session_id": session, "signer": "did:web:a", "nonce": "n", "expires_at": soon}),
            &["/claims/1"],
        ),
        (json!({"signer": "did:web:a", "nonce": "n"}), &["/claims/1/expires_at"]),
        (
            json!({"signer": "did:web:a#key-1", "nonce": "n", "expires_at": soon}),
            &["/claims/1/signer"],
        ),
        (
            json!({"signer": "x", "nonce": "\u{e9}", "expires_at": "soon"}),
            &["/claims/1/signer", "/claims/1/nonce", "/claims/1/expires_at"],
        ),
        (
            json!({"signer": "did:web:a", "nonce": "n", "expires_at": later}),
            &["/claims/1/expires_at"],
        ),
        (
            json!({"signer": "did:web:a", "nonce": "n", "expires_at": 1_800_000_000}),
            &["/claims/1/expires_at"],
        ),
        (
            json!({"signer": "did:web:a", "nonce": "n", "expires_at": "2030-01-01"}),
            &["/claims/1/expires_at"],
        ),
        (json!(null), &["/claims/1"]),
        (json!([]), &["/claims/1"]),
    ] {
        let body = json!({"claims": [good, bad, good]});
        let request = app.request("POST", "/v1/claims").json(&body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    let twice = format!(r#"{{"claims":[{{"session_id":"{session}","nonce":"a","nonce":"b"}}]}}"#);
    let request = app.request("POST", "/v1/claims").text(twice);
    app.refuses(request, 422, "validation_failed").await.names(&["/claims/0/nonce"]);
    for (body, pointer) in [
        (json!({}), "/claims"),
        (json!({"claims": null}), "/claims"),
        (json!({"claims": {}}), "/claims"),
        (json!({"claims": []}), "/claims"),
        (json!({"claims": [good], "atomic": true}), "/atomic"),
    ] {
        let request = app.request("POST", "/v1/claims").json(&body);
        app.refuses(request, 422, "validation_failed").await.names(&[pointer]);
    }
    assert_eq!(outcomes(&claim(&app, &json!([good])).await), ["accepted"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_a_thousand_claims_at_most(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let session = app.session().await;
    let claims = |count: usize| -> Value {
        (0..count).map(|n| json!({"session_id": session, "nonce": format!("n-{n}")})).collect()
    };
    let body = json!({"claims": claims(1001)});
    let request = app.request("POST", "/v1/claims").json(&body);
    app.refuses(request, 422, "validation_failed").await.names(&["/claims"]);
    let answer = claim(&app, &claims(1000)).await.is(200);
    assert!(outcomes(&answer).iter().all(|outcome| *outcome == "accepted"));
    let answer = claim(&app, &claims(1000)).await.is(200);
    assert!(outcomes(&answer).iter().all(|outcome| *outcome == "replayed"));
    assert_eq!(app.store().raw().number("count(*) FROM nonces").await, 1000);
}

/// A batch is no transaction of its claims: two that share nonces never refuse each other whole.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn overlapping_batches_share_the_nonces_out(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (one, two) = (app.session().await, app.open_with(json!({"max_claims": 1000})).await);
    let sessions = [one, two.text_of("id")];
    let batches = (0..8).map(|batch: usize| {
        // Each in another order, so that locks could be taken crosswise.
        let claims: Value = (0..100)
            .map(|n| (n * 7 + batch * 13) % 100)
            .map(|n| json!({"session_id": sessions[n % 2], "nonce": format!("n-{n}")}))
            .collect();
        let app = &app;
        async move { claim(app, &claims).await.is(200) }
    });
    let answers = futures_util::future::join_all(batches).await;
    let accepted = answers.iter().flat_map(outcomes).filter(|word| *word == "accepted").count();
    assert_eq!(accepted, 100);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_s_nonce_is_kept_for_24_hours_at_most(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let signer = a_did();
    let longest = in_minutes(&app, 24 * 60 - 1).await;
    let body = json!([{"signer": signer.as_str(), "nonce": "n", "expires_at": longest}]);
    assert_eq!(outcomes(&claim(&app, &body).await), ["accepted"]);
    // Any offset, any number of digits.
    let at = app.store().now().await.unwrap() + Duration::minutes(5);
    let offset = at.with_timezone(&chrono::FixedOffset::east_opt(19_800).unwrap());
    for (n, text) in
        [offset.to_rfc3339(), at.format("%Y-%m-%dT%H:%M:%SZ").to_string()].iter().enumerate()
    {
        let nonce = format!("offset-{n}");
        let body = json!([{"signer": signer.as_str(), "nonce": nonce, "expires_at": text}]);
        assert_eq!(outcomes(&claim(&app, &body).await), ["accepted"], "{text}");
    }
    // The same nonce of another signer is another nonce.
    let body = json!([{"signer": a_did().as_str(), "nonce": "n", "expires_at": longest}]);
    assert_eq!(outcomes(&claim(&app, &body).await), ["accepted"]);
}

/// A full queue refuses at once, and refuses everything.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_overloaded(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| config.claims.queue = 10).await;
    let session = app.session().await;
    let claims = |count: usize| -> Value {
        (0..count).map(|n| json!({"session_id": session, "nonce": format!("n-{n}")})).collect()
    };
    let body = json!({"claims": claims(11)});
    app.refuses(app.request("POST", "/v1/claims").json(&body), 503, "overloaded").await;
    assert_eq!(outcomes(&claim(&app, &claims(10)).await), ["accepted"; 10]);
    assert_eq!(app.metric("onceguard_claims_overloaded_total", &[]).await, 1.0);
}
