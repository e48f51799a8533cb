//! What becomes of agents on a real EVM, and of what is read of them. `scripts/chain` runs these.

use std::time::Duration;

use alloy_primitives::keccak256;
use onceguard::domain::{Did, DidUrl, KeyType};
use onceguard::resolvers::{Answer, Resolution, Resolvers};
use onceguard::signatures::{Profile, Signer};
use rstest::rstest;
use serde_json::{Value, json};

use crate::evm::{
    Chain, ECDSA, ED25519, X25519, forgetKeyCall, new_key, setActiveCall, setVerifiedCall,
};
use crate::node::{Node, Reply};
use crate::script::{calls, getAgentByDIDCall};
use crate::support::{Agent, Database, Message, TestApp, an_account};
use crate::{configured, did, found, point, resolvers, resolvers_of_chain, signers};

async fn answer(resolvers: &Resolvers, agent: &Did) -> Answer {
    resolvers.resolve(agent, an_account()).await.unwrap().answer
}

async fn unreachable(resolvers: &Resolvers, agent: &Did) -> String {
    resolvers.resolve(agent, an_account()).await.unwrap_err().to_string()
}

#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn a_registered_agent_is_read_with_its_keys() {
    let chain = Chain::new();
    let (agent, ed25519) = chain.agent_with_key().await;
    let secp256k1 = new_key(KeyType::Secp256k1).public_key().clone();
    chain.add(&agent, ECDSA, &point(&secp256k1)).await;
    chain.add(&agent, X25519, new_key(KeyType::Ed25519).public_key().as_bytes()).await;
    let node = chain.node().await;

    let (document, owner, block) =
        found(chain.resolvers(&[&node]).resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", ed25519), ("key-2", secp256k1)]);
    assert_eq!(document.json()["keyAgreement"], json!([format!("{agent}#key-3")]));
    assert_eq!(owner.to_ascii_lowercase(), chain.account().await);
    assert!(block >= 5 && block <= chain.height().await);
}

#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn an_added_key_is_there_and_a_revoked_one_is_gone() {
    let chain = Chain::new();
    let (agent, first) = chain.agent_with_key().await;
    let node = chain.node().await;
    let resolvers = chain.resolvers(&[&node]);
    let (document, _, before) = found(resolvers.resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", first.clone())]);

    let second = new_key(KeyType::Ed25519).public_key().clone();
    chain.add(&agent, ED25519, second.as_bytes()).await;
    let (document, _, after) = found(resolvers.resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", first.clone()), ("key-2", second.clone())]);
    assert!(after > before);

    // The last key takes the place of the revoked one.
    chain.revoke(&agent, first.as_bytes()).await;
    let (document, ..) = found(resolvers.resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", second)]);
}

/// The contract lets anybody revoke keys that are not his, which then stay in the agent's list.
#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn a_key_that_loses_its_flag_signs_no_more() {
    let chain = Chain::new();
    let (agent, key) = chain.agent_with_key().await;
    chain.send(setVerifiedCall { keyHash: keccak256(key.as_bytes()), verified: false }).await;
    let node = chain.node().await;
    let (document, ..) = found(chain.resolvers(&[&node]).resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), []);
}

#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn a_deactivated_agent_may_be_activated_again() {
    let chain = Chain::new();
    let (agent, key) = chain.agent_with_key().await;
    let node = chain.node().await;
    let resolvers = chain.resolvers(&[&node]);
    chain.send(setActiveCall { did: agent.to_string(), active: false }).await;
    assert_eq!(answer(&resolvers, &agent).await, Answer::Deactivated { finalized_at: None });
    chain.send(setActiveCall { did: agent.to_string(), active: true }).await;
    let (document, ..) = found(resolvers.resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", key)]);
}

#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn an_unknown_agent_is_not_found() {
    let chain = Chain::new();
    let node = chain.node().await;
    let resolution =
        chain.resolvers(&[&node]).resolve(&did("did:sage:ethereum:0x00"), an_account()).await;
    assert!(matches!(resolution, Ok(Resolution { answer: Answer::NotFound, version: Some(1..) })));
}

#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn a_node_without_calls_at_a_hash_is_refused() {
    let chain = Chain::new();
    let (agent, _) = chain.agent_with_key().await;
    let told = unreachable(&resolvers(chain.contract(), &[chain.url()]), &agent).await;
    let why = "refused to call the contract at a block's hash (EIP-1898): JSON-RPC error ";
    assert!(told.contains(why), "{told}");
}

#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn the_chain_and_the_contract_are_the_configured_ones() {
    let chain = Chain::new();
    let (agent, _) = chain.agent_with_key().await;
    let node = chain.node().await;
    let told = unreachable(&resolvers_of_chain(1, chain.contract(), &[&node.url()]), &agent).await;
    assert!(told.contains("is on chain 31337, and not on 1"), "{told}");
    let account = chain.account().await;
    let told = unreachable(&resolvers(&account, &[&node.url()]), &agent).await;
    assert!(told.contains("is the contract at the configured address?"), "{told}");
}

#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn the_next_node_is_asked_when_one_is_down() {
    let chain = Chain::new();
    let (agent, key) = chain.agent_with_key().await;
    let (first, second) = (chain.node().await, chain.node().await);
    let resolvers = chain.resolvers(&[&first, &second]);
    found(resolvers.resolve(&agent, an_account()).await);
    assert!(second.calls().is_empty());
    drop(first);
    let (document, ..) = found(resolvers.resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", key)]);
    drop(second);
    let told = unreachable(&resolvers, &agent).await;
    assert_eq!(told.matches("cannot be reached").count(), 2, "{told}");
}

#[rstest]
#[case::one_that_does_not_exist("hash", json!(format!("0x{}", "11".repeat(32))), "error -32001")]
#[case::a_malformed_hash("hash", json!("0x1"), "a malformed block hash")]
#[case::a_malformed_number("number", json!("latest"), "a malformed block number")]
#[case::no_number("number", Value::Null, "a result of another type")]
#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn a_node_may_lie_about_the_block(
    #[case] field: &'static str,
    #[case] value: Value,
    #[case] why: &str,
) {
    let chain = Chain::new();
    let (agent, key) = chain.agent_with_key().await;
    let honest = chain.node().await;
    let liar = chain
        .node_with(move |call, truth| match truth {
            Reply::Result(mut block) if call.method == "eth_getBlockByNumber" => {
                block[field] = value.clone();
                Reply::Result(block)
            }
            other => other,
        })
        .await;
    let told = unreachable(&chain.resolvers(&[&liar]), &agent).await;
    assert!(told.contains(why), "{told}");
    let (document, ..) =
        found(chain.resolvers(&[&liar, &honest]).resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", key)]);
}

/// What is read at an old block is told with that block's number: it does not replace what was
/// read at a newer one.
#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn a_node_that_hides_new_blocks_tells_of_old_ones() {
    let chain = Chain::new();
    let (agent, key) = chain.agent_with_key().await;
    let old = chain.request("eth_getBlockByNumber", json!(["latest", false])).await.unwrap();
    chain.send(setActiveCall { did: agent.to_string(), active: false }).await;
    let number = chain.height().await;
    let hidden = old.clone();
    let liar = chain
        .node_with(move |call, truth| {
            if call.method == "eth_getBlockByNumber" {
                Reply::Result(hidden.clone())
            } else {
                truth
            }
        })
        .await;
    let (document, _, block) = found(chain.resolvers(&[&liar]).resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", key)]);
    assert_eq!(format!("{block:#x}"), old["number"]);
    assert!(block < number);
}

/// Between the agent and its keys, one is revoked and another added.
#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn a_change_in_the_middle_of_a_reading_is_not_seen_in_half() {
    let chain = Chain::new();
    let (agent, first) = chain.agent_with_key().await;
    let second = new_key(KeyType::Ed25519).public_key().clone();
    let node = {
        let (chain, agent) = (chain.clone(), agent.clone());
        let (revoked, added) = (first.clone(), second.clone());
        Node::start_async(move |call| {
            let (chain, agent) = (chain.clone(), agent.clone());
            let (revoked, added) = (revoked.clone(), added.clone());
            async move {
                let reply = chain.answer(&call).await;
                if calls::<getAgentByDIDCall>(&call) {
                    chain.add(&agent, ED25519, added.as_bytes()).await;
                    chain.revoke(&agent, revoked.as_bytes()).await;
                }
                reply
            }
        })
        .await
    };
    let resolvers = chain.resolvers(&[&node]);
    let (document, _, before) = found(resolvers.resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", first)]);
    let honest = chain.node().await;
    let (document, _, after) =
        found(chain.resolvers(&[&honest]).resolve(&agent, an_account()).await);
    assert_eq!(signers(&document), [("key-1", second)]);
    assert!(after > before);
}

#[tokio::test]
#[ignore = "needs a chain: scripts/chain"]
async fn a_key_that_cannot_be_fetched_is_not_skipped() {
    let chain = Chain::new();
    let (agent, _) = chain.agent_with_key().await;
    let second = new_key(KeyType::Ed25519).public_key().clone();
    chain.add(&agent, ED25519, second.as_bytes()).await;
    chain.send(forgetKeyCall { keyHash: keccak256(second.as_bytes()) }).await;
    let node = chain.node().await;
    let told = unreachable(&chain.resolvers(&[&node]), &agent).await;
    assert!(told.contains("getKey(bytes32) with another key than was asked for"), "{told}");
}

/// The whole service, as SAGE's agents use it: a key signs while the chain says that it may.
#[rstest]
#[case::ed25519(KeyType::Ed25519, ED25519)]
#[case::secp256k1(KeyType::Secp256k1, ECDSA)]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a chain: scripts/chain"]
async fn an_agent_of_sage_signs_until_its_key_is_revoked(
    #[case] key_type: KeyType,
    #[case] number: u8,
) {
    let chain = Chain::new();
    let (agent, _) = chain.agent_with_key().await;
    let key = new_key(key_type);
    let bytes = key.public_key().as_bytes().to_vec();
    chain.add(&agent, number, &bytes).await;
    let node = chain.node().await;
    let mut config = configured(31337, chain.contract(), &[&node.url()]);
    // Every request asks the chain.
    config.registry.as_mut().unwrap().ttl = Duration::ZERO;
    let app = TestApp::start_with(Database::Sqlite, |all| {
        all.resolvers = config;
        all.dids.negative_ttl = Duration::ZERO;
    })
    .await;

    let key_id = DidUrl::parse(&format!("{agent}#key-2")).unwrap();
    let signer = Signer { key, key_id, profile: Profile::sage() };
    let agent = Agent { did: agent, signer };
    let verify = async || {
        let message = Message::new("GET", "https://service.example/");
        let mut body = message.signed(&agent, app.store().clock().now()).to_verify();
        body["profile"] = "sage".into();
        app.post("/v1/verify", &body).await
    };
    let verdict = verify().await.is(200);
    assert_eq!(verdict["did"], agent.did.as_str());

    chain.send(setActiveCall { did: agent.did.to_string(), active: false }).await;
    verify().await.refused(403, "signature_key_revoked");
    chain.send(setActiveCall { did: agent.did.to_string(), active: true }).await;
    verify().await.is(200);
    chain.revoke(&agent.did, &bytes).await;
    verify().await.refused(403, "signature_key_unknown");
    drop(node);
    verify().await.refused(503, "signature_key_unavailable");
}
