//! What the resolver says of a DID, in every form that it may say it.

use onceguard::resolvers::{Answer, Unusable};
use rstest::rstest;
use serde_json::{Value, json};

use super::stub::{Reply, Stub, answer, raw, result};
use super::{a_document, a_json_document, answer_to, resolvers_at, unreachable};

const DEACTIVATED: Answer = Answer::Deactivated { finalized_at: None };

const INVALID: &str = "calls it invalid";
const NOT_READ: &str = "does not read its method";
const NO_JSON: &str = "has no JSON document of it";
const KEY_TYPE: &str = "does not know the type of its key";
const DOCUMENT: &str = "calls its document invalid";

async fn unusable(reply: Reply) -> Unusable {
    match answer_to(reply).await {
        Answer::Unusable(unusable) => unusable,
        other => panic!("{other:?}"),
    }
}

fn result_with(document: &Value) -> Value {
    json!({
        "@context": "https://w3id.org/did-resolution/v1",
        "didDocument": document,
        "didResolutionMetadata": { "contentType": "application/did+ld+json", "error": null },
        "didDocumentMetadata": { "deactivated": false, "versionId": "7" },
    })
}

fn error(error: &Value) -> Value {
    json!({
        "didDocument": null,
        "didResolutionMetadata": { "error": error },
        "didDocumentMetadata": {},
    })
}

/// An error of the current specification.
fn problem(name: &str) -> Value {
    error(&json!({ "type": format!("https://www.w3.org/ns/did#{name}"), "title": "SECRET" }))
}

#[rstest]
#[case("application/did-resolution")]
#[case("application/ld+json;profile=\"https://w3id.org/did-resolution\"")]
#[tokio::test]
async fn a_document_comes_in_a_result(#[case] content_type: &str) {
    let result = result_with(&a_json_document()).to_string();
    let answer = answer_to(answer(200, content_type, result)).await;
    assert_eq!(answer, Answer::Document { document: a_document(), owner_address: None });
}

#[rstest]
#[case("application/did+json")]
#[case("application/did+ld+json")]
#[case("application/did")]
#[tokio::test]
async fn a_document_comes_alone(#[case] content_type: &str) {
    let answer = answer_to(answer(200, content_type, a_json_document().to_string())).await;
    assert_eq!(answer, Answer::Document { document: a_document(), owner_address: None });
}

#[rstest]
// Before the specification named an error for it, with the last document.
#[case(200, json!({ "didDocument": a_json_document(), "didDocumentMetadata": { "deactivated": true } }))]
#[case(410, json!({
    "didDocument": null, "didResolutionMetadata": {}, "didDocumentMetadata": { "deactivated": true },
}))]
#[case(410, json!("deactivated"))]
#[case(410, a_json_document())]
#[tokio::test]
async fn a_deactivated_did_is_no_document(#[case] status: u16, #[case] body: Value) {
    assert_eq!(answer_to(result(status, &body)).await, DEACTIVATED);
}

#[rstest]
#[case(answer(404, "text/html", "nowhere"))]
#[case(answer(404, "text/html", "x".repeat(100_000)))]
#[case(result(404, &problem("NOT_FOUND")))]
#[case(result(404, &error(&json!("notFound"))))]
#[case(result(200, &error(&json!("notFound"))))]
#[case(result(500, &problem("NOT_FOUND")))]
#[tokio::test]
async fn a_did_may_be_unknown(#[case] reply: Reply) {
    assert_eq!(answer_to(reply).await, Answer::NotFound);
}

#[rstest]
#[case(answer(400, "text/plain", "SECRET"), Unusable::Did, INVALID)]
#[case(result(400, &problem("INVALID_DID")), Unusable::Did, INVALID)]
#[case(result(400, &error(&json!("invalidDid"))), Unusable::Did, INVALID)]
#[case(answer(501, "text/plain", "SECRET"), Unusable::Method, NOT_READ)]
#[case(result(501, &problem("METHOD_NOT_SUPPORTED")), Unusable::Method, NOT_READ)]
#[case(result(500, &error(&json!("methodNotSupported"))), Unusable::Method, NOT_READ)]
#[case(result(406, &problem("REPRESENTATION_NOT_SUPPORTED")), Unusable::Representation, NO_JSON)]
#[case(answer(406, "text/plain", "SECRET"), Unusable::Representation, NO_JSON)]
#[case(result(500, &problem("UNSUPPORTED_PUBLIC_KEY_TYPE")), Unusable::KeyType, KEY_TYPE)]
#[case(result(500, &error(&json!("unsupportedPublicKeyType"))), Unusable::KeyType, KEY_TYPE)]
#[case(result(500, &problem("INVALID_DID_DOCUMENT")), Unusable::Document, DOCUMENT)]
#[tokio::test]
async fn a_did_may_have_no_document_that_is_of_use(
    #[case] reply: Reply,
    #[case] kind: fn(String) -> Unusable,
    #[case] expected: &str,
) {
    assert_eq!(unusable(reply).await, kind(format!("the Universal Resolver {expected}")));
}

/// What is not understood is not active: the DID may be out of use.
#[rstest]
#[case(json!("true"))]
#[case(json!("false"))]
#[case(json!(1))]
#[case(json!(0))]
#[case(json!(null))]
#[case(json!([true]))]
#[case(json!({ "value": true }))]
#[tokio::test]
async fn deactivated_is_true_or_false(#[case] deactivated: Value) {
    let mut says = result_with(&a_json_document());
    says["didDocumentMetadata"] = json!({ "deactivated": deactivated });
    let stub = Stub::start(result(200, &says)).await;
    let why = unreachable(&resolvers_at(&stub)).await;
    assert_eq!(why, "the Universal Resolver says in `deactivated` neither true nor false");
    // It is no less gone for that.
    says["didDocument"] = Value::Null;
    assert_eq!(answer_to(result(410, &says)).await, DEACTIVATED);
}

#[rstest]
#[case(json!(null), true)]
#[case(json!({}), true)]
#[case(json!({ "deactivated": false }), true)]
#[case(json!("deactivated"), false)]
#[case(json!([]), false)]
#[tokio::test]
async fn metadata_of_a_document_are_an_object(#[case] metadata: Value, #[case] usable: bool) {
    let mut says = result_with(&a_json_document());
    says["didDocumentMetadata"] = metadata;
    let stub = Stub::start(result(200, &says)).await;
    if usable {
        let answer = answer_to(result(200, &says)).await;
        assert_eq!(answer, Answer::Document { document: a_document(), owner_address: None });
    } else {
        unreachable(&resolvers_at(&stub)).await;
    }
}

#[rstest]
#[case(answer(200, "text/html", "<html>"), "the Universal Resolver answers with what is not JSON")]
#[case(answer(200, "application/did+json", "[".repeat(60_000)), "is not JSON")]
#[case(answer(200, "application/did+json", "null"), "the document is no JSON object with an id")]
#[case(result(200, &result_with(&Value::Null)), "the document is no JSON object with an id")]
#[case(result(200, &json!({ "didResolutionMetadata": {} })), "is no JSON object with an id")]
#[case(result(200, &result_with(&json!({ "id": "did:ion:other" }))), "the document's id is not the DID")]
#[case(answer(200, "application/did+json", json!({ "id": "did:ion:other" }).to_string()), "the document's id is not the DID")]
#[tokio::test]
async fn a_document_may_be_of_no_use(#[case] reply: Reply, #[case] expected: &str) {
    let unusable = unusable(reply).await;
    assert!(matches!(&unusable, Unusable::Document(why) if why.contains(expected)), "{unusable:?}");
}

#[tokio::test]
async fn a_document_has_at_most_64_kib() {
    let padded = |size: usize| {
        let text = a_json_document().to_string();
        text.clone() + &" ".repeat(size - text.len())
    };
    let fits = answer_to(answer(200, "application/did+json", padded(65_536))).await;
    assert_eq!(fits, Answer::Document { document: a_document(), owner_address: None });
    let expected = Unusable::Document("its document has more than 64 KiB".to_owned());
    assert_eq!(unusable(answer(200, "application/did+json", padded(65_537))).await, expected);
    // Without a length: what comes is counted.
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000)).repeat(5);
    let endless = raw("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", chunk);
    assert_eq!(unusable(endless).await, expected);
}

#[rstest]
#[case(answer(500, "text/plain", "SECRET"), "answers with an error (HTTP status 500)")]
#[case(result(500, &problem("INTERNAL_ERROR")), "answers with an error (HTTP status 500)")]
#[case(result(500, &error(&json!("internalError"))), "answers with an error (HTTP status 500)")]
#[case(result(200, &error(&json!({ "type": 7 }))), "answers with an error (HTTP status 200)")]
#[case(result(200, &problem("SECRET")), "answers with an error (HTTP status 200)")]
#[case(answer(401, "text/plain", "SECRET"), "answers with an error (HTTP status 401)")]
#[case(answer(429, "text/plain", "SECRET"), "answers with an error (HTTP status 429)")]
#[case(answer(503, "text/plain", "SECRET"), "answers with an error (HTTP status 503)")]
#[case(raw("HTTP/1.1 200 OK\nContent-Length: 9", "{"), "broke off its answer: ")]
#[case(raw("SSH-2.0-OpenSSH_9.7", ""), "broke off its answer: ")]
#[tokio::test]
async fn what_says_nothing_of_the_did_is_no_answer(#[case] reply: Reply, #[case] expected: &str) {
    let stub = Stub::start(reply).await;
    let why = unreachable(&resolvers_at(&stub)).await;
    assert!(why.starts_with(&format!("the Universal Resolver {expected}")), "{why}");
    assert!(!why.contains("SECRET"), "{why}");
}

#[rstest]
#[case(301)]
#[case(303)]
#[case(307)]
#[tokio::test]
async fn redirects_are_not_followed(#[case] status: u16) {
    let elsewhere =
        Stub::start(answer(200, "application/did", a_json_document().to_string())).await;
    let location = format!("http://127.0.0.1:{}/", elsewhere.port());
    let head = format!("HTTP/1.1 {status} Elsewhere\nLocation: {location}\nContent-Length: 0");
    let stub = Stub::start(raw(&head, "")).await;
    let why = unreachable(&resolvers_at(&stub)).await;
    assert!(why.ends_with(&format!("answers with an error (HTTP status {status})")), "{why}");
    assert_eq!((stub.connections(), elsewhere.connections()), (1, 0));
}
