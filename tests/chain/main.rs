//! did:sage: the registry resolver against nodes on this machine, honest and broken ones.
//!
//! The tests of [`ganache`] need a chain, and are ignored without `scripts/chain`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "a test crate is its root")]

#[path = "../support/mod.rs"]
mod support;

mod evm;
mod faults;
mod finality;
mod ganache;
mod node;
mod registry;
mod script;
mod secrets;

use std::sync::Arc;

use k256::elliptic_curve::sec1::ToSec1Point as _;
use onceguard::config::{self, Need, Sources};
use onceguard::domain::{Did, DidDocument, KeyType, PublicKey};
use onceguard::metrics::Metrics;
use onceguard::resolvers::{Answer, Resolution, Resolvers, Unreachable};
use tokio::runtime::Handle;

/// Resolvers that read did:sage from nodes on chain 31337, each of which has a second to answer.
fn resolvers(contract: &str, endpoints: &[&str]) -> Resolvers {
    resolvers_of_chain(31337, contract, endpoints)
}

fn resolvers_of_chain(chain_id: u64, contract: &str, endpoints: &[&str]) -> Resolvers {
    let config = configured(chain_id, contract, endpoints);
    let metrics = Arc::new(Metrics::new().unwrap());
    Resolvers::new(&config, metrics, Handle::current()).unwrap()
}

fn configured(chain_id: u64, contract: &str, endpoints: &[&str]) -> config::Resolvers {
    let variable = |name: &str| format!("ONCEGUARD_RESOLVERS__REGISTRY__{name}");
    let loaded = Sources::default()
        .environment([
            (variable("ENDPOINTS"), endpoints.join(",")),
            (variable("CONTRACT"), contract.to_owned()),
            (variable("CHAIN_ID"), chain_id.to_string()),
            (variable("TIMEOUT_SECONDS"), "1".to_owned()),
        ])
        .load(Need::Everything);
    loaded.unwrap().config.resolvers
}

fn did(text: &str) -> Did {
    Did::parse(text).unwrap()
}

/// The agent's document, its owner, and the block at which they were read.
fn found(result: Result<Resolution, Unreachable>) -> (DidDocument, String, u64) {
    match result {
        Ok(Resolution {
            answer: Answer::Document { document, owner_address: Some(owner) },
            version: Some(block),
        }) => (document, owner, block),
        other => panic!("this is no document: {other:?}"),
    }
}

/// The fragments and keys of those that may sign.
fn signers(document: &DidDocument) -> Vec<(&str, PublicKey)> {
    document
        .methods()
        .iter()
        .filter(|method| method.authentication)
        .map(|method| (method.id.split_once('#').unwrap().1, method.key.clone()))
        .collect()
}

fn ed25519(seed: u8) -> PublicKey {
    let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key();
    PublicKey::new(KeyType::Ed25519, key.as_bytes()).unwrap()
}

fn secp256k1(seed: u8) -> PublicKey {
    let key = k256::SecretKey::from_slice(&[seed; 32]).unwrap().public_key();
    PublicKey::new(KeyType::Secp256k1, key.to_sec1_point(true).as_bytes()).unwrap()
}

/// The point of a key in its uncompressed form.
fn point(key: &PublicKey) -> [u8; 65] {
    let key = k256::PublicKey::from_sec1_bytes(key.as_bytes()).unwrap();
    key.to_sec1_point(false).as_bytes().try_into().unwrap()
}
