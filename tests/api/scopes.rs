//! Each scope against each call: exactly the right ones are allowed.

use onceguard::domain::TokenScope::{
    self, Admin, Audit, Dids, Events, Nonces, Records, Revoke, SessionKeys, Sessions, Verify,
    Webhooks,
};
use rstest::rstest;
use serde_json::{Value, json};

use crate::dids::ed25519;
use crate::namespaces::ahead;
use crate::routing::PATHS;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::TestApp;

/// Every call, the one scope (beside `admin`) that allows it, and what it then answers.
fn calls(
    session: &str,
    expires_at: &str,
) -> Vec<(TokenScope, &'static str, String, Option<Value>, u16)> {
    let open = json!({"client_did": "did:web:a", "server_did": "did:web:b"});
    let claims = json!({"claims": [{"session_id": session, "nonce": "n"}]});
    let id = json!({"nonce": session, "expires_at": expires_at});
    let nobody = json!({"client_did": "did:web:nobody.example"});
    // The caller may ask; the answer to this is no.
    let unsigned = json!({"method": "GET", "url": "https://a.example", "headers": []});
    let event = json!({"type": "a.b", "subject": "c"});
    let path = format!("/v1/sessions/{session}");
    let did = "/v1/dids/did:web:scopes.example";
    let record = "/v1/records/did:web:a.example";
    let webhook = "/v1/webhooks/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";
    vec![
        (Sessions, "POST", "/v1/sessions".into(), Some(open), 201),
        (Sessions, "GET", "/v1/sessions".into(), None, 200),
        (Sessions, "POST", "/v1/sessions/end".into(), Some(nobody), 200),
        (Sessions, "GET", path.clone(), None, 200),
        (Sessions, "PATCH", path.clone(), Some(json!({"metadata": {}})), 200),
        (Sessions, "POST", format!("{path}/touch"), None, 204),
        (SessionKeys, "GET", format!("{path}/key"), None, 200),
        (Nonces, "POST", format!("{path}/nonces"), Some(json!({"nonce": "one"})), 201),
        (Nonces, "GET", format!("{path}/nonces/spent"), None, 200),
        (Nonces, "POST", "/v1/namespaces/a/nonces".into(), Some(id), 201),
        (Nonces, "GET", "/v1/namespaces/a/nonces/spent".into(), None, 200),
        (Nonces, "GET", "/v1/namespaces/a".into(), None, 200),
        (Nonces, "POST", "/v1/claims".into(), Some(claims), 200),
        (Dids, "GET", "/v1/dids".into(), None, 200),
        (Dids, "PUT", did.into(), Some(ed25519(1)), 201),
        (Dids, "GET", did.into(), None, 200),
        (Dids, "GET", "/1.0/identifiers/did:web:scopes.example".into(), None, 200),
        (Dids, "POST", format!("{did}/refresh"), None, 200),
        (Dids, "DELETE", did.into(), None, 204),
        (Revoke, "POST", "/v1/dids/did:web:revoked.example/revoke".into(), None, 200),
        // The caller may ask; these lack what they need.
        (Records, "PUT", format!("{record}/sync/r"), Some(json!({})), 428),
        (Records, "GET", format!("{record}/sync/r"), None, 404),
        (Records, "DELETE", format!("{record}/sync/r"), None, 428),
        (Records, "POST", format!("{record}/batch"), Some(json!({})), 422),
        (Records, "GET", record.into(), None, 200),
        (Records, "GET", format!("{record}/usage"), None, 200),
        (Records, "DELETE", record.into(), None, 200),
        (Admin, "DELETE", "/v1/dids/did:web:a.example/data".into(), None, 200),
        (Admin, "GET", "/v1/records?inactive_days=1".into(), None, 200),
        (Admin, "DELETE", "/v1/records?inactive_days=1".into(), None, 200),
        (Events, "POST", "/v1/events".into(), Some(event), 201),
        (Audit, "GET", "/v1/events".into(), None, 200),
        // The caller may ask; there is no such webhook.
        (Webhooks, "POST", "/v1/webhooks".into(), Some(json!({})), 422),
        (Webhooks, "GET", "/v1/webhooks".into(), None, 200),
        (Webhooks, "PATCH", webhook.into(), Some(json!({"paused": true})), 404),
        (Webhooks, "DELETE", webhook.into(), None, 404),
        (Webhooks, "GET", format!("{webhook}/deliveries"), None, 404),
        (Webhooks, "POST", format!("{webhook}/replay"), Some(json!({"event": webhook[13..]})), 404),
        (Sessions, "GET", "/v1/search?q=a".into(), None, 200),
        (Admin, "GET", "/v1/stats".into(), None, 200),
        (Admin, "GET", "/v1/instances".into(), None, 200),
        (Verify, "POST", "/v1/verify".into(), Some(unsigned), 403),
        (Sessions, "DELETE", path, None, 204),
    ]
}

async fn example(app: &TestApp) -> String {
    let opened = app.open_with(json!({"session_key": "a2V5"})).await.text_of("id");
    let nonces = format!("/v1/sessions/{opened}/nonces");
    app.post(&nonces, &json!({"nonce": "spent"})).await.is(201);
    opened
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_allows_its_calls_and_no_others(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let mut scopes: Vec<Vec<TokenScope>> =
        TokenScope::ALL.into_iter().map(|one| vec![one]).collect();
    scopes.push(vec![]);
    scopes.push(vec![Sessions, Revoke]);
    let expires_at = ahead(&app, 300);
    let spent = json!({"nonce": "spent", "expires_at": expires_at});
    app.post("/v1/namespaces/a/nonces", &spent).await.is(201);
    for held in scopes {
        let caller = app.caller(&held).await;
        let session = example(&app).await;
        for (needed, method, path, body, status) in calls(&session, &expires_at) {
            let mut request = caller.request(method, &path);
            if let Some(body) = &body {
                request = request.json(body);
            }
            let also = path.starts_with("/v1/search").then_some(Dids);
            if held.iter().any(|scope| [needed, Admin].contains(scope) || also == Some(*scope)) {
                let answer = request.send().await;
                assert_eq!(answer.status, status, "{held:?}: {answer:?}");
            } else {
                let answer = app.refuses(request, 403, "forbidden").await;
                let named = format!("`{needed}`");
                assert!(answer.text_of("detail").contains(&named), "{held:?}: {answer:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_above_has_every_call() {
    let session = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";
    let calls = calls(session, "");
    let mut known = Vec::new();
    for (_, method, path, _, _) in &calls {
        let path = path
            .replace("nonces/spent", "nonces/n")
            .replace("?inactive_days=1", "")
            .replace("?q=a", "")
            .replace("did:web:scopes.example", "did:web:a.example")
            .replace("did:web:revoked.example", "did:web:a.example");
        known.push(format!("{method} {path}"));
    }
    for (path, methods) in PATHS {
        for method in methods.split(", ").filter(|method| *method != "HEAD") {
            let call = format!("{method} {path}");
            assert!(known.contains(&call), "{call} has no scope in the table");
        }
    }
    assert_eq!(
        known.len(),
        PATHS.iter().flat_map(|(_, m)| m.split(", ")).filter(|m| *m != "HEAD").count()
    );
}

/// `revoke` cannot be undone, and `session_keys` hands out secrets: no other scope implies them.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn all_ordinary_scopes_together_are_not_admin(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let scopes =
        [Sessions, SessionKeys, Nonces, Dids, Revoke, Verify, Records, Events, Audit, Webhooks];
    let caller = app.caller(&scopes).await;
    caller.get("/v1/stats").await.refused(403, "forbidden");
    let caller = app.caller(&[Sessions, Nonces, Dids, Verify]).await;
    let session = example(&app).await;
    caller.get(&format!("/v1/sessions/{session}/key")).await.refused(403, "forbidden");
    let revoke = caller.request("POST", "/v1/dids/did:web:a.example/revoke");
    app.refuses(revoke, 403, "forbidden").await;
}
