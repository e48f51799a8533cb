//! What happens before a call is understood: routes, sizes, the order of refusals, request ids.

use onceguard::config::PublicUrl;
use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{TestApp, send_bytes};

/// Every path that asks for a credential, and the methods it takes.
pub(crate) const PATHS: [(&str, &str); 31] = [
    ("/v1/sessions", "GET, HEAD, POST"),
    ("/v1/sessions/end", "POST"),
    ("/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55", "DELETE, GET, HEAD, PATCH"),
    ("/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/key", "GET, HEAD"),
    ("/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/touch", "POST"),
    ("/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/nonces", "POST"),
    ("/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/nonces/n", "GET, HEAD"),
    ("/v1/namespaces/a", "GET, HEAD"),
    ("/v1/namespaces/a/nonces", "POST"),
    ("/v1/namespaces/a/nonces/n", "GET, HEAD"),
    ("/v1/claims", "POST"),
    ("/v1/verify", "POST"),
    ("/v1/dids", "GET, HEAD"),
    ("/v1/dids/did:web:a.example", "DELETE, GET, HEAD, PUT"),
    ("/v1/dids/did:web:a.example/revoke", "POST"),
    ("/v1/dids/did:web:a.example/refresh", "POST"),
    ("/v1/dids/did:web:a.example/data", "DELETE"),
    ("/1.0/identifiers/did:web:a.example", "GET, HEAD"),
    ("/v1/records", "DELETE, GET, HEAD"),
    ("/v1/records/did:web:a.example", "DELETE, GET, HEAD"),
    ("/v1/records/did:web:a.example/batch", "POST"),
    ("/v1/records/did:web:a.example/usage", "GET, HEAD"),
    ("/v1/records/did:web:a.example/sync/r", "DELETE, GET, HEAD, PUT"),
    ("/v1/events", "GET, HEAD, POST"),
    ("/v1/webhooks", "GET, HEAD, POST"),
    ("/v1/webhooks/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55", "DELETE, PATCH"),
    ("/v1/webhooks/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/deliveries", "GET, HEAD"),
    ("/v1/webhooks/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/replay", "POST"),
    ("/v1/search", "GET, HEAD"),
    ("/v1/stats", "GET, HEAD"),
    ("/v1/instances", "GET, HEAD"),
];

/// One byte more than a body may have.
const TOO_LARGE: usize = 256 * 1024 + 1;

/// Each request is wrong in every way from the one it is refused for to the last.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_in_their_order(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (anybody, stranger) = (app.anybody(), app.caller(&[]).await);
    let session = format!("/v1/sessions/{}/nonces", app.session().await);
    let large = || "x".repeat(TOO_LARGE);

    let request = anybody.request("POST", "/v1/nothing").body(large());
    app.refuses(request, 404, "not_found").await;
    let request = anybody.request("PUT", "/v1/sessions").body(large());
    app.refuses(request, 405, "method_not_allowed").await;
    let request = anybody.request("POST", "/v1/sessions").body(large());
    app.refuses(request, 413, "payload_too_large").await;
    let request = anybody.request("POST", "/v1/sessions").body("x");
    app.refuses(request, 401, "unauthenticated").await;
    let request = stranger.request("POST", "/v1/sessions").body("x");
    app.refuses(request, 403, "forbidden").await;
    let request = app.request("POST", "/v1/sessions/x/nonces").body("x");
    app.refuses(request, 415, "unsupported_media_type").await;
    let request = app.request("POST", "/v1/sessions/x/nonces").text("x");
    app.refuses(request, 400, "invalid_request").await;
    let request = app.request("POST", "/v1/sessions/x/nonces?y=1").text(r#"{"nonce":7,"z":1}"#);
    let request = request.header("idempotency-key", "a b");
    let answer = app.refuses(request, 422, "validation_failed").await;
    answer.names(&["id", "y", "/nonce", "/z", "Idempotency-Key"]);

    // What is well-formed and does not exist comes after what is not well-formed.
    let unknown = "/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/nonces";
    app.refuses(app.request("POST", unknown).json(&json!({})), 422, "validation_failed").await;
    let request = app.request("POST", unknown).json(&json!({"nonce": "n"}));
    app.refuses(request, 404, "session_not_found").await;
    app.post(&session, &json!({"nonce": "n"})).await.is(201);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_path_takes_its_methods_and_tells_which(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let public = ["/openapi.json", "/docs", "/pages/style.css", "/problems"];
    for (path, allowed) in PATHS.into_iter().chain(public.map(|path| (path, "GET, HEAD"))) {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            if allowed.split(", ").any(|one| one == method) {
                continue;
            }
            let answer = app.request(method, path).send().await.is(405);
            let mut allow: Vec<_> = answer.header("allow").unwrap().split(", ").collect();
            allow.sort_unstable();
            assert_eq!(allow.join(", "), allowed, "{method} {path}");
            if method != "HEAD" {
                answer.refused(405, "method_not_allowed");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_table_is_not_found() {
    let app = TestApp::start(Sqlite).await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v2/sessions",
        "/v1/sessions/",
        "/v1//sessions",
        "/v1/session",
        "/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/",
        "/V1/sessions",
        "/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/nonces/a/b",
        "/v1/dids/",
        "/v1/dids/did:web:a.example/other",
        "/1.0/identifiers",
        "/1.0/identifiers/",
        "/1.0/identifiers/did:web:a.example/path",
        "/metrics",
        "/livez",
        "/readyz",
        "/problems/no_such_code",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let status = app.request(method, path).send().await;
            let page = path == "/problems/no_such_code" && method != "GET";
            let expected = if page { (405, "method_not_allowed") } else { (404, "not_found") };
            assert_eq!((status.status, status.code()), expected, "{method} {path}");
        }
    }
    for path in ["/", "/v1/stats", "/metrics/", "/openapi.json"] {
        app.ops().get(path).await.refused(404, "not_found");
    }
    app.ops().post("/metrics", &json!({})).await.refused(405, "method_not_allowed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn head_answers_like_get_without_a_body(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let session = format!("/v1/sessions/{}", app.session().await);
    for path in [session.as_str(), "/v1/sessions", "/v1/dids", "/v1/stats", "/openapi.json"] {
        let (get, head) = (app.get(path).await.is(200), app.request("HEAD", path).send().await);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for header in ["content-type", "etag", "cache-control"] {
            assert_eq!(head.header(header), get.header(header), "{path} {header}");
        }
    }
    app.request("HEAD", "/v1/sessions/x").send().await.is(422);
    app.anybody().request("HEAD", &session).send().await.is(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_have_256_kib_and_no_more() {
    let app = TestApp::start(Sqlite).await;
    let (token, address) = (app.token_text().to_owned(), app.api_address());
    let head = |rest: &str| {
        format!(
            "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nConnection: close\r\n{rest}\r\n\r\n"
        )
    };
    let before = app.data().await;

    // Refused by what it announces, before a byte of it has come.
    for length in ["262145", "99999999999"] {
        let request = head(&format!("Content-Length: {length}"));
        let (status, _, body) = send_bytes(address, request.into_bytes()).await;
        assert_eq!(status, 413, "{body}");
        assert!(body.contains("payload_too_large"), "{body}");
    }
    // Refused while it comes, when it does not announce anything.
    let chunk = format!("{:x}\r\n{}\r\n", 32 * 1024, " ".repeat(32 * 1024));
    let request = format!("{}{}", head("Transfer-Encoding: chunked"), chunk.repeat(12));
    let (status, head_of_answer, body) = send_bytes(address, request.into_bytes()).await;
    assert_eq!(status, 413, "{body}");
    assert!(body.contains("payload_too_large"), "{body}");
    assert!(head_of_answer.contains("x-request-id: "), "{head_of_answer}");

    // What is exactly as large as it may be is read.
    for (size, status) in [(256 * 1024, 422), (256 * 1024 + 1, 413)] {
        let answer = app.request("POST", "/v1/sessions").text(padded("{}", size)).send().await;
        assert_eq!(answer.status, status, "{answer:?}");
        let chunks = format!("{size:x}\r\n{}\r\n0\r\n\r\n", padded("{}", size));
        let request = format!("{}{chunks}", head("Transfer-Encoding: chunked"));
        assert_eq!(send_bytes(address, request.into_bytes()).await.0, status);
    }
    assert_eq!(app.data().await, before);
}

fn padded(json: &str, size: usize) -> String {
    format!("{json}{}", " ".repeat(size - json.len()))
}

/// A client may offer another protocol, such as HTTP/2 in plain text; it is answered in HTTP/1.1.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_ignored_and_no_body_is_waited_for() {
    let app = TestApp::start(Sqlite).await;
    let (token, address) = (app.token_text().to_owned(), app.api_address());
    let ask = |request_line: &str, rest: &str| {
        let request = format!(
            "{request_line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{rest}\r\n"
        );
        send_bytes(address, request.into_bytes())
    };
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let new = r#"{"client_did":"did:web:a","server_did":"did:web:b"}"#;
    let body = |text: &str| {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}", new.len())
    };
    for upgrade in [h2c, websocket] {
        let session = format!("/v1/sessions/{}", app.session().await);
        for (request_line, rest, status) in [
            ("GET /v1/sessions".to_owned(), String::new(), 200),
            (format!("POST {session}/touch"), String::new(), 204),
            (format!("DELETE {session}"), String::new(), 204),
            ("GET /v1/forward-auth".to_owned(), String::new(), 403),
            ("GET /nothing".to_owned(), String::new(), 404),
            ("POST /v1/sessions".to_owned(), body(new), 201),
            // What follows the body is no part of it.
            ("POST /v1/sessions".to_owned(), body(&format!("{new}GET / HTTP/1.1")), 201),
            ("POST /v1/sessions".to_owned(), "Content-Length: 0\r\n".to_owned(), 415),
        ] {
            let (answered, head, body) = ask(&request_line, &format!("{upgrade}{rest}")).await;
            assert_eq!(answered, status, "{request_line}: {head} {body}");
            // The client must not take the connection for one that stays.
            assert!(head.contains("connection: close"), "{request_line}: {head}");
            assert!(!head.contains("upgrade"), "{request_line}: {head}");
        }
    }
    for stays in ["", "Connection: keep-alive\r\n"] {
        let (_, head, _) = ask("GET /v1/sessions", stays).await;
        assert!(!head.contains("connection: close"), "{head}");
    }
}

/// A listener for IPv6 gets IPv4 connections, too.
#[tokio::test(flavor = "multi_thread")]
async fn an_ipv4_address_is_stored_as_one() {
    let any = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    let app = TestApp::start_with(Sqlite, |config| config.server.listen = any).await;
    let over_ipv4 = std::net::SocketAddr::from(([127, 0, 0, 1], app.api_address().port()));
    let new = r#"{"client_did":"did:web:a","server_did":"did:web:b"}"#;
    let request = format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{new}",
        app.token_text(),
        new.len(),
    );
    let (status, _, body) = send_bytes(over_ipv4, request.into_bytes()).await;
    assert_eq!(status, 201, "{body}");
    assert!(body.contains("\"ip_address\":\"127.0.0.1\""), "{body}");
}

/// What is answered behind a proxy leads back through it.
#[tokio::test(flavor = "multi_thread")]
async fn a_problem_leads_to_its_page() {
    let mut app = TestApp::start(Sqlite).await;
    for path in ["/v1/sessions/x", "/nothing", "/v1/forward-auth"] {
        let problem = app.get(path).await;
        assert_eq!(problem.text_of("type"), format!("/problems/{}", problem.code()), "{path}");
    }
    let authority = "guard.example:8443".to_owned();
    let url = PublicUrl { scheme: "https", authority };
    app.restart_with(|config| config.server.public_url = Some(url)).await;
    for path in ["/v1/sessions/x", "/nothing", "/v1/forward-auth"] {
        let problem = app.get(path).await;
        let page = format!("https://guard.example:8443/problems/{}", problem.code());
        assert_eq!(problem.text_of("type"), page, "{path}");
    }
    app.anybody().request("GET", "/v1/sessions").send().await.is(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sane_request_id_comes_back_and_another_is_replaced() {
    let app = TestApp::start(Sqlite).await;
    let longest = "x".repeat(128);
    for id in ["r-1", "A.b_c-9", "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55", &longest] {
        for path in ["/v1/sessions", "/v1/nothing", "/openapi.json", "/v1/sessions/x"] {
            let answer = app.request("GET", path).header("x-request-id", id).send().await;
            assert_eq!(answer.header("x-request-id"), Some(id), "{path}");
        }
    }
    let too_long = "x".repeat(129);
    for id in ["", "a b", "a\"b", "<script>", "a/b", "a,b", &too_long] {
        let answer = app.request("GET", "/v1/sessions").header("x-request-id", id).send().await;
        let made = answer.header("x-request-id").unwrap();
        let made = uuid::Uuid::try_parse(made).unwrap_or_else(|_| panic!("{id:?} -> {made:?}"));
        assert_eq!(made.get_version_num(), 7);
    }
    let two = [app.get("/v1/sessions").await, app.get("/v1/sessions").await];
    assert_ne!(two[0].header("x-request-id"), two[1].header("x-request-id"));
    let answer = app.request("GET", "/v1/sessions/x").header("x-request-id", "mine").send().await;
    assert_eq!(answer["request_id"], "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_carry_what_keeps_browsers_safe() {
    let app = TestApp::start(Sqlite).await;
    for path in ["/v1/sessions", "/v1/sessions/x", "/nothing", "/problems/forbidden", "/docs"] {
        let answer = app.get(path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        // The documentation's page has scripts and styles, its own alone.
        let source = if path == "/docs" { "default-src 'self'" } else { "default-src 'none'" };
        assert!(policy.contains(source), "{path}: {policy}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"), "{path}");
        assert_eq!(answer.header("strict-transport-security"), None, "{path}: not without TLS");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
    }
    assert_eq!(app.get("/v1/sessions").await.header("cache-control"), Some("no-store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_is_refused_and_serving_goes_on() {
    let app = TestApp::start(Sqlite).await;
    for request in [
        "nonsense\r\n\r\n",
        "GET /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET /v1/sessions HTTP/1.1\r\nHost: x\r\nBroken Header: 1\r\n\r\n",
        "GET /v1/dids/did:web:a#key HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ] {
        let (status, _, _) = send_bytes(app.api_address(), request.as_bytes().to_vec()).await;
        assert!((400..500).contains(&status), "{request:?} -> {status}");
    }
    app.get("/v1/sessions").await.is(200);
}
