//! Revoking a DID: final, for one seen or unseen, and at once for sessions and claims.

use chrono::Duration;
use rstest::rstest;
use serde_json::json;

use crate::dids::{ed25519, key_in};
use crate::sessions::{members, time};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Answer, TestApp, a_did, an_event};

async fn revoke(app: &TestApp, did: &impl std::fmt::Display) -> Answer {
    app.request("POST", &format!("/v1/dids/{did}/revoke")).send().await.is(200)
}

/// The flag comes first, and the ends of the sessions after it: in between nothing is done in them.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_about_to_end_is_of_no_use(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for party in ["client_did", "server_did"] {
        let did = a_did();
        let fields = json!({party: did.as_str(), "session_key": "a2V5"});
        let path = format!("/v1/sessions/{}", app.open_with(fields).await.text_of("id"));
        app.get(&format!("{path}/key")).await.is(200);
        app.store().revoke_did(&did, an_event("onceguard.did.revoked", &did)).await.unwrap();
        app.get(&path).await.is(200);
        app.refuses(app.request("GET", &format!("{path}/key")), 403, "did_revoked").await;
        let claim = app.request("POST", &format!("{path}/nonces")).json(&json!({"nonce": "n"}));
        app.refuses(claim, 403, "did_revoked").await;
        let open = json!({"client_did": did.as_str(), "server_did": did.as_str()});
        app.refuses(app.request("POST", "/v1/sessions").json(&open), 403, "did_revoked").await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_ends_sessions_and_stops_everything(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (did, other) = (a_did(), a_did());
    let path = format!("/v1/dids/{did}");
    app.put(&path, &ed25519(1)).await.is(201);
    let mut sessions = Vec::new();
    for (client, server) in [(&did, &other), (&other, &did), (&did, &did)] {
        let body = json!({"client_did": client.as_str(), "server_did": server.as_str(), "session_key": "a2V5"});
        sessions.push(app.post("/v1/sessions", &body).await.is(201).text_of("id"));
    }
    let ended = app.open_with(json!({"client_did": did.as_str()})).await.text_of("id");
    app.delete(&format!("/v1/sessions/{ended}")).await.is(204);
    let bystander = app.open_with(json!({"client_did": other.as_str()})).await.text_of("id");

    let before = app.store().now().await.unwrap();
    let revoked = revoke(&app, &did).await;
    assert_eq!(members(revoked.json()), ["did", "revoked_at", "sessions_ended"]);
    assert_eq!((&revoked["did"], &revoked["sessions_ended"]), (&json!(did.as_str()), &json!(3)));
    assert!(time(&revoked["revoked_at"]) >= before);

    for session in &sessions {
        let path = format!("/v1/sessions/{session}");
        let gone = app.get(&path).await.refused(410, "session_ended");
        assert_eq!(gone["end_reason"], "did_revoked");
        app.get(&format!("{path}/key")).await.refused(410, "session_ended");
        let claim = app.request("POST", &format!("{path}/nonces")).json(&json!({"nonce": "n"}));
        let claim = app.refuses(claim, 410, "session_ended").await;
        assert_eq!(claim["end_reason"], "did_revoked");
    }
    let gone = app.get(&format!("/v1/sessions/{ended}")).await.refused(410, "session_ended");
    assert_eq!(gone["end_reason"], "ended", "a session ends once");
    app.get(&format!("/v1/sessions/{bystander}")).await.is(200);
    let wiped = "count(*) FROM sessions WHERE session_key IS NOT NULL";
    assert_eq!(app.store().raw().number(wiped).await, 0);

    for (client, server) in [(&did, &other), (&other, &did)] {
        let body = json!({"client_did": client.as_str(), "server_did": server.as_str()});
        let request = app.request("POST", "/v1/sessions").json(&body);
        app.refuses(request, 403, "did_revoked").await;
    }
    let at = app.store().now().await.unwrap() + Duration::minutes(5);
    let claim =
        json!({"claims": [{"signer": did.as_str(), "nonce": "n", "expires_at": at.to_rfc3339()}]});
    let before = app.data().await;
    let answer = app.post("/v1/claims", &claim).await.is(200);
    assert_eq!(answer["results"], json!([{"outcome": "did_revoked"}]));
    assert_eq!(app.data().await, before);
    app.refuses(app.request("PUT", &path).json(&ed25519(1)), 409, "did_revoked").await;
    app.refuses(app.request("DELETE", &path), 409, "did_revoked").await;
    for answer in [
        app.get(&path).await,
        app.get(&format!("{path}?max_age=0")).await,
        app.request("POST", &format!("{path}/refresh")).send().await,
    ] {
        assert_eq!(answer.is(200)["revoked"], true);
    }
    assert_eq!(app.metric("onceguard_sessions_ended_total", &["did_revoked"]).await, 3.0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_second_revocation_changes_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let did = a_did();
    let first = revoke(&app, &did).await;
    let before = app.data().await;
    let second = revoke(&app, &did).await;
    assert_eq!(second["revoked_at"], first["revoked_at"]);
    assert_eq!(second["sessions_ended"], 0);
    assert_eq!(app.data().await, before);
    assert_eq!(app.audited().await, ["did.revoked"], "written down once");
    let event = app.store().newest_events(1).await.unwrap().remove(0);
    let admin = app.tokens().list().await.unwrap().remove(0);
    assert_eq!(event.subject.as_deref(), Some(did.as_str()));
    assert!(event.actor.as_ref().unwrap().contains(&admin.id.to_string()), "{event:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_is_revoked_unseen(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let did = a_did();
    let path = format!("/v1/dids/{did}");
    app.get(&path).await.refused(404, "did_not_found");
    revoke(&app, &did).await;
    let read = app.get(&path).await.is(200);
    assert_eq!((&read["revoked"], &read["public_key"]), (&json!(true), &json!(null)));
    assert_eq!((&read["key_type"], &read["verification_methods"]), (&json!(null), &json!([])));
    app.refuses(app.request("PUT", &path).json(&ed25519(1)), 409, "did_revoked").await;

    // A did:key keeps its key, whatever is stored; a malformed one can be revoked all the same.
    let key = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";
    revoke(&app, &key).await;
    let read = app.get(&format!("/v1/dids/{key}")).await.is(200);
    assert_eq!((&read["revoked"], &read["public_key"]), (&json!(true), &json!(key_in(key))));
    let body = json!({"key_type": "Ed25519", "public_key": key_in(key)});
    let request = app.request("PUT", &format!("/v1/dids/{key}")).json(&body);
    app.refuses(request, 409, "did_revoked").await;
    revoke(&app, &"did:key:abc").await;
    assert_eq!(app.get("/v1/dids/did:key:abc").await.is(200)["revoked"], true);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_outlives_a_restart(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let did = a_did();
    let first = revoke(&app, &did).await;
    app.restart().await;
    assert_eq!(app.get(&format!("/v1/dids/{did}")).await.is(200)["revoked"], true);
    assert_eq!(revoke(&app, &did).await["revoked_at"], first["revoked_at"]);
    let body = json!({"client_did": did.as_str(), "server_did": "did:web:a"});
    app.post("/v1/sessions", &body).await.refused(403, "did_revoked");
}

/// However openings and a revocation interleave, no session of a revoked DID stays.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_opening_slips_past_a_revocation(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for round in 0..8 {
        let did = a_did();
        let body = json!({"client_did": did.as_str(), "server_did": "did:web:a"});
        let opening = (0..12).map(|_| app.post("/v1/sessions", &body));
        let revoking = async {
            if round % 2 == 1 {
                app.post("/v1/sessions", &body).await;
            }
            revoke(&app, &did).await
        };
        let (opened, revoked) = tokio::join!(futures_util::future::join_all(opening), revoking);
        for answer in opened {
            match answer.status {
                201 => {
                    let path = format!("/v1/sessions/{}", answer.text_of("id"));
                    app.get(&path).await.refused(410, "session_ended");
                }
                _ => drop(answer.refused(403, "did_revoked")),
            }
        }
        let ended = app.get(&format!("/v1/sessions?state=all&client_did={did}")).await;
        assert_eq!(revoked["sessions_ended"], ended["items"].as_array().unwrap().len());
    }
}
