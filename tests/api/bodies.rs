//! How strictly bodies and queries are read: 415, 400, and the 422 that names everything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::TestApp;

#[tokio::test(flavor = "multi_thread")]
async fn only_json_is_taken() {
    let app = TestApp::start(Sqlite).await;
    let body = || r#"{"client_did":"did:web:a","server_did":"did:web:b"}"#.to_owned();
    let post = || app.request("POST", "/v1/sessions").body(body());
    for media_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "text/json",
        "application/json5",
        "application/problem+json",
        "application/jsonx",
        "*/*",
        "",
        ", application/json",
    ] {
        let request = post().header("content-type", media_type);
        let answer = app.refuses(request, 415, "unsupported_media_type").await;
        assert_eq!(answer.header("accept"), Some("application/json"));
        assert_eq!(answer.header("accept-encoding"), None);
    }
    app.refuses(post(), 415, "unsupported_media_type").await;
    for coding in ["gzip", "br", "deflate", "gzip, identity"] {
        let request = post().header("content-type", "application/json");
        for request in [
            request.header("content-encoding", coding),
            post()
                .header("content-type", "application/json")
                .header("content-encoding", "identity")
                .header("content-encoding", coding),
        ] {
            let answer = app.refuses(request, 415, "unsupported_media_type").await;
            assert_eq!(answer.header("accept-encoding"), Some("identity"));
            assert_eq!(answer.header("accept"), None);
            assert!(answer.text_of("title").contains("coding"), "{answer:?}");
        }
    }
    for media_type in ["application/json", "Application/JSON", "application/json; charset=utf-8"] {
        post().header("content-type", media_type).send().await.is(201);
    }
    let identity = post().header("content-type", "application/json");
    identity.header("content-encoding", "identity").send().await.is(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_json_is_an_invalid_request() {
    let app = TestApp::start(Sqlite).await;
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let bodies: [&[u8]; 13] = [
        b"",
        b" ",
        b"{",
        b"{} {}",
        b"{}x",
        b"{'client_did':1}",
        b"{client_did:1}",
        b"{\"a\":1,}",
        b"{\"a\":NaN}",
        b"{\"a\":01}",
        b"\xff\xfe{}",
        b"{\"a\":\"\xff\"}",
        deep.as_bytes(),
    ];
    for path in ["/v1/sessions", "/v1/claims", "/v1/sessions/end"] {
        for body in bodies {
            let request = app.request("POST", path).text(body.to_vec());
            app.refuses(request, 400, "invalid_request").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_no_object_is_named_as_a_whole() {
    let app = TestApp::start(Sqlite).await;
    for body in ["null", "[]", "\"x\"", "1", "true"] {
        for path in ["/v1/sessions", "/v1/claims", "/v1/sessions/end"] {
            let request = app.request("POST", path).text(body);
            app.refuses(request, 422, "validation_failed").await.names(&[""]);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_is_named_at_once(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let body = r#"{
        "client_did": 7,
        "id": "0198f2a4",
        "session_key": "not base64!",
        "ttl_seconds": 0,
        "idle_timeout_seconds": "60",
        "max_claims": null,
        "metadata": {"a": {"b": 1, "b": 2}, "list": [{"x": 1, "x": 1}], "a/b": 1, "a/b": 1},
        "max_claims": 3,
        "un/kno~wn": 1
    }"#;
    let answer =
        app.refuses(app.request("POST", "/v1/sessions").text(body), 422, "validation_failed");
    answer.await.names(&[
        "/client_did",
        "/id",
        "/idle_timeout_seconds",
        "/max_claims",
        "/max_claims",
        "/metadata/a/b",
        "/metadata/a~1b",
        "/metadata/list/0/x",
        "/server_did",
        "/session_key",
        "/ttl_seconds",
        "/un~1kno~0wn",
    ]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_field_of_a_session_has_its_bounds(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let key = |bytes: usize| json!(STANDARD.encode(vec![7; bytes]));
    let metadata = |bytes: usize| json!({"a": "x".repeat(bytes - 8)});
    let wrong = [
        ("client_did", json!("did:web")),
        ("client_did", json!("did:web:a#key-1")),
        ("client_did", json!("did:web:a/path")),
        ("client_did", json!("DID:web:a")),
        ("client_did", json!("")),
        ("client_did", json!(format!("did:web:{}", "a".repeat(1017)))),
        ("server_did", json!(["did:web:a"])),
        ("server_did", json!("did:web:ü")),
        ("id", json!("0198f2a45b1e7c3a9d426f0e8b7a1c55")),
        ("id", json!("{0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55}")),
        ("id", json!("AAAAAAAAAAAAAAAAAAAAAA==")),
        ("id", json!("AAAAAAAAAAAAAAAAAAAA+A")),
        ("id", json!("AAAAAAAAAAAAAAAAAAAAAB")),
        ("id", json!(7)),
        ("session_key", json!("")),
        ("session_key", json!("a2V")),
        ("session_key", json!("a2V5=")),
        ("session_key", json!("_-_-")),
        ("session_key", key(4097)),
        ("ttl_seconds", json!(0)),
        ("ttl_seconds", json!(-1)),
        ("ttl_seconds", json!(86_401)),
        ("ttl_seconds", json!(1.5)),
        ("ttl_seconds", json!("60")),
        ("ttl_seconds", json!(u64::MAX)),
        ("ttl_seconds", json!(null)),
        ("idle_timeout_seconds", json!(9)),
        ("idle_timeout_seconds", json!(86_401)),
        ("max_claims", json!(0)),
        ("max_claims", json!(u64::MAX)),
        ("metadata", json!([])),
        ("metadata", json!("{}")),
        ("metadata", json!(null)),
        ("metadata", metadata(16 * 1024 + 1)),
    ];
    for (field, value) in wrong {
        let mut body = json!({"client_did": "did:web:a", "server_did": "did:web:b"});
        body[field] = value;
        let request = app.request("POST", "/v1/sessions").json(&body);
        let answer = app.refuses(request, 422, "validation_failed").await;
        assert_eq!(answer.pointers(), [format!("/{field}")], "{body}");
    }
    // What PostgreSQL's jsonb cannot hold, or would change, is refused everywhere.
    for (metadata, pointers) in [
        (r#"{"n":-0}"#, &["/metadata/n"][..]),
        (r#"{"list":[1,-0.0,{"b":-0e1}]}"#, &["/metadata/list/1", "/metadata/list/2/b"]),
        (r#"{"a":1,"\u0061":2}"#, &["/metadata/a"]),
    ] {
        let body = format!(
            r#"{{"client_did":"did:web:a","server_did":"did:web:b","metadata":{metadata}}}"#
        );
        let request = app.request("POST", "/v1/sessions").text(body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    // Half a character, and a number beyond all that a double can be: no JSON to us.
    for value in [r#""\ud800""#, "1e400", "-1e99999"] {
        let body = format!(
            r#"{{"client_did":"did:web:a","server_did":"did:web:b","metadata":{{"a":{value}}}}}"#
        );
        app.refuses(app.request("POST", "/v1/sessions").text(body), 400, "invalid_request").await;
    }
    let nul = r#"{"client_did":"did:web:a","server_did":"did:web:b","metadata":{"a":["\u0000"]}}"#;
    let request = app.request("POST", "/v1/sessions").text(nul);
    app.refuses(request, 422, "validation_failed").await.names(&["/metadata/a/0"]);

    for (field, value) in [
        ("client_did", json!(format!("did:web:{}", "a".repeat(1016)))),
        ("session_key", key(1)),
        ("session_key", key(4096)),
        ("ttl_seconds", json!(1)),
        ("ttl_seconds", json!(86_400)),
        ("idle_timeout_seconds", json!(10)),
        ("idle_timeout_seconds", json!(86_400)),
        ("max_claims", json!(1)),
        ("max_claims", json!(i64::MAX)),
        ("metadata", metadata(16 * 1024)),
    ] {
        let answer = app.open_with(json!({ field: value })).await;
        if !["session_key", "ttl_seconds"].contains(&field) {
            assert_eq!(answer[field], value);
        }
    }
}

/// Every digit and every character: no number is rounded, whichever database keeps it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn metadata_reads_as_it_was_sent(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let kept = r#"{"a":"é \" \\ /","n":12345678901234567890123,"list":[1.10,0.1000000000000000055511151231257827,-2.0,18446744073709551616,100,0.00001500],"empty":{}}"#;
    // With spaces, escapes and exponents that mean the same.
    let sent = r#" { "n" : 12345678901234567890123 , "empty" : { } , "a" : "\u00e9 \" \\ \/",
        "list" : [ 1.10 , 0.1000000000000000055511151231257827 , -2.0 , 18446744073709551616, 1e2, 15.00e-6 ] } "#;
    let patched = r#"{"changed":1e300}"#;
    let raw = |answer: &crate::support::Answer| {
        let body: std::collections::HashMap<String, Box<serde_json::value::RawValue>> =
            serde_json::from_slice(&answer.body).unwrap();
        body["metadata"].get().to_owned()
    };
    let body =
        format!(r#"{{"client_did":"did:web:a","server_did":"did:web:b","metadata":{sent}}}"#);
    let opened = app.request("POST", "/v1/sessions").text(body).send().await.is(201);
    assert_eq!(raw(&opened), kept);
    let path = format!("/v1/sessions/{}", opened.text_of("id"));
    assert_eq!(raw(&app.get(&path).await), kept);
    assert!(app.get("/v1/sessions").await.text().contains(kept));
    let body = format!("{{\"metadata\":{patched}}}");
    let changed = app.request("PATCH", &path).text(body).send().await.is(200);
    assert_eq!(raw(&changed), format!("{{\"changed\":1{}}}", "0".repeat(300)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn queries_are_read_as_strictly(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for (path, pointers) in [
        ("/v1/sessions?state=open", &["state"][..]),
        ("/v1/sessions?state=", &["state"]),
        ("/v1/sessions?state=all&state=all", &["state"]),
        ("/v1/sessions?limit=0", &["limit"]),
        ("/v1/sessions?limit=501", &["limit"]),
        ("/v1/sessions?limit=-1", &["limit"]),
        ("/v1/sessions?limit=%2B5", &["limit"]),
        (
            "/v1/sessions?limit=ten&cursor=%21&client_did=x&server_did=y&z=1",
            &["limit", "cursor", "client_did", "server_did", "z"],
        ),
        ("/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55?verbose=1", &["verbose"]),
        ("/v1/sessions/x?verbose=1", &["id", "verbose"]),
        (
            "/v1/dids?revoked=yes&key_type=ed25519&owner_address=",
            &["revoked", "key_type", "owner_address"],
        ),
        ("/v1/dids?limit=501&cursor=a%20b", &["limit", "cursor"]),
        ("/v1/dids/did:web:a?max_age=-1", &["max_age"]),
        ("/v1/dids/did:web:a?max_age=1.5", &["max_age"]),
        ("/v1/dids/did:web:a?max_age=4294967296", &["max_age"]),
        ("/v1/stats?x=1", &["x"]),
    ] {
        app.get(path).await.names(pointers);
    }
    for path in ["/v1/sessions?limit=500", "/v1/sessions?", "/v1/sessions?state=all&limit=1"] {
        app.get(path).await.is(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_names_a_hundred_things_at_most() {
    let app = TestApp::start(Sqlite).await;
    let claims = vec![json!({}); 1000];
    let answer = app.post("/v1/claims", &json!({ "claims": claims })).await;
    assert_eq!(answer.refused(422, "validation_failed").pointers().len(), 100);
}

/// Unpaired surrogates, escapes and long names go through a strict reader without harm.
#[tokio::test(flavor = "multi_thread")]
async fn odd_json_never_breaks_the_service() {
    let app = TestApp::start(Sqlite).await;
    let long = format!(r#"{{"{}":1}}"#, "n".repeat(200_000));
    for body in [
        r#"{"client_did":"\ud800","server_did":"did:web:b"}"#,
        r#"{"\u0063lient_did":"did:web:a","client_did":"did:web:b","server_did":"did:web:b"}"#,
        r#"{"client_did":"did:web:a","server_did":"did:web:b","ttl_seconds":1e400}"#,
        r#"{"":{}}"#,
        &long,
    ] {
        let answer = app.request("POST", "/v1/sessions").text(body.to_owned()).send().await;
        assert!([400, 422].contains(&answer.status), "{}", answer.status);
    }
    assert_eq!(app.get("/v1/sessions?state=all").await["items"], json!([]));
}
