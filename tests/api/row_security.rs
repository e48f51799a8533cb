//! The service while PostgreSQL has row-level security on: all of it for a role that bypasses policies, and
//! none of it for another one.

use onceguard::domain::KeyType;
use serde_json::json;
use url::Url;

use crate::dids::ed25519;
use crate::records::sealed;
use crate::support::Database::Postgres;
use crate::support::{Agent, TestApp, database_url, unique};

/// Has the service use this role, which is no superuser.
async fn serve_as(app: &mut TestApp, role: &str, bypasses: &str) {
    let raw = app.store().raw();
    raw.execute(&format!("CREATE ROLE {role} LOGIN {bypasses} PASSWORD 'secret'")).await;
    raw.execute(&format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")).await;
    let mut url = Url::parse(&app.store().postgres_url()).unwrap();
    url.set_username(role).unwrap();
    url.set_password(Some("secret")).unwrap();
    app.restart_with(|config| config.database.url = database_url(url.as_str())).await;
}

async fn drop_role(app: &TestApp, role: &str) {
    app.store().raw().execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_service_works_for_a_role_that_bypasses_policies() {
    let mut app = TestApp::start(Postgres).await;
    let (role, reader) = (format!("serves_{}", unique()), format!("reads_{}", unique()));
    app.store().secure_rows(&reader).await.unwrap();
    serve_as(&mut app, &role, "BYPASSRLS").await;

    let agent = Agent::new(KeyType::Ed25519);
    let me = agent.did.as_str();
    let did = "did:example:row:security";
    app.put(&format!("/v1/dids/{did}"), &ed25519(1)).await.is(201);
    let opened = app
        .open_with(json!({"client_did": me, "server_did": did, "session_key": "a2V5",
            "max_claims": 5, "metadata": {"note": "row security"}}))
        .await
        .text_of("id");
    let path = format!("/v1/sessions/{opened}");
    app.get(&path).await.is(200);
    app.get(&format!("{path}/key")).await.is(200);
    app.patch(&path, &json!({"metadata": {"note": "rows"}})).await.is(200);
    app.post(&format!("{path}/nonces"), &json!({"nonce": "n"})).await.is(201);
    app.post(&format!("{path}/nonces"), &json!({"nonce": "n"}))
        .await
        .refused(409, "nonce_replayed");
    app.request("POST", &format!("{path}/touch")).send().await.is(204);
    agent.request(&app, "GET", &path).send().await.is(200);
    let record = format!("/v1/records/{did}/sync/r");
    let put = app.request("PUT", &record).header("if-none-match", "*").json(&sealed(b"x"));
    put.send().await.is(201);
    app.get(&record).await.is(200);
    assert_eq!(app.get("/v1/search?q=row").await.is(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(app.get("/v1/search?q=rows").await.is(200)["items"].as_array().unwrap().len(), 1);
    app.post("/v1/events", &json!({"type": "test.row", "subject": did})).await.is(201);
    app.get("/v1/events").await.is(200);
    app.get("/v1/stats").await.is(200);
    app.get("/v1/instances").await.is(200);
    app.request("POST", &format!("/v1/dids/{did}/revoke")).send().await.is(200);
    app.get(&path).await.refused(410, "session_ended");
    let open = json!({"client_did": me, "server_did": did});
    app.post("/v1/sessions", &open).await.refused(403, "did_revoked");
    app.delete(&format!("/v1/dids/{did}/data")).await.is(200);
    app.get(&record).await.refused(404, "record_not_found");
    app.store().open_rows().await.unwrap();
    app.stop().await;
    drop_role(&app, &role).await;
    drop_role(&app, &reader).await;
}

/// A policy that hides rows, in the way of a role that does not bypass it.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_the_way_of_the_service_is_503_and_never_an_answer() {
    let mut app = TestApp::start(Postgres).await;
    let role = format!("hindered_{}", unique());
    serve_as(&mut app, &role, "").await;
    let revoked = "did:example:revoked";
    app.request("POST", &format!("/v1/dids/{revoked}/revoke")).send().await.is(200);
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}");
    app.post(&format!("{path}/nonces"), &json!({"nonce": "spent"})).await.is(201);
    let open = json!({"client_did": revoked, "server_did": "did:example:other"});
    app.post("/v1/sessions", &open).await.refused(403, "did_revoked");

    let raw = app.store().raw();
    let switch = async |on: &str| {
        for table in ["dids", "sessions", "nonces", "signers", "signer_nonces", "events"] {
            raw.execute(&format!("ALTER TABLE {table} {on} ROW LEVEL SECURITY")).await;
        }
    };
    switch("ENABLE").await;
    app.post("/v1/sessions", &open).await.refused(503, "storage_unavailable");
    app.get(&path).await.refused(503, "storage_unavailable");
    for nonce in ["spent", "fresh"] {
        let claim = app.post(&format!("{path}/nonces"), &json!({"nonce": nonce})).await;
        claim.refused(503, "storage_unavailable");
    }
    app.get("/v1/dids").await.refused(503, "storage_unavailable");
    app.get("/v1/search?q=example").await.refused(503, "storage_unavailable");
    switch("DISABLE").await;
    app.post("/v1/sessions", &open).await.refused(403, "did_revoked");
    let spent = app.post(&format!("{path}/nonces"), &json!({"nonce": "spent"})).await;
    spent.refused(409, "nonce_replayed");
    app.post(&format!("{path}/nonces"), &json!({"nonce": "fresh"})).await.is(201);
    app.stop().await;
    drop_role(&app, &role).await;
}
