//! DIDs in paths: taken as they stand, or decoded once.

use rstest::rstest;
use serde_json::json;

use crate::dids::ed25519;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::TestApp;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_is_taken_verbatim_or_decoded_once(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for (in_path, did) in [
        ("did:web:plain.example", "did:web:plain.example"),
        ("did%3Aweb%3Aencoded.example", "did:web:encoded.example"),
        ("did%3aweb%3alower.example", "did:web:lower.example"),
        ("did%3Aweb:mixed.example", "did:web:mixed.example"),
        // did:web writes a port with %3A: the two are different DIDs.
        ("did:web:port.example%3A8443", "did:web:port.example%3A8443"),
        ("did%3Aweb%3Aport.example%253A9443:path", "did:web:port.example%3A9443:path"),
        ("did%3Aweb%3Aport.example%3A8443", "did:web:port.example:8443"),
        ("did:web:a.example:user:alice", "did:web:a.example:user:alice"),
        // Percent-encoding is part of a DID, so this is no fragment.
        ("did:web:verbatim.example%23key", "did:web:verbatim.example%23key"),
    ] {
        let path = format!("/v1/dids/{in_path}");
        let stored = app.put(&path, &ed25519(1)).await.is(201);
        assert_eq!(stored["did"], did, "{in_path}");
        assert_eq!(app.get(&path).await.is(200)["did"], did, "{in_path}");
        app.request("POST", &format!("{path}/refresh")).send().await.is(200);
    }
    let port = app.get("/v1/dids/did%3Aweb%3Aport.example%253A8443").await.is(200);
    assert_eq!(port["did"], "did:web:port.example%3A8443");
    let listed = app.get("/v1/dids?limit=500").await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 9, "nine different DIDs");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_did_is_named(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let too_long = format!("did:web:{}", "a".repeat(1017));
    for in_path in [
        "x",
        "did",
        "did:",
        "did:web",
        "did:web:",
        "did::a",
        "did:Web:a",
        "DID:web:a",
        "did:web:a:",
        "%64id:web:a",
        "did%3Aweb%3Aa%23key-1",
        "did%3Aweb%3Aa%3Fquery",
        "did%3Aweb%3Aa%2Fpath",
        "did%3Aweb%3A%20",
        "did%3Aweb%3A%ff",
        "did%253Aweb%253Aa",
        "did:web:a%2",
        "did:web:a%zz",
        "did:web:%C3%BC%",
        "did%3Aweb%3A%C3%BC",
        "did:web:a;b",
        "did:web:a@b",
        "did:web:a+b",
        &too_long,
    ] {
        let path = format!("/v1/dids/{in_path}");
        app.get(&path).await.names(&["did"]);
        let put = app.request("PUT", &path).json(&ed25519(1));
        app.refuses(put, 422, "validation_failed").await.names(&["did"]);
        app.refuses(app.request("DELETE", &path), 422, "validation_failed").await.names(&["did"]);
        for call in ["revoke", "refresh"] {
            let request = app.request("POST", &format!("{path}/{call}"));
            app.refuses(request, 422, "validation_failed").await.names(&["did"]);
        }
    }
    let put = app.request("PUT", "/v1/dids/x").json(&json!({"key_type": 1, "public_key": "!"}));
    app.refuses(put, 422, "validation_failed").await.names(&["did", "/key_type", "/public_key"]);
}

/// A query is decoded by the rules of queries: a DID with a port is encoded there.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_in_a_query_is_decoded_like_any_parameter(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({"client_did": "did:web:port.example%3A8443"})).await;
    for (query, found) in [
        ("client_did=did:web:port.example%253A8443", 1),
        ("client_did=did%3Aweb%3Aport.example%253A8443", 1),
        ("client_did=did:web:port.example%3A8443", 0),
    ] {
        let page = app.get(&format!("/v1/sessions?{query}")).await.is(200);
        assert_eq!(page["items"].as_array().unwrap().len(), found, "{query}");
    }
    assert_eq!(opened["client_did"], "did:web:port.example%3A8443");
}
