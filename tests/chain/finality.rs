//! When a deactivation on the chain is a revocation here, for good.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use onceguard::domain::{DidUrl, KeyType};
use onceguard::signatures::{Profile, Signer};
use rstest::rstest;
use serde_json::json;

use crate::node::Node;
use crate::script::{CONTRACT, DID, Script};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Message, TestApp};
use crate::{configured, did};

/// A node whose chain a test goes on writing.
async fn node(script: &Arc<Mutex<Script>>) -> Node {
    let script = Arc::clone(script);
    Node::start(move |call| script.lock().unwrap().answer(call)).await
}

async fn start(on: Database, node: &Node) -> TestApp {
    let mut resolvers = configured(31337, CONTRACT, &[&node.url()]);
    // Every request asks the chain.
    resolvers.registry.as_mut().unwrap().ttl = Duration::ZERO;
    TestApp::start_with(on, |config| {
        config.resolvers = resolvers;
        config.dids.negative_ttl = Duration::ZERO;
    })
    .await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_deactivation_is_final_once_its_block_is(#[values(Sqlite, Postgres)] on: Database) {
    let key = crate::evm::new_key(KeyType::Ed25519);
    let script = Script::without_keys().key(1, key.public_key().as_bytes(), true);
    let script = Arc::new(Mutex::new(Script { number: 100, ..script }));
    let node = node(&script).await;
    let app = start(on, &node).await;
    let key_id = DidUrl::parse(&format!("{DID}#key-1")).unwrap();
    let agent =
        Agent { did: did(DID), signer: Signer { key, key_id, profile: Profile::onceguard() } };
    let block = |number: u64, active: bool, finalized: Option<(u64, bool)>| {
        let mut script = script.lock().unwrap();
        (script.number, script.agent.active, script.finalized) = (number, active, finalized);
    };
    let verify = async || {
        let message = Message::new("GET", "https://service.example/");
        let body = message.signed(&agent, app.store().clock().now()).to_verify();
        app.post("/v1/verify", &body).await
    };
    let is = async |deactivated: bool, revoked: bool| {
        let read = app.get(&format!("/v1/dids/{DID}")).await.is(200);
        assert_eq!(
            (&read["deactivated"], &read["revoked"]),
            (&json!(deactivated), &json!(revoked)),
            "{read:?}"
        );
    };
    verify().await.is(200);
    let session = app.open_with(json!({ "client_did": DID })).await.text_of("id");

    block(110, false, Some((105, true)));
    verify().await.refused(403, "signature_key_revoked");
    is(true, false).await;
    block(111, true, Some((105, true)));
    verify().await.is(200);
    is(false, false).await;
    // Its block is older than the one in which the agent was seen active.
    block(112, false, Some((110, false)));
    verify().await.refused(403, "signature_key_revoked");
    is(true, false).await;
    app.get(&format!("/v1/sessions/{session}")).await.is(200);

    block(120, false, Some((112, false)));
    verify().await.refused(403, "signature_key_revoked");
    is(true, true).await;
    let ended = app.get(&format!("/v1/sessions/{session}")).await.refused(410, "session_ended");
    assert_eq!(ended["end_reason"], "did_revoked");
    block(121, true, Some((120, false)));
    verify().await.refused(403, "signature_key_revoked");
    is(true, true).await;
}

/// It may never have been active, and become so.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_was_never_seen_active_is_not_revoked(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let mut inactive = Script { finalized: Some((1_234_560, false)), ..Script::new() };
    inactive.agent.active = false;
    let script = Arc::new(Mutex::new(inactive));
    let node = node(&script).await;
    let app = start(on, &node).await;
    let path = format!("/v1/dids/{DID}");
    for _ in 0..2 {
        let read = app.get(&path).await.is(200);
        assert_eq!((&read["deactivated"], &read["revoked"]), (&json!(true), &json!(false)));
    }
    script.lock().unwrap().agent.active = true;
    let read = app.get(&path).await.is(200);
    assert_eq!((&read["deactivated"], &read["revoked"]), (&json!(false), &json!(false)));
}
