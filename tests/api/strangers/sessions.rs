//! How many sessions agents may open; holders of tokens are not bounded by it.

use onceguard::config::{self, Config};
use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Answer, TestApp, wait_for};

const SERVER: &str = "did:web:server.example";

fn agent() -> Agent {
    Agent::new(KeyType::Ed25519)
}

fn opening(agent: &Agent, server: &str) -> Value {
    json!({ "client_did": agent.did.as_str(), "server_did": server })
}

/// Opens a session, called from behind a trusted proxy that names this peer.
async fn open(app: &TestApp, agent: &Agent, server: &str, peer: &str) -> Answer {
    let request = agent.json(app, "POST", "/v1/sessions", &opening(agent, server));
    request.header("x-forwarded-for", peer).send().await
}

async fn start(on: Database, change: impl FnOnce(&mut config::Agents)) -> TestApp {
    TestApp::start_with(on, |config: &mut Config| {
        config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        change(&mut config.agents);
    })
    .await
}

/// Refused, with the time to wait.
fn refused(answer: Answer, reason: &str) {
    let answer = answer.refused(429, "rate_limited");
    assert!(answer.text_of("detail").contains(reason), "{answer:?}");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{answer:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn openings_are_counted_by_agent_by_peer_and_in_all(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = start(on, |agents| {
        agents.sessions_per_minute = 2;
        agents.sessions_per_minute_per_server = 3;
        agents.sessions_per_minute_per_peer = 4;
        agents.sessions_per_minute_in_all = 6;
    })
    .await;
    let (one, peer) = (agent(), "192.0.2.1");
    for _ in 0..2 {
        open(&app, &one, SERVER, peer).await.is(201);
    }
    // Wherever it calls from.
    refused(open(&app, &one, SERVER, peer).await, "this agent opened 2");
    refused(open(&app, &one, SERVER, "192.0.2.9").await, "this agent opened 2");
    open(&app, &agent(), SERVER, peer).await.is(201);
    refused(open(&app, &agent(), SERVER, peer).await, "with this server");
    open(&app, &agent(), "did:web:other.example", peer).await.is(201);
    refused(open(&app, &agent(), "did:web:other.example", peer).await, "at this address opened 4");
    // The server's other clients are not shut out.
    for peer in ["192.0.2.2", "192.0.2.3"] {
        open(&app, &agent(), SERVER, peer).await.is(201);
    }
    refused(open(&app, &agent(), SERVER, "192.0.2.4").await, "for all of them");
    assert_eq!(app.metric("onceguard_refused_total", &["agent_sessions"]).await, 5.0);

    // Tokens are given out by the operator.
    for _ in 0..10 {
        app.post("/v1/sessions", &opening(&one, SERVER)).await.is(201);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_have_so_many_live_sessions(#[values(Sqlite, Postgres)] on: Database) {
    let app = start(on, |agents| agents.live_sessions = 2).await;
    let (one, peer) = (agent(), "192.0.2.1");
    open(&app, &one, SERVER, peer).await.is(201);
    let second = open(&app, &one, SERVER, peer).await.is(201).text_of("id");
    refused(open(&app, &one, SERVER, peer).await, "this agent has 2 live sessions");
    open(&app, &agent(), SERVER, peer).await.is(201);
    one.request(&app, "DELETE", &format!("/v1/sessions/{second}")).send().await.is(204);
    open(&app, &one, SERVER, peer).await.is(201);
    refused(open(&app, &one, SERVER, peer).await, "this agent has 2 live sessions");
    app.post("/v1/sessions", &opening(&one, SERVER)).await.is(201);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn all_live_sessions_leave_room_for_tokens(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = start(on, |agents| agents.live_sessions_in_all = 2).await;
    let peer = "192.0.2.1";
    for _ in 0..2 {
        open(&app, &agent(), SERVER, peer).await.is(201);
    }
    // The next sample is taken at the start.
    app.restart().await;
    wait_for("a sample", async || {
        (app.metric("onceguard_sessions_active", &[]).await == 2.0).then_some(())
    })
    .await;
    refused(open(&app, &agent(), SERVER, peer).await, "there are 2 live sessions");
    app.post("/v1/sessions", &opening(&agent(), SERVER)).await.is(201);
}
