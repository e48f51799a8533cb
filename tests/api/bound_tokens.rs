//! Tokens that are bound to a namespace: they claim and read there, and do nothing else.

use onceguard::domain::TokenScope;
use rstest::rstest;
use serde_json::{Value, json};

use crate::namespaces::ahead;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::TestApp;

/// The calls of a token that is bound to the namespace of the document's examples.
const ITS_CALLS: [&str; 3] = [
    "POST /v1/namespaces/webhooks/nonces",
    "GET /v1/namespaces/webhooks",
    "GET /v1/namespaces/webhooks/nonces/9f2c6a1e",
];
/// The call whose body names namespaces.
const BATCH: &str = "POST /v1/claims";

/// Every operation of the OpenAPI document that asks for a credential, with its examples as path.
async fn operations(app: &TestApp) -> Vec<(String, String)> {
    let document = app.anybody().get("/openapi.json").await.is(200);
    let mut operations = Vec::new();
    for (pattern, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation.get("security").is_none() {
                continue;
            }
            let mut path = pattern.clone();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["in"] == "path" {
                    let name = parameter["name"].as_str().unwrap();
                    let example = parameter["example"].as_str().unwrap().replace('/', "%2F");
                    path = path.replace(&format!("{{{name}}}"), &example);
                }
            }
            assert!(!path.contains('{'), "{pattern} has a parameter without an example");
            operations.push((method.to_uppercase(), path));
        }
    }
    operations
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_does_nothing_else(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let caller = app.bound_caller("webhooks", 3600).await;
    let elsewhere = app.bound_caller("webhook", 3600).await;
    let id = json!({"nonce": "9f2c6a1e", "expires_at": ahead(&app, 300)});
    app.post("/v1/namespaces/webhooks/nonces", &id).await.is(201);
    let mut allowed = Vec::new();
    for (method, path) in operations(&app).await {
        let call = format!("{method} {path}");
        let is_its = ITS_CALLS.contains(&call.as_str());
        for (holder, may) in [(&caller, is_its), (&elsewhere, false)] {
            if call == BATCH {
                continue;
            }
            let answer = holder.request(&method, &path).json(&id).send().await;
            if may {
                // The nonce is spent.
                assert!([200, 409].contains(&answer.status), "{call}: {answer:?}");
                allowed.push(call.clone());
            } else {
                let refused = answer.refused(403, "forbidden");
                // Where its scope is not what it lacks.
                let is_bound =
                    refused.text_of("detail").contains("bound to the namespace `webhook");
                let has_scope = path.contains("/nonces") || path.contains("/namespaces");
                assert_eq!(is_bound, has_scope, "{call}: {refused:?}");
            }
        }
    }
    allowed.sort();
    let mut expected = ITS_CALLS.map(str::to_owned);
    expected.sort();
    assert_eq!(allowed, expected);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_claims_in_its_namespace_only(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let session = app.session().await;
    // Any name may have any character, encoded in the path in any way.
    let caller = app.bound_caller("did:web:a.example", 3600).await;
    let own = "/v1/namespaces/did%3Aweb:a%2Eexample";
    let soon = ahead(&app, 300);
    let nonce = |text: &str| json!({"nonce": text, "expires_at": soon});
    caller.post(&format!("{own}/nonces"), &nonce("one")).await.is(201);
    caller.post(&format!("{own}/nonces"), &nonce("one")).await.refused(409, "nonce_replayed");
    caller.get(&format!("{own}/nonces/one")).await.is(200);
    assert_eq!(caller.get(own).await.is(200)["live"], 1);
    // What others claim there is the same scope.
    app.post("/v1/namespaces/did:web:a.example/nonces", &nonce("one"))
        .await
        .refused(409, "nonce_replayed");

    let inside =
        |text: &str| json!({"namespace": "did:web:a.example", "nonce": text, "expires_at": soon});
    let batch = |claims: &[Value]| json!({ "claims": claims });
    let answer = caller.post("/v1/claims", &batch(&[inside("one"), inside("two")])).await.is(200);
    assert_eq!(answer["results"][0]["outcome"], "replayed");
    assert_eq!(answer["results"][1]["outcome"], "accepted");
    for outside in [
        json!({"session_id": session, "nonce": "three"}),
        json!({"signer": "did:web:a.example", "nonce": "three", "expires_at": soon}),
        json!({"namespace": "did:web:b.example", "nonce": "three", "expires_at": soon}),
    ] {
        let request =
            caller.request("POST", "/v1/claims").json(&batch(&[inside("three"), outside]));
        let answer = app.refuses(request, 403, "forbidden").await;
        assert!(answer.text_of("detail").contains("`did:web:a.example`"), "{answer:?}");
    }
    let path = format!("/v1/sessions/{session}/nonces");
    let request = caller.request("POST", &path).json(&json!({"nonce": "n"}));
    app.refuses(request, 403, "forbidden").await;
    // A name that is none is refused as for other callers.
    let request = caller.request("POST", "/v1/namespaces/a%20b/nonces").json(&nonce("n"));
    app.refuses(request, 422, "validation_failed").await.names(&["namespace"]);
    // Nothing of it was claimed.
    app.post(&format!("{own}/nonces"), &nonce("three")).await.is(201);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn its_claims_expire_within_its_max_ttl(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let caller = app.bound_caller("a", 600).await;
    let path = "/v1/namespaces/a/nonces";
    let until = |seconds: i64| json!({"nonce": "n", "expires_at": ahead(&app, seconds)});
    let request = caller.request("POST", path).json(&until(660));
    let answer = app.refuses(request, 422, "validation_failed").await.names(&["/expires_at"]);
    assert!(answer.text().contains("600 seconds") && answer.text().contains("--max-ttl"));
    let late =
        json!({"claims": [{"namespace": "a", "nonce": "n", "expires_at": ahead(&app, 660)}]});
    let request = caller.request("POST", "/v1/claims").json(&late);
    app.refuses(request, 422, "validation_failed").await.names(&["/claims/0/expires_at"]);
    caller.post(path, &until(590)).await.is(201);
    // The bound is the token's, and not the namespace's.
    let free = app.caller(&[TokenScope::Nonces]).await;
    let day = json!({"nonce": "m", "expires_at": ahead(&app, 86_000)});
    free.post(path, &day).await.is(201);
}
