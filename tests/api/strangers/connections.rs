//! Connections and TLS handshakes: strangers cannot take them all, and a connection over which a
//! credential came is not closed for them.

use onceguard::domain::{KeyType, TokenScope};
use rstest::rstest;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::bearer;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, DEADLINE, Message, RawHttp, TestApp, http_client, wait_for};
use crate::tls::{certificate, over_tls};

fn list(app: &TestApp, lines: &str) -> String {
    format!("GET /v1/sessions HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", app.api_address())
}

async fn in_use(app: &TestApp, resource: &str, expected: f64) {
    let reached = async || {
        (app.metric("onceguard_limit_in_use", &[resource]).await == expected).then_some(())
    };
    wait_for(resource, reached).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_showed_a_credential_stays(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| {
        config.limits.stranger_connections_per_peer = 3;
    })
    .await;
    let with_token = list(&app, &bearer(app.token_text()));
    let mut known = RawHttp::connect(app.api_address()).await;
    known.send(&with_token).await;
    assert_eq!(known.answer().await.0, 200);

    // A request that was stopped in its head, again and again.
    let mut slow = Vec::new();
    for _ in 0..10 {
        let mut stranger = RawHttp::connect(app.api_address()).await;
        stranger.send("GET /v1/sessions HTTP/1.1\r\nX-Slow: ").await;
        slow.push(stranger);
    }
    let refused = async || app.metric("onceguard_refused_total", &["stranger_connections"]).await;
    wait_for("the oldest to be closed", async || (refused().await == 7.0).then_some(())).await;
    in_use(&app, "stranger_connections", 3.0).await;
    let mut open = 0;
    for stranger in &mut slow {
        open += usize::from(stranger.is_silent().await);
    }
    assert_eq!(open, 3, "the others made room");

    // A new connection has its turn, and the known one goes on.
    let agent = Agent::new(KeyType::Ed25519);
    let path = format!("/v1/sessions?client_did={}", agent.did);
    let message = Message::new("GET", &format!("{}{path}", app.base()));
    let message = message.signed(&agent, app.store().clock().now());
    let lines = message.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let mut signed = RawHttp::connect(app.api_address()).await;
    let head = list(&app, &lines.collect::<String>()).replace("/v1/sessions", &path);
    signed.send(head).await;
    let (status, text) = signed.answer().await;
    assert_eq!(status, 200, "{text}");
    known.send(&with_token).await;
    assert_eq!(known.answer().await.0, 200);
    drop((known, signed, slow));
    in_use(&app, "stranger_connections", 0.0).await;
    // What is left is the test's own client's, which showed a token.
    assert!(app.metric("onceguard_limit_in_use", &["\"connections\""]).await <= 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stranger_connects_anew() {
    let app = TestApp::start(Sqlite).await;
    let mut call = RawHttp::connect(app.api_address()).await;
    call.send(list(&app, "")).await;
    let (status, text) = call.answer().await;
    assert!(status == 401 && text.to_lowercase().contains("connection: close\r\n"), "{text}");
    assert!(call.ends_in_order().await);
    // A caller with a credential that only made a mistake goes on.
    let mut call = RawHttp::connect(app.api_address()).await;
    let token = bearer(app.token_text());
    for status in [200, 404, 200] {
        let text = list(&app, &token);
        let path = if status == 404 { "/v1/nothing" } else { "/v1/sessions" };
        call.send(text.replace("/v1/sessions", path)).await;
        assert_eq!(call.answer().await.0, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_heads_share_a_room() {
    let app = TestApp::start_with(Sqlite, |config| {
        config.limits.stranger_head_bytes = 80_000;
    })
    .await;
    let token = bearer(app.token_text());
    let long = |length: usize| format!("X-Long: {}\r\n{token}", "x".repeat(length));
    for length in [5_000, 10_000, 60_000] {
        let mut call = RawHttp::connect(app.api_address()).await;
        call.send(list(&app, &long(length))).await;
        assert_eq!(call.answer().await.0, 200, "{length}");
    }
    // Heads that do not end leave no room to others, but to those that fit into a buffer.
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stranger = RawHttp::connect(app.api_address()).await;
        let head = list(&app, &long(40_000));
        stranger.send(&head[..40_000]).await;
        slow.push(stranger);
    }
    // 8 KiB are every connection's own; the rest of 40,000 bytes is granted by 16 KiB.
    in_use(&app, "stranger_head_bytes", 2.0 * 2.0 * 16_384.0).await;
    let mut refused = RawHttp::connect(app.api_address()).await;
    let _ = refused.try_send(list(&app, &long(40_000))).await;
    assert_eq!(refused.try_answer().await, None);
    let mut short = RawHttp::connect(app.api_address()).await;
    short.send(list(&app, &token)).await;
    assert_eq!(short.answer().await.0, 200);
    drop(slow);
    in_use(&app, "stranger_head_bytes", 0.0).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_do_not_hold_up_others(#[values(Sqlite, Postgres)] on: Database) {
    let (pem, tls, _folder) = certificate();
    let app = TestApp::start_with(on, |config| {
        over_tls(config, tls);
        config.limits.handshakes_per_peer = 8;
    })
    .await;
    let (_, token) = app.token(&[TokenScope::Sessions], None).await;
    let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    let url = format!("https://localhost:{}/v1/sessions", app.api_address().port());
    let mut half_open = Vec::new();
    for _ in 0..600 {
        half_open.push(TcpStream::connect(app.api_address()).await.unwrap());
    }
    let refused = async || app.metric("onceguard_refused_total", &["handshakes"]).await;
    wait_for("the oldest to be closed", async || (refused().await >= 592.0).then_some(())).await;
    // As many as there may be are under way, and each honest call still makes its own.
    for _ in 0..5 {
        let http = http_client().tls_certs_only([root.clone()]).build().unwrap();
        let answer = http.get(&url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert!(app.metric("onceguard_limit_in_use", &["handshakes"]).await <= 8.0);
    drop(half_open);
}

/// Nothing comes over it, and there is room for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let (_, tls, _folder) = certificate();
    let app = TestApp::start_with(Sqlite, |config| over_tls(config, tls)).await;
    let mut half_open = TcpStream::connect(app.api_address()).await.unwrap();
    let end = tokio::time::timeout(DEADLINE, half_open.read_u8()).await;
    assert!(end.expect("an end").is_err());
}
