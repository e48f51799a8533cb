//! What a caller without a valid credential cannot make the service do, and what those with one
//! share: bodies, and whose they are.

mod connections;
mod sessions;

use std::sync::Arc;

use futures_util::future::join_all;
use onceguard::config::{AllowedAgent, AllowedAgents};
use onceguard::domain::{Did, KeyType, TokenScope};
use onceguard::metrics::Metrics;
use onceguard::services::Tokens;
use onceguard::storage::{ClaimLimits, Store};
use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Message, RawHttp, TestApp, wait_for};

/// More than comes in one piece.
const LARGE: usize = 200_000;

fn head(app: &TestApp, credential: &str, length: usize) -> String {
    format!(
        "POST /v1/claims HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{credential}\r\n",
        app.api_address()
    )
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The head of a signed request, whose body is sent by hand.
fn signed_head(message: &Message) -> String {
    let path = message.url.splitn(4, '/').nth(3).unwrap();
    let host = message.url.split('/').nth(2).unwrap();
    let lines = message.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!(
        "{} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n{}\r\n",
        message.method,
        message.body.len(),
        lines.collect::<String>()
    )
}

/// Waits until bodies take so many bytes.
#[allow(clippy::cast_precision_loss, reason = "a few thousand")]
async fn holds(app: &TestApp, bytes: usize) {
    let in_use = async || app.metric("onceguard_limit_in_use", &["body_bytes"]).await;
    wait_for("bodies to take their room", async || (in_use().await == bytes as f64).then_some(()))
        .await;
}

/// Refused from the head on; and the client sees the answer, although it goes on sending.
async fn refuses_unread(app: &TestApp, head: &str, status: u16, code: &str) {
    let mut call = RawHttp::connect(app.api_address()).await;
    call.send(head).await;
    let (answered, text) = call.answer().await;
    assert_eq!(answered, status, "{text}");
    assert!(text.contains(&format!("\"code\":\"{code}\"")), "{text}");
    // What is on its way does not turn the answer into a reset.
    let _ = call.try_send(vec![b' '; 1000]).await;
    assert!(call.ends_in_order().await, "after {text}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_not_awaited_before_the_credential(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (_, verify_only) = app.token(&[TokenScope::Verify], None).await;
    let wrong = format!("og_{}", "A".repeat(43));
    for (credential, status, code) in [
        (String::new(), 401, "unauthenticated"),
        (bearer("nonsense"), 401, "unauthenticated"),
        (bearer(&wrong), 401, "unauthenticated"),
        (bearer(&verify_only), 403, "forbidden"),
        ("Signature: sig1=:AAAA:\r\n".to_owned(), 401, "signature_malformed"),
    ] {
        refuses_unread(&app, &head(&app, &credential, LARGE), status, code).await;
    }

    let agent = Agent::new(KeyType::Ed25519);
    let now = app.store().clock().now();
    let claims = Message::new("POST", &format!("{}/v1/claims", app.base()));
    let claims = claims.json(&json!({ "claims": [] }));
    let forged =
        claims.clone().signed(&agent, now).edit("signature-input", "nonce=\"n", "nonce=\"m");
    refuses_unread(&app, &signed_head(&forged), 401, "signature_invalid").await;
    // Agents may not make this call: that needs no body, and spends no nonce.
    let verify = Message::new("POST", &format!("{}/v1/verify", app.base()));
    let verify = verify.json(&json!({})).signed(&agent, now);
    let before = app.data().await;
    refuses_unread(&app, &signed_head(&verify), 403, "forbidden").await;
    assert_eq!(app.data().await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_is_spent_only_on_the_signed_body(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let opening = json!({"client_did": agent.did.as_str(), "server_did": "did:web:server.example"});
    let message = Message::new("POST", &format!("{}/v1/sessions", app.base())).json(&opening);
    let message = message.signed(&agent, app.store().clock().now());

    let mut call = RawHttp::connect(app.api_address()).await;
    call.send(signed_head(&message)).await;
    assert!(call.is_silent().await, "the head is fine, and the body is awaited");
    call.send(vec![b' '; message.body.len()]).await;
    let (status, text) = call.answer().await;
    assert!(status == 401 && text.contains("signature_digest_mismatch"), "{text}");

    // Neither an unfinished body nor one that the signature does not cover spends the nonce.
    let mut cut = RawHttp::connect(app.api_address()).await;
    cut.send(signed_head(&message)).await;
    cut.send(&message.body[..5]).await;
    drop(cut);
    let mut call = RawHttp::connect(app.api_address()).await;
    call.send(signed_head(&message)).await;
    call.send(&message.body).await;
    let (status, text) = call.answer().await;
    assert_eq!(status, 201, "{text}");
}

/// Without a length, the head does not say whether there is a body to cover.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_must_be_covered_when_it_comes() {
    let app = TestApp::start(Sqlite).await;
    let agent = Agent::new(KeyType::Ed25519);
    for (chunks, expected, code) in [
        ("0\r\n\r\n", 404, "session_not_found"),
        ("2\r\n{}\r\n0\r\n\r\n", 401, "signature_components_incomplete"),
    ] {
        let path = "/v1/sessions/0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55/touch";
        let message = Message::new("POST", &format!("{}{path}", app.base()));
        let message = message.signed(&agent, app.store().clock().now());
        let head = signed_head(&message).replace("Content-Length: 0", "Transfer-Encoding: chunked");
        let mut call = RawHttp::connect(app.api_address()).await;
        call.send(format!("{head}{chunks}")).await;
        let (status, text) = call.answer().await;
        assert!(status == expected && text.contains(code), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_arrive_share_a_room() {
    let app = TestApp::start_with(Sqlite, |config| {
        config.limits.body_bytes = 5 * LARGE as u64;
        config.limits.body_bytes_per_peer = 2 * LARGE as u64;
    })
    .await;
    let (_, first) = app.token(&[TokenScope::Nonces], None).await;
    let (_, second) = app.token(&[TokenScope::Nonces], None).await;
    let address = app.api_address();
    let stall = async |token: &str| {
        let mut call = RawHttp::connect(address).await;
        call.send(head(&app, &bearer(token), LARGE) + " ").await;
        call
    };
    let held = [stall(&first).await, stall(&first).await];
    holds(&app, 2 * LARGE).await;

    let (status, text) = stall(&first).await.answer().await;
    assert!(status == 503 && text.contains("\"code\":\"overloaded\""), "{text}");
    assert!(text.to_lowercase().contains("retry-after: 1\r\n"), "{text}");
    // A body that comes with its head needs no room, and another caller has its own.
    let body = b"{\"claims\":[]}";
    let mut call = RawHttp::connect(address).await;
    let whole = head(&app, &bearer(&first), body.len()).into_bytes();
    call.send([&whole[..], body].concat()).await;
    assert_eq!(call.answer().await.0, 422);
    let mut other = stall(&second).await;
    holds(&app, 3 * LARGE).await;
    other.send(vec![b' '; LARGE - 1]).await;
    assert_eq!(other.answer().await.0, 400);

    // An agent leaves half of the room to the holders of tokens.
    let agent = Agent::new(KeyType::Ed25519);
    let large = |agent: &Agent| {
        let claims = Message::new("POST", &format!("{}/v1/claims", app.base()));
        let claims = claims.json(&json!({ "claims": "x".repeat(LARGE - 13) }));
        assert_eq!(claims.body.len(), LARGE);
        signed_head(&claims.signed(agent, app.store().clock().now()))
    };
    let mut agents = Vec::new();
    for _ in 0..2 {
        let mut call = RawHttp::connect(address).await;
        call.send(large(&agent) + "{").await;
        agents.push(call);
    }
    holds(&app, 4 * LARGE).await;
    let mut refused = RawHttp::connect(address).await;
    refused.send(large(&Agent::new(KeyType::Ed25519)) + "{").await;
    assert_eq!(refused.answer().await.0, 503);
    let last = stall(&second).await;
    holds(&app, 5 * LARGE).await;
    assert_eq!(app.metric("onceguard_refused_total", &["body_bytes"]).await, 2.0);

    drop((held, agents, last));
    holds(&app, 0).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_names_its_client(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let opened = async |app: &TestApp| {
        let body = json!({"client_did": "did:web:a.example", "server_did": "did:web:b.example"});
        let call = app.request("POST", "/v1/sessions").json(&body);
        let call = call.header("x-forwarded-for", "203.0.113.9, 198.51.100.7");
        call.send().await.is(201)["ip_address"].clone()
    };
    assert_eq!(opened(&app).await, "127.0.0.1", "anyone may write that header");
    app.restart_with(|config| {
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    assert_eq!(opened(&app).await, "198.51.100.7");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_agents_may_do_is_a_setting(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let (known, other) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::P256));
    let web = AllowedAgent::Method("web".to_owned());
    for (allow, known_is, other_is) in [
        (AllowedAgents::Any, 200, 200),
        (AllowedAgents::None, 403, 403),
        (AllowedAgents::Listed(vec![web, AllowedAgent::Did(known.did.clone())]), 200, 403),
        (AllowedAgents::Listed(vec![AllowedAgent::Method("key".to_owned())]), 200, 200),
        (
            AllowedAgents::Listed(vec![AllowedAgent::Did(Did::parse("did:web:a").unwrap())]),
            403,
            403,
        ),
    ] {
        app.restart_with(|config| config.agents.allow = allow.clone()).await;
        for (agent, status) in [(&known, known_is), (&other, other_is)] {
            let own = format!("/v1/sessions?client_did={}", agent.did);
            let call = agent.request(&app, "GET", &own);
            if status == 200 {
                call.send().await.is(200);
            } else {
                let answer = app.refuses(call, 403, "forbidden").await;
                assert!(answer.text_of("detail").contains("agents.allow"), "{answer:?}");
            }
            // What others ask of it about agents stays as it is.
            let message = Message::new("GET", "https://service.example/orders");
            let message = message.signed(agent, app.store().clock().now());
            app.post("/v1/verify", &message.to_verify()).await.is(200);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_is_found_among_made_up_ones(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (token, good) = app.token(&[TokenScope::Sessions], None).await;
    // On a store of its own, whose queries are those of this test.
    let (metrics, clock) = (Arc::new(Metrics::new().unwrap()), app.store().clock().clone());
    let limits = ClaimLimits { quota_per_signer: 1, quota_per_namespace: 1 };
    let store = Store::open(&app.config().database, limits, metrics.clone(), clock.clone());
    let tokens = Tokens::new(store.await.unwrap(), clock);
    let queries = || metrics.statements.with_label_values(&["ok"]).get();

    let made_up: Vec<_> = (0..2000).map(|number| format!("og_{number:042}A")).collect();
    let shown = join_all(made_up.iter().map(|text| tokens.authenticate(text)));
    let (shown, found) = tokio::join!(shown, tokens.authenticate(&good));
    assert!(shown.into_iter().all(|shown| shown.unwrap().is_none()));
    assert_eq!(found.unwrap().unwrap().id, token.id);

    // Those that are remembered cost none, and displace no good one.
    let before = queries();
    for text in &made_up[..5] {
        assert!(tokens.authenticate(text).await.unwrap().is_none());
    }
    assert!(tokens.authenticate(&good).await.unwrap().is_some());
    assert!(queries() - before <= 1, "but that it was used may be written down");
}
