//! DIDs as W3C DID Resolution has them: every form, every error, and what is never cached.

use onceguard::domain::{Did, KeyType};
use onceguard::resolvers::did_key;
use rstest::rstest;
use serde_json::{Value, json};

use crate::dids::ed25519;
use crate::sessions::time;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    Agent, Answer, Says, TestApp, Upstream, a_did, a_public_key, an_upstream_did, minutes,
    upstream_document,
};

const RESULT: &str = "application/did-resolution";
const LEGACY_RESULT: &str = "application/ld+json;profile=\"https://w3id.org/did-resolution\"";

pub(crate) fn path_of(did: &Did) -> String {
    format!("/1.0/identifiers/{did}")
}

async fn start(on: Database) -> (TestApp, Upstream) {
    let upstream = Upstream::start().await;
    let app = TestApp::start_with(on, |config| upstream.configure(config)).await;
    (app, upstream)
}

/// A DID that lives upstream, with the key of this number.
pub(crate) fn did_at(upstream: &Upstream, number: u8) -> Did {
    let did = an_upstream_did();
    upstream.has(&did, &a_public_key(number));
    did
}

async fn get_as(app: &TestApp, path: &str, accept: &str) -> Answer {
    let answer = app.request("GET", path).header("accept", accept).send().await;
    assert_eq!(answer.header("vary"), Some("Accept"), "{answer:?}");
    answer
}

/// The answer is a result with this error alone, in today's form.
#[track_caller]
pub(crate) fn failed(answer: Answer, status: u16, name: &str) -> String {
    let answer = answer.is(status);
    assert_eq!(answer.header("content-type"), Some(RESULT), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    let error = &answer["didResolutionMetadata"]["error"];
    assert_eq!(error["type"], format!("https://www.w3.org/ns/did#{name}"), "{answer:?}");
    let (title, detail) = (error["title"].as_str().unwrap(), error["detail"].as_str().unwrap());
    assert!(!title.is_empty() && !detail.is_empty(), "{answer:?}");
    let expected = json!({
        "didDocument": null,
        "didResolutionMetadata": {
            "error": { "type": error["type"], "title": title, "detail": detail },
        },
        "didDocumentMetadata": {},
    });
    assert_eq!(answer.json(), &expected);
    detail.to_owned()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_given_in_each_form(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let did = did_at(&upstream, 1);
    let (path, document) = (path_of(&did), upstream_document(&did, &a_public_key(1)));
    let whole = json!({
        "didDocument": document,
        "didResolutionMetadata": { "contentType": "application/did" },
        "didDocumentMetadata": {},
    });
    let mut legacy = whole.clone();
    legacy["@context"] = json!("https://w3id.org/did-resolution/v1");
    legacy["didResolutionMetadata"]["contentType"] = json!("application/did+ld+json");
    for (accept, content_type, body) in [
        (RESULT, RESULT, &whole),
        ("*/*", RESULT, &whole),
        ("application/*;q=0.1, text/html", RESULT, &whole),
        (LEGACY_RESULT, LEGACY_RESULT, &legacy),
        ("application/did", "application/did", &document),
        ("application/did+ld+json", "application/did+ld+json", &document),
        ("application/did+json;q=0.5", "application/did+json", &document),
        ("application/json", "application/did+json", &document),
        ("application/json, text/plain, */*", "application/did+json", &document),
        ("application/ld+json", "application/did+ld+json", &document),
    ] {
        let answer = get_as(&app, &path, accept).await.is(200);
        assert_eq!(answer.header("content-type"), Some(content_type), "{accept}");
        assert_eq!(answer.json(), body, "{accept}");
        assert_eq!(answer.header("cache-control"), Some("private, max-age=300"));
        assert!(answer.header("age").unwrap().parse::<u32>().unwrap() < 300);
    }
    // Without `Accept`, too.
    let answer = app.get(&path).await.is(200);
    assert_eq!((answer.header("content-type"), answer.json()), (Some(RESULT), &whole));
    app.request("HEAD", &path).send().await.is(200);
    assert_eq!(upstream.asked(), 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_document_without_a_context_is_no_json_ld(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let did = an_upstream_did();
    upstream.says(&did, Says::Document(json!({ "id": did.as_str(), "controller": "did:web:a" })));
    let answer = get_as(&app, &path_of(&did), LEGACY_RESULT).await.is(200);
    assert_eq!(answer["didResolutionMetadata"]["contentType"], "application/did+json");
    // It is given as it is, although nothing in it is of use to us.
    assert_eq!(answer["didDocument"]["controller"], "did:web:a");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_key_is_its_own_document(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for key_type in KeyType::ALL {
        let agent = Agent::new(key_type);
        let did = did_key::encode(agent.signer.key.public_key()).unwrap();
        let id = format!("{did}#{}", did.method_specific_id());
        let answer = get_as(&app, &path_of(&did), RESULT).await.is(200);
        let expected = json!({
            "didDocument": {
                "@context": [
                    "https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1",
                ],
                "id": did.as_str(),
                "verificationMethod": [{
                    "id": id,
                    "type": "Multikey",
                    "controller": did.as_str(),
                    "publicKeyMultibase": did.method_specific_id(),
                }],
                "authentication": [id],
                "assertionMethod": [id],
                "capabilityInvocation": [id],
                "capabilityDelegation": [id],
            },
            "didResolutionMetadata": { "contentType": "application/did" },
            "didDocumentMetadata": {},
        });
        assert_eq!(answer.json(), &expected);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_key_is_given_as_a_document(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let did = a_did();
    let store = format!("/v1/dids/{did}");
    let stored = app.put(&store, &ed25519(1)).await.is(201);
    let seconds = |value: &Value| {
        let time = time(value).to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        assert!(time.ends_with('Z') && !time.contains('.'), "{time}");
        time
    };
    let answer = get_as(&app, &path_of(&did), RESULT).await.is(200);
    let multikey = did_key::encode(&a_public_key(1)).unwrap();
    let document = &answer["didDocument"];
    assert_eq!(document["id"], did.as_str());
    assert_eq!(document["authentication"], json!([format!("{did}#key-1")]));
    assert_eq!(
        document["verificationMethod"],
        json!([{
            "id": format!("{did}#key-1"),
            "type": "Multikey",
            "controller": did.as_str(),
            "publicKeyMultibase": multikey.method_specific_id(),
        }])
    );
    let created = seconds(&stored["created_at"]);
    assert_eq!(answer["didDocumentMetadata"], json!({ "created": created }));

    let stored = app.put(&store, &ed25519(2)).await.is(200);
    let answer = get_as(&app, &path_of(&did), RESULT).await.is(200);
    let updated = seconds(&stored["updated_at"]);
    assert_eq!(answer["didDocumentMetadata"], json!({ "created": created, "updated": updated }));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_or_deactivated_has_no_document(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let (revoked, deactivated, unseen) =
        (did_at(&upstream, 1), an_upstream_did(), an_upstream_did());
    upstream.says(&deactivated, Says::Deactivated);
    app.get(&path_of(&revoked)).await.is(200);
    for did in [&revoked, &unseen] {
        app.post(&format!("/v1/dids/{did}/revoke"), &json!({})).await.is(200);
    }
    let gone = json!({
        "didDocument": null,
        "didResolutionMetadata": {},
        "didDocumentMetadata": { "deactivated": true },
    });
    let mut legacy = gone.clone();
    legacy["@context"] = json!("https://w3id.org/did-resolution/v1");
    for did in [&revoked, &deactivated, &unseen] {
        for (accept, content_type, body) in [
            (RESULT, RESULT, &gone),
            ("application/did", RESULT, &gone),
            (LEGACY_RESULT, LEGACY_RESULT, &legacy),
        ] {
            let answer = get_as(&app, &path_of(did), accept).await.is(410);
            assert_eq!(answer.header("content-type"), Some(content_type), "{did} {accept}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{did} {accept}");
            assert_eq!(answer.json(), body, "{did} {accept}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_did_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for id in ["x", "did:", "DID:web:a", "did:web:a%23key-1%zz", "did%3Aweb%3Aa%23key-1"] {
        let answer = app.get(&format!("/1.0/identifiers/{id}")).await;
        failed(answer, 400, "INVALID_DID");
    }
    // A did:key that holds no key is none.
    let answer = app.get("/1.0/identifiers/did:key:z6MkiTBz1").await;
    let detail = failed(answer, 400, "INVALID_DID");
    assert!(!detail.contains("must be a DID"), "{detail}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_may_be_percent_encoded(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    app.put("/v1/dids/did:ex:a%3A8443", &ed25519(1)).await.is(201);
    for id in ["did:ex:a%3A8443", "did%3Aex%3Aa%253A8443"] {
        let answer = app.get(&format!("/1.0/identifiers/{id}")).await.is(200);
        assert_eq!(answer["didDocument"]["id"], "did:ex:a%3A8443", "{id}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_is_not_known(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let unknown = an_upstream_did();
    failed(app.get(&path_of(&unknown)).await, 404, "NOT_FOUND");
    // Whatever was asked for: there is no document of an error.
    failed(get_as(&app, &path_of(&unknown), "application/did").await, 404, "NOT_FOUND");

    let answer = app.get("/1.0/identifiers/did:nobody:reads-this").await;
    let detail = failed(answer, 501, "METHOD_NOT_SUPPORTED");
    assert!(detail.contains("did:nobody"), "{detail}");

    let wrong = an_upstream_did();
    upstream.says(&wrong, Says::Document(json!({ "id": "did:example:another" })));
    failed(app.get(&path_of(&wrong)).await, 500, "INVALID_DID_DOCUMENT");

    for accept in ["text/html", "application/cbor", "*/*;q=0"] {
        let answer = get_as(&app, &path_of(&unknown), accept).await;
        failed(answer, 406, "REPRESENTATION_NOT_SUPPORTED");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn clients_of_old_get_errors_of_old(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let wrong = an_upstream_did();
    upstream.says(&wrong, Says::Document(json!({})));
    for (path, status, name) in [
        (path_of(&an_upstream_did()), 404, "notFound"),
        (path_of(&wrong), 500, "invalidDidDocument"),
        ("/1.0/identifiers/did:x".to_owned(), 400, "invalidDid"),
        ("/1.0/identifiers/did:nobody:reads-this".to_owned(), 501, "methodNotSupported"),
        (format!("{}?noCache=x", path_of(&wrong)), 400, "invalidOptions"),
        (format!("{}?versionId=1", path_of(&wrong)), 501, "featureNotSupported"),
    ] {
        let answer = get_as(&app, &path, LEGACY_RESULT).await.is(status);
        assert_eq!(answer.header("content-type"), Some(LEGACY_RESULT), "{path}");
        let message = &answer["didResolutionMetadata"]["errorMessage"];
        assert!(!message.as_str().unwrap().is_empty(), "{path}");
        let expected = json!({
            "@context": "https://w3id.org/did-resolution/v1",
            "didDocument": null,
            "didResolutionMetadata": { "error": name, "errorMessage": message },
            "didDocumentMetadata": {},
        });
        assert_eq!(answer.json(), &expected, "{path}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_us_from_answering_is_a_problem(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let did = did_at(&upstream, 1);
    app.anybody().get(&path_of(&did)).await.refused(401, "unauthenticated");
    app.caller(&[]).await.get(&path_of(&did)).await.refused(403, "forbidden");
    upstream.fails(true);
    for accept in [RESULT, LEGACY_RESULT, "application/did"] {
        let request = app.request("GET", &path_of(&did)).header("accept", accept);
        let answer = request.send().await.refused(503, "upstream_unavailable");
        assert!(answer.header("retry-after").is_some());
    }
    upstream.fails(false);
    app.get(&path_of(&did)).await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_cache_reads_a_did_from_where_it_lives(#[values(Sqlite, Postgres)] on: Database) {
    let upstream = Upstream::start().await;
    let app = TestApp::start_with(on, |config| {
        upstream.configure(config);
        config.dids.refresh_interval = minutes(60);
    })
    .await;
    let did = did_at(&upstream, 1);
    let path = path_of(&did);
    let key = async |query: &str| {
        let answer = app.get(&format!("{path}{query}")).await.is(200);
        answer["didDocument"]["verificationMethod"][0]["publicKeyMultibase"].clone()
    };
    let multikey = |number| a_public_key(number).to_multikey();
    assert_eq!(key("").await, multikey(1));
    upstream.has(&did, &a_public_key(2));
    assert_eq!(key("").await, multikey(1));
    assert_eq!(key("?noCache=false").await, multikey(1));
    assert_eq!(upstream.asked(), 1);
    assert_eq!(key("?noCache=true").await, multikey(2));
    assert_eq!(key("").await, multikey(2));
    assert_eq!(upstream.asked(), 2);

    // Not again so soon; the specification has an error for that.
    let again = app.get(&format!("{path}?noCache=true")).await;
    let detail = failed(again, 501, "FEATURE_NOT_SUPPORTED");
    assert!(detail.contains("noCache"), "{detail}");
    assert_eq!(key("").await, multikey(2));
    assert_eq!(upstream.asked(), 2);

    for query in ["noCache", "noCache=1", "noCache=true&noCache=true"] {
        failed(app.get(&format!("{path}?{query}")).await, 400, "INVALID_OPTIONS");
    }
    for query in ["versionId=1", "expandRelativeUrls=true", "service=files", "max_age=1"] {
        failed(app.get(&format!("{path}?{query}")).await, 501, "FEATURE_NOT_SUPPORTED");
    }
}
