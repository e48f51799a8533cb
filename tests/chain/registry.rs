//! What is read of an agent, and what its DID may look like.

use alloy_primitives::{U256, hex};
use onceguard::resolvers::{Answer, Resolution, Unusable};
use rstest::rstest;
use serde_json::{Value, json};

use crate::node::Reply;
use crate::script::{CONTRACT, DID, OWNER, Script, calls, getAgentByDIDCall, later, returned};
use crate::support::an_account;
use crate::{did, ed25519, found, point, resolvers, resolvers_of_chain, secp256k1, signers};

async fn resolve(script: Script) -> Resolution {
    let node = script.node().await;
    resolvers(CONTRACT, &[&node.url()]).resolve(&did(DID), an_account()).await.unwrap()
}

#[tokio::test]
async fn verified_keys_sign_or_agree_by_their_types() {
    let ecdsa = secp256k1(2);
    let script = Script::new().key(0, &point(&ecdsa), true).key(2, &[9; 32], true);
    let (document, owner, block) = found(Ok(resolve(script).await));
    assert_eq!((owner.as_str(), block), (OWNER, 1_234_567));
    assert_eq!(signers(&document), [("key-1", ed25519(1)), ("key-2", ecdsa.clone())]);
    let json = Value::Object(document.json().clone());
    assert_eq!(json["id"], DID);
    assert_eq!(json["authentication"], json!([format!("{DID}#key-1"), format!("{DID}#key-2")]));
    assert_eq!(json["keyAgreement"], json!([format!("{DID}#key-3")]));
    let methods = json["verificationMethod"].as_array().unwrap();
    assert_eq!(methods.len(), 3);
    assert_eq!(methods[1]["publicKeyMultibase"], ecdsa.to_multikey());
}

#[tokio::test]
async fn one_point_in_three_forms_is_one_key() {
    let key = secp256k1(2);
    let point = point(&key);
    let script = Script::without_keys().key(0, &point, true).key(0, &point[1..], true).key(
        0,
        key.as_bytes(),
        true,
    );
    let (document, ..) = found(Ok(resolve(script).await));
    let expected = [("key-1", key.clone()), ("key-2", key.clone()), ("key-3", key)];
    assert_eq!(signers(&document), expected);
}

#[tokio::test]
async fn a_key_that_is_not_verified_is_not_in_the_document() {
    let script = Script::new().key(1, ed25519(2).as_bytes(), false).key(0, b"junk", false).key(
        1,
        ed25519(3).as_bytes(),
        true,
    );
    let (document, ..) = found(Ok(resolve(script).await));
    // The others keep their places.
    assert_eq!(signers(&document), [("key-1", ed25519(1)), ("key-4", ed25519(3))]);
    assert_eq!(document.json()["verificationMethod"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_key_of_an_unknown_type_is_passed_over() {
    let script = Script::new().key(3, ed25519(2).as_bytes(), true);
    let (document, ..) = found(Ok(resolve(script).await));
    assert_eq!(signers(&document), [("key-1", ed25519(1))]);
}

#[tokio::test]
async fn an_agent_without_keys_has_a_document_in_which_nothing_signs() {
    let (document, ..) = found(Ok(resolve(Script::without_keys()).await));
    assert_eq!(signers(&document), []);
}

#[tokio::test]
async fn everything_is_read_at_the_block_that_was_latest() {
    let script = Script::new().key(1, ed25519(2).as_bytes(), true);
    let pinned = script.pinned();
    let node = script.node().await;
    found(resolvers(CONTRACT, &[&node.url()]).resolve(&did(DID), an_account()).await);
    let seen = node.calls();
    let count = |method: &str| seen.iter().filter(|call| call.method == method).count();
    assert_eq!((count("eth_getBlockByNumber"), count("eth_call"), seen.len()), (1, 3, 5));
    for call in seen.iter().filter(|call| call.method == "eth_call") {
        assert_eq!(call.params[1], pinned);
    }
}

#[tokio::test]
async fn later_versions_of_the_contract_are_read_as_well() {
    let script = Script::new();
    let agent = later(script.agent.clone());
    let node = script
        .node_with(
            move |call, reply| {
                if calls::<getAgentByDIDCall>(call) { returned(&agent) } else { reply }
            },
        )
        .await;
    let (document, ..) =
        found(resolvers(CONTRACT, &[&node.url()]).resolve(&did(DID), an_account()).await);
    assert_eq!(signers(&document), [("key-1", ed25519(1))]);
}

/// The contract does not check strings, and strangers choose them.
#[tokio::test]
async fn a_name_need_not_be_utf_8() {
    let (name, junk) = (hex::encode("An agent"), hex::encode([0xff; 8]));
    let node = Script::new()
        .node_with(move |_, reply| match reply {
            Reply::Result(Value::String(text)) => Reply::Result(text.replace(&name, &junk).into()),
            other => other,
        })
        .await;
    found(resolvers(CONTRACT, &[&node.url()]).resolve(&did(DID), an_account()).await);
}

#[rstest]
#[case::of_a_node_that_cannot_say(None, None)]
#[case::only_later(Some((1_234_560, true)), None)]
#[case::already(Some((1_234_560, false)), Some(1_234_560))]
#[case::in_the_latest_itself(Some((1_234_567, false)), Some(1_234_567))]
#[case::of_a_node_that_is_confused(Some((1_234_568, false)), None)]
#[tokio::test]
async fn an_inactive_agent_is_deactivated(
    #[case] finalized: Option<(u64, bool)>,
    #[case] finalized_at: Option<u64>,
) {
    let mut script = Script::new();
    script.agent.active = false;
    script.finalized = finalized;
    let resolution = resolve(script).await;
    assert_eq!(resolution.answer, Answer::Deactivated { finalized_at });
    assert_eq!(resolution.version, Some(1_234_567));
}

#[tokio::test]
async fn an_unknown_agent_is_not_found() {
    let node = Script::new().node().await;
    let resolvers = resolvers(CONTRACT, &[&node.url()]);
    let resolution =
        resolvers.resolve(&did("did:sage:ethereum:nobody"), an_account()).await.unwrap();
    assert_eq!(resolution, Resolution { answer: Answer::NotFound, version: Some(1_234_567) });
}

#[rstest]
#[case::by_address("did:sage:ethereum:0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266")]
#[case::with_a_nonce("did:sage:ethereum:0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266:1")]
#[case::of_the_chain("did:sage:eip155:31337:alice")]
#[case::of_the_registry("did:sage:eip155:31337:0x5fbdb2315678afecb367f032d93f642f64180aa3:alice")]
#[tokio::test]
async fn these_are_dids_of_the_registry(#[case] text: &str) {
    let mut script = Script::new();
    script.agent.did = text.to_owned();
    let node = script.node().await;
    let (document, ..) =
        found(resolvers(CONTRACT, &[&node.url()]).resolve(&did(text), an_account()).await);
    assert_eq!(signers(&document), [("key-1", ed25519(1))]);
    assert_eq!(document.json()["id"], text);
}

#[rstest]
#[case::no_agent("did:sage:ethereum", "a did:sage goes on with")]
#[case::alias("did:sage:eth:0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266", "a did:sage goes on with")]
#[case::another_kind("did:sage:solana:alice", "a did:sage goes on with")]
#[case::too_long("did:sage:eip155:31337:a:b:c", "a did:sage goes on with")]
#[case::another_chain("did:sage:eip155:1:alice", "of another chain than 31337")]
#[case::the_chain_spelt_otherwise("did:sage:eip155:031337:alice", "of another chain than 31337")]
#[case::another_registry(
    "did:sage:eip155:31337:0x0000000000000000000000000000000000000001:alice",
    "of another registry than 0x5fbdb2315678afecb367f032d93f642f64180aa3"
)]
#[case::the_registry_spelt_otherwise(
    "did:sage:eip155:31337:0x5FbDB2315678afecb367f032d93F642f64180aa3:alice",
    "of another registry than 0x5fbdb2315678afecb367f032d93f642f64180aa3"
)]
#[tokio::test]
async fn nobody_is_asked_about_other_dids(#[case] text: &str, #[case] why: &str) {
    let node = Script::new().node().await;
    let resolution =
        resolvers(CONTRACT, &[&node.url()]).resolve(&did(text), an_account()).await.unwrap();
    assert!(
        matches!(&resolution.answer, Answer::Unusable(unusable) if unusable.to_string().contains(why)),
        "{resolution:?}"
    );
    assert!(node.calls().is_empty());
}

#[tokio::test]
async fn an_agent_of_another_chain_is_not_usable() {
    let mut script = Script::new();
    script.agent.chainId = U256::from(1);
    let answer = resolve(script).await.answer;
    let why = "it was registered on another chain than 31337";
    assert_eq!(answer, Answer::Unusable(Unusable::Method(why.to_owned())));
}

#[rstest]
#[case::off_the_curve(0, &[[2].as_slice(), &[0xff; 32]].concat())]
#[case::of_a_wrong_length(1, &[9; 31])]
#[case::of_a_small_order(1, &[[1].as_slice(), &[0; 31]].concat())]
#[case::hybrid(0, &[&[6], &point(&secp256k1(2))[1..]].concat())]
#[tokio::test]
async fn a_verified_key_that_is_none_is_left_out(#[case] key_type: u8, #[case] bytes: &[u8]) {
    let script = Script::new().key(key_type, bytes, true).key(1, ed25519(3).as_bytes(), true);
    let (document, ..) = found(Ok(resolve(script).await));
    let ids: Vec<_> = document.methods().iter().map(|method| method.id.clone()).collect();
    assert_eq!(ids, [format!("{DID}#key-1"), format!("{DID}#key-3")]);
}

#[tokio::test]
async fn twenty_keys_of_an_agent_are_read() {
    let with = |count: u8| {
        (2..=count).fold(Script::new(), |script, n| script.key(1, ed25519(n).as_bytes(), true))
    };
    for count in [20, 21, 40] {
        let (document, ..) = found(Ok(resolve(with(count)).await));
        assert_eq!(signers(&document).len(), 20, "of {count}");
    }
}

#[tokio::test]
async fn the_chain_is_the_configured_one() {
    let node = Script::new().node().await;
    let resolvers = resolvers_of_chain(1, CONTRACT, &[&node.url()]);
    let why = resolvers.resolve(&did(DID), an_account()).await.unwrap_err().to_string();
    assert!(why.contains("is on chain 31337, and not on 1"), "{why}");
    assert!(node.calls().iter().all(|call| call.method != "eth_call"));
}
