//! Nodes that do not answer, or not what they were asked: never a key that the registry does not
//! vouch for, and what is wrong is told without anything that is secret.

use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_sol_types::SolCall;
use onceguard::resolvers::{Account, Full, Resolvers, Unreachable};
use rstest::rstest;
use serde_json::{Value, json};

use crate::node::{Call, Node, Reply};
use crate::script::{CONTRACT, DID, Script, calls, getAgentByDIDCall, getKeyCall, returned};
use crate::support::{a_peer, an_account};
use crate::{did, ed25519, found, resolvers, signers};

async fn unreachable(resolvers: &Resolvers) -> String {
    resolvers.resolve(&did(DID), an_account()).await.unwrap_err().to_string()
}

/// The answer to one method, or function of the contract, is another.
#[rstest]
#[case::a_block_hash_too_short(
    "eth_getBlockByNumber",
    block("0xabcd", "0x1"),
    "a malformed block hash"
)]
#[case::a_block_hash_of_other_letters(
    "eth_getBlockByNumber",
    block(&format!("0x{}", "g".repeat(64)), "0x1"),
    "a malformed block hash"
)]
#[case::a_block_that_does_not_exist(
    "eth_getBlockByNumber",
    block(HASH, "0x1"),
    "refused to call the contract at a block's hash (EIP-1898): JSON-RPC error -32001"
)]
#[case::a_decimal_number("eth_getBlockByNumber", block(HASH, "17"), "a malformed block number")]
#[case::a_signed_number("eth_getBlockByNumber", block(HASH, "0x+1"), "a malformed block number")]
#[case::a_number_too_large(
    "eth_getBlockByNumber",
    block(HASH, "0x8000000000000000"),
    "answered eth_getBlockByNumber with a malformed block number"
)]
#[case::no_block("eth_getBlockByNumber", Reply::Result(Value::Null), "with no block")]
#[case::a_block_of_another_type(
    "eth_getBlockByNumber",
    Reply::Result(json!({ "hash": HASH, "number": 1 })),
    "answered eth_getBlockByNumber with a result of another type"
)]
#[case::another_chain("eth_chainId", result("0x1"), "is on chain 1, and not on 31337")]
#[case::no_chain("eth_chainId", result("mainnet"), "answered eth_chainId with what is no chain id")]
#[case::a_chain_beyond_numbers("eth_chainId", result("0x10000000000000000"), "is no chain id")]
#[case::no_such_method("eth_chainId", Reply::Error(-32601), "refused eth_chainId: JSON-RPC error -32601")]
#[case::no_calls_at_a_hash(
    "getAgentByDID",
    Reply::Error(-32602),
    "refused to call the contract at a block's hash (EIP-1898): JSON-RPC error -32602"
)]
#[case::a_refusal_with_a_status(
    "getAgentByDID",
    Reply::Http(400, "", r#"{"id":null,"error":{"code":-32602}}"#.to_owned()),
    "refused to call the contract at a block's hash (EIP-1898): JSON-RPC error -32602"
)]
#[case::no_contract(
    "getAgentByDID",
    result("0x"),
    "answered getAgentByDID(string) with nothing: is the contract at the configured address?"
)]
#[case::another_contract(
    "getAgentByDID",
    returned(&[1; 32]),
    "answered getAgentByDID(string) with what no AgentCardRegistry returns"
)]
#[case::not_hexadecimal(
    "getAgentByDID",
    result("0xzz"),
    "answered eth_call with what is not hexadecimal"
)]
#[case::another_agent(
    "getAgentByDID",
    another_agent(),
    "answered getAgentByDID(string) with another agent than was asked for"
)]
#[case::another_key(
    "getKey",
    key(1, ed25519(66).as_bytes()),
    "answered getKey(bytes32) with another key than was asked for"
)]
#[case::no_key("getKey", key(0, &[]), "answered getKey(bytes32) with another key than was asked for")]
#[case::a_flag_that_is_neither(
    "getKey",
    key_verified_by(2),
    "answered getKey(bytes32) with what no AgentCardRegistry returns"
)]
#[case::another_id(
    "eth_chainId",
    body(r#"{"id":99,"result":"0x7a69"}"#),
    "the answer to another request"
)]
#[case::a_textual_id(
    "eth_chainId",
    body(r#"{"id":"1","result":"0x7a69"}"#),
    "the answer to another request"
)]
#[case::no_id("eth_chainId", body(r#"{"result":"0x7a69"}"#), "what is no JSON-RPC response")]
#[case::a_list(
    "eth_chainId",
    body(r#"[{"id":1,"result":"0x7a69"}]"#),
    "what is no JSON-RPC response"
)]
#[case::not_json("eth_chainId", body("<html>"), "what is no JSON-RPC response")]
#[case::deep("eth_chainId", body(&"[".repeat(100_000)), "what is no JSON-RPC response")]
#[case::huge("getKey", returned(&vec![0; 1 << 19]), "answered eth_call with more than 1 MiB")]
#[case::server_error(
    "getKey",
    Reply::Http(500, "", String::new()),
    "answered with HTTP status 500"
)]
#[case::unauthorized(
    "eth_chainId",
    Reply::Http(401, "", String::new()),
    "answered with HTTP status 401"
)]
#[case::closed("getKey", Reply::Close, "cannot be reached: ")]
#[case::silent("eth_chainId", Reply::Silence, "did not answer within 1 s")]
#[case::silent_at_last("getKey", Reply::Silence, "did not answer within 1 s")]
#[tokio::test]
async fn a_node_is_not_believed(
    #[case] asked: &'static str,
    #[case] lie: Reply,
    #[case] why: &str,
) {
    let liar = Script::new()
        .node_with(move |call, truth| if is(asked, call) { lie.clone() } else { truth })
        .await;
    let told = unreachable(&resolvers(CONTRACT, &[&liar.url()])).await;
    assert!(told.starts_with("endpoint 1 (127.0.0.1) "), "{told}");
    assert!(told.contains(why), "{told}");
    assert!(!told.contains("not repeated"), "{told}");

    let honest = Script::new().node().await;
    let both = resolvers(CONTRACT, &[&liar.url(), &honest.url()]);
    let (document, ..) = found(both.resolve(&did(DID), an_account()).await);
    assert_eq!(signers(&document), [("key-1", ed25519(1))]);
}

/// Of no block that there is.
const HASH: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";

fn is(asked: &str, call: &Call) -> bool {
    match asked {
        "getAgentByDID" => calls::<getAgentByDIDCall>(call),
        "getKey" => calls::<getKeyCall>(call),
        method => call.method == method,
    }
}

fn result(text: &str) -> Reply {
    Reply::Result(text.into())
}

fn body(text: &str) -> Reply {
    Reply::Http(200, "", text.to_owned())
}

fn block(hash: &str, number: &str) -> Reply {
    Reply::Result(json!({ "hash": hash, "number": number }))
}

fn another_agent() -> Reply {
    let mut agent = Script::new().agent;
    "did:sage:ethereum:mallory".clone_into(&mut agent.did);
    returned(&getAgentByDIDCall::abi_encode_returns(&agent))
}

fn key(key_type: u8, bytes: &[u8]) -> Reply {
    let script = Script::without_keys().key(key_type, bytes, true);
    returned(&getKeyCall::abi_encode_returns(&script.keys[0].1))
}

/// The key that is asked for, with a flag that is no boolean.
fn key_verified_by(flag: u8) -> Reply {
    let mut output = getKeyCall::abi_encode_returns(&Script::new().keys[0].1);
    // The fourth field after the struct's offset.
    output[32 * 5 - 1] = flag;
    returned(&output)
}

#[tokio::test]
async fn a_node_that_is_down_is_named_without_its_url() {
    let down = Node::start(|_| Reply::Close).await.address();
    let endpoints = [
        format!("http://user:hunter2@{down}/v3/hunter2?key=hunter2"),
        format!("https://:hunter2@{down}/hunter2"),
    ];
    let told = unreachable(&resolvers(CONTRACT, &[&endpoints[0], &endpoints[1]])).await;
    assert!(told.contains("endpoint 1 (127.0.0.1) cannot be reached: "), "{told}");
    assert!(told.contains("; endpoint 2 (127.0.0.1) cannot be reached: "), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn the_next_node_is_asked_only_when_one_fails() {
    let (first, second) = (Script::new().node().await, Script::new().node().await);
    let resolvers = resolvers(CONTRACT, &[&first.url(), &second.url()]);
    found(resolvers.resolve(&did(DID), an_account()).await);
    resolvers.resolve(&did("did:sage:ethereum:nobody"), an_account()).await.unwrap();
    assert!(second.calls().is_empty());
    drop(first);
    found(resolvers.resolve(&did(DID), an_account()).await);
    assert!(!second.calls().is_empty());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Script::new().node().await;
    let fields: &'static str = format!("Location: {}\r\n", elsewhere.url()).leak();
    let node = Node::start(move |_| Reply::Http(307, fields, String::new())).await;
    let told = unreachable(&resolvers(CONTRACT, &[&node.url()])).await;
    assert!(told.contains("answered with HTTP status 307"), "{told}");
    assert!(elsewhere.calls().is_empty());
}

/// Of several servers behind one name, the next may not have the block yet, or may be down.
#[rstest]
#[case::block_not_found(Reply::Error(-32001))]
#[case::status(Reply::Http(503, "", String::new()))]
#[case::closed(Reply::Close)]
#[tokio::test]
async fn a_reading_that_fails_for_a_moment_is_repeated_from_a_new_block(#[case] fault: Reply) {
    let failures = AtomicUsize::new(1);
    let node = Script::new()
        .node_with(move |call, reply| {
            let fails = call.method == "eth_call"
                && failures
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_ok();
            if fails { fault.clone() } else { reply }
        })
        .await;
    found(resolvers(CONTRACT, &[&node.url()]).resolve(&did(DID), an_account()).await);
    let blocks = node.calls().iter().filter(|call| call.method == "eth_getBlockByNumber").count();
    assert_eq!(blocks, 2);
}

#[tokio::test]
async fn a_node_that_keeps_failing_is_left_alone() {
    let node = Node::start(|_| Reply::Http(502, "", String::new())).await;
    let resolvers = resolvers(CONTRACT, &[&node.url()]);
    for _ in 0..6 {
        assert!(unreachable(&resolvers).await.contains("HTTP status 502"));
    }
    let asked = node.calls().len();
    let told = unreachable(&resolvers).await;
    assert!(told.contains("is left alone, having failed often"), "{told}");
    assert_eq!(node.calls().len(), asked);
}

/// Strangers choose what is in the contract, and could have a node left alone by it.
#[tokio::test]
async fn a_node_that_cannot_answer_a_call_is_still_asked() {
    let node = Script::new()
        .node_with(
            |call, reply| {
                if calls::<getKeyCall>(call) { returned(&vec![0; 1 << 19]) } else { reply }
            },
        )
        .await;
    let resolvers = resolvers(CONTRACT, &[&node.url()]);
    for _ in 0..20 {
        assert!(unreachable(&resolvers).await.contains("more than 1 MiB"));
    }
}

/// Whoever asks, and however many they are: known DIDs have places that are theirs alone.
#[tokio::test]
async fn so_many_are_read_at_the_same_time_and_no_more() {
    let node = Script::new().node_with(|_, _| Reply::Silence).await;
    let resolvers = resolvers(CONTRACT, &[&node.url()]);
    let read = |known: bool| {
        let readings = (0..65).map(|n| {
            let (resolvers, did) = (resolvers.clone(), did(&format!("did:sage:ethereum:{n}")));
            let account = Account { peer: a_peer(n), known };
            async move { resolvers.resolve(&did, account).await.unwrap_err() }
        });
        futures_util::future::join_all(readings)
    };
    let (new, known) = tokio::join!(read(false), read(true));
    let refused = |told: &[Unreachable], full| {
        told.iter().filter(|told| **told == Unreachable::Full(full)).count()
    };
    assert_eq!(refused(&new, Full::New), 65 - 48, "{new:?}");
    assert_eq!(refused(&known, Full::Total), 65 - 16, "{known:?}");
}

#[tokio::test]
async fn nobody_reads_did_sage_without_endpoints() {
    let resolvers = resolvers(CONTRACT, &[]);
    assert!(resolvers.home(&did(DID)).is_none());
}
