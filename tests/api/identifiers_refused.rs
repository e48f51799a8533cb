//! What a DID that is not resolved is answered with, over the W3C binding: what the caller asks
//! for is never taken for a failure of the service.

use rstest::rstest;
use serde_json::json;

use crate::identifiers::{failed, path_of};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Says, TestApp, Upstream, an_upstream_did};
use crate::verify::{PATH, now, order};

/// Keys of other types (the vectors of did:key); the specification has an error for them.
const OTHER_KEYS: [(&str, &str); 5] = [
    ("X25519", "z6LSeu9HkTHSfLLeUs2nnzUSNedgDUevfNQgQjQC23ZCit6F"),
    ("P-384", "z82Lm1MpAkeJcix9K8TMiLd5NMAhnwkjjCBeWHXyu3U4oT2MVJJKXkcVBgjGhnLBn2Kaau9"),
    (
        "P-521",
        "z2J9gaYxrKVpdoG9A4gRnmpnRCcxU6agDtFVVBVdn1JedouoZN7SzcyREXXzWgt3gGiwpoHq7K68X4m32D8HgzG8wv3sY5j7",
    ),
    (
        "BLS12-381 G2",
        "zUC7K4ndUaGZgV7Cp2yJy6JtMoUHY6u7tkcSYUvPrEidqBmLCTLmi6d5WvwnUqejscAkERJ3bfjEiSYtdPkRSE8kSa11hFBr4sTgnbZ95SJj19PN2jdvJjyzpSZgxkyyxNnBNnY",
    ),
    (
        "RSA",
        "z4MXj1wBzi9jUstyPMS4jQqB6KdJaiatPkAtVtGc6bQEQEEsKTic4G7Rou3iBf9vPmT5dbkm9qsZsuVNjq8HCuW1w24nhBFGkRE4cd2Uf2tfrB3N7h4mnyPp1BF3ZttHTYv3DLUPi1zMdkULiow3M1GfXkoC6DoxDUm1jmN6GBj22SjVsr6dxezRVQc7aj9TxE7JLbMH1wh5X3kA58H3DFW8rnYMakFGbca5CB2Jf6CnGQZmL7o5uJAdTwXfy2iiiyPxXEGerMhHwhjTA1mKYobyk2CpeEcmvynADfNZ5MBvcCS7m3XkFCMNUYBS9NQ3fze6vMSUPsNa6GVYmKx2x6JrdEjCk3qRMMmyjnjCMfR4pXbRMZa3i",
    ),
];

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_key_may_be_of_a_type_that_is_not_supported(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    for (name, key) in OTHER_KEYS {
        let did = format!("did:key:{key}");
        let answer = app.get(&format!("/1.0/identifiers/{did}")).await;
        let detail = failed(answer, 501, "UNSUPPORTED_PUBLIC_KEY_TYPE");
        assert!(detail.starts_with(&format!("{name} keys are not supported")), "{detail}");
        let read = app.request("GET", &format!("/v1/dids/{did}"));
        let detail = app.refuses(read, 422, "did_unresolvable").await.text_of("detail");
        assert!(detail.contains(&format!("{name} keys are not supported")), "{detail}");

        let agent = Agent::new(onceguard::domain::KeyType::Ed25519);
        let signed = order().signed(&agent, now(&app));
        let forged = signed.edit("signature-input", agent.did.as_str(), &did);
        let verdict = app.request("POST", PATH).json(&forged.to_verify());
        let verdict = app.refuses(verdict, 403, "signature_key_unknown").await;
        let detail = verdict.text_of("detail");
        assert!(detail.contains(&format!("{name} keys are not supported")), "{detail}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_did_of_its_method_is_invalid(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    for id in [
        "did:web:a..b",
        "did:web:-a.example",
        "did:web:localhost%3A99999",
        "did:web:localhost%3A0",
        "did:web:127.0.0.1",
        "did:web:a.example:..",
        "did:web:a.example::b",
        "did:web:a.example:%2F",
        // An Ed25519 key that is too short, a multicodec of no key, another multibase.
        "did:key:z6MkiTBz1",
        "did:key:zQmYtUc4iTCbbfVSDNKvtQqrfyezPPnFvE33wFmutw9PBBk",
        "did:key:u7QF2pOjUWJ8xP1v1vXvLrpXq7t3b9VRtX9m3mZLmKJ9Q8A",
        "did:key:f00",
        "did:key:z",
    ] {
        let answer = app.get(&format!("/1.0/identifiers/{id}")).await;
        let detail = failed(answer, 400, "INVALID_DID");
        assert!(!detail.contains("resolvers."), "{id}: {detail}");
    }
    // As the resolver says of a method that it reads for us.
    for (status, name) in [
        (400, "INVALID_DID"),
        (404, "NOT_FOUND"),
        (406, "REPRESENTATION_NOT_SUPPORTED"),
        (501, "METHOD_NOT_SUPPORTED"),
    ] {
        let did = an_upstream_did();
        upstream.says(&did, Says::Status(status));
        failed(app.get(&path_of(&did)).await, status, name);
    }
    // What fails is the DID's home, or its document.
    for status in [401, 403, 429, 500, 502, 503] {
        let did = an_upstream_did();
        upstream.says(&did, Says::Status(status));
        app.get(&path_of(&did)).await.refused(503, "upstream_unavailable");
    }
    for document in [json!(null), json!([]), json!({}), json!({ "id": "did:example:another" })] {
        let did = an_upstream_did();
        upstream.says(&did, Says::Document(document));
        failed(app.get(&path_of(&did)).await, 500, "INVALID_DID_DOCUMENT");
    }
}

async fn start(on: Database) -> (TestApp, Upstream) {
    let upstream = Upstream::start().await;
    let app = TestApp::start_with(on, |config| {
        upstream.configure(config);
        config.resolvers.web.enabled = true;
    })
    .await;
    (app, upstream)
}
