//! A real EVM: ganache, with the contract in Registry.sol. `scripts/chain` starts it.
//!
//! ganache has no calls at a block's hash (EIP-1898): the nodes here, in front of it, do.

use std::sync::Arc;

use alloy_primitives::{hex, keccak256};
use alloy_sol_types::{SolCall, sol};
use onceguard::domain::{Did, KeyType, PublicKey};
use onceguard::resolvers::Resolvers;
use onceguard::signatures::SigningKey;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::node::{Call, Node, Reply};
use crate::support::{http_client, unique};
use crate::{did, resolvers};

sol! {
    function register(string did) external;
    function setActive(string did, bool active) external;
    function addKey(string did, uint8 keyType, bytes keyData) external;
    function revokeKey(string did, bytes32 keyHash) external;
    function setVerified(bytes32 keyHash, bool verified) external;
    function forgetKey(bytes32 keyHash) external;
}

/// The contract's numbers of types of keys.
pub const ECDSA: u8 = 0;
pub const ED25519: u8 = 1;
pub const X25519: u8 = 2;

static SENDING: Mutex<()> = Mutex::const_new(());

/// The chain of `scripts/chain`.
#[derive(Clone)]
pub struct Chain(Arc<Ganache>);

struct Ganache {
    url: String,
    contract: String,
    http: reqwest::Client,
}

impl Chain {
    pub fn new() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/chain"))
        };
        Self(Arc::new(Ganache {
            url: variable("TEST_CHAIN_URL"),
            contract: variable("TEST_CHAIN_CONTRACT"),
            http: http_client().build().unwrap(),
        }))
    }

    /// Of ganache itself.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    pub fn contract(&self) -> &str {
        &self.0.contract
    }

    pub fn resolvers(&self, nodes: &[&Node]) -> Resolvers {
        let urls: Vec<_> = nodes.iter().map(|node| node.url()).collect();
        resolvers(self.contract(), &urls.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The result, or the code of the error.
    pub async fn request(&self, method: &str, params: Value) -> Result<Value, i64> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response = self.0.http.post(&self.0.url).json(&request).send().await.unwrap();
        let mut answer: Value = response.json().await.unwrap();
        match answer.get("error") {
            Some(error) => Err(error["code"].as_i64().unwrap()),
            None => Ok(answer["result"].take()),
        }
    }

    /// Calls the contract in a block of its own.
    pub async fn send(&self, call: impl SolCall) {
        let transaction = json!([{
            "from": self.account().await,
            "to": self.contract(),
            "data": hex::encode_prefixed(call.abi_encode()),
            "gas": "0x4c4b40",
        }]);
        // ganache gives two senders at the same time the same nonce.
        let _sending = SENDING.lock().await;
        let hash = self.request("eth_sendTransaction", transaction).await.unwrap();
        let receipt = self.request("eth_getTransactionReceipt", json!([hash])).await.unwrap();
        assert_eq!(receipt["status"], "0x1");
    }

    /// An active agent without keys.
    async fn agent(&self) -> Did {
        let agent = did(&format!("did:sage:ethereum:{}", unique()));
        self.send(registerCall { did: agent.to_string() }).await;
        self.send(setActiveCall { did: agent.to_string(), active: true }).await;
        agent
    }

    /// An agent with one new Ed25519 key, and the key.
    pub async fn agent_with_key(&self) -> (Did, PublicKey) {
        let (agent, key) = (self.agent().await, new_key(KeyType::Ed25519).public_key().clone());
        self.add(&agent, ED25519, key.as_bytes()).await;
        (agent, key)
    }

    pub async fn add(&self, agent: &Did, key_type: u8, bytes: &[u8]) {
        let (did, key_data) = (agent.to_string(), bytes.to_vec().into());
        self.send(addKeyCall { did, keyType: key_type, keyData: key_data }).await;
    }

    pub async fn revoke(&self, agent: &Did, bytes: &[u8]) {
        self.send(revokeKeyCall { did: agent.to_string(), keyHash: keccak256(bytes) }).await;
    }

    /// The owner of all agents.
    pub async fn account(&self) -> String {
        let accounts = self.request("eth_accounts", json!([])).await.unwrap();
        accounts[0].as_str().unwrap().to_owned()
    }

    /// The number of the latest block.
    pub async fn height(&self) -> u64 {
        let number = self.request("eth_blockNumber", json!([])).await.unwrap();
        u64::from_str_radix(&number.as_str().unwrap()[2..], 16).unwrap()
    }

    /// A node on this chain.
    pub async fn node(&self) -> Node {
        self.node_with(|_, truth| truth).await
    }

    /// One that tells what `lie` makes of the truth.
    pub async fn node_with(
        &self,
        lie: impl Fn(&Call, Reply) -> Reply + Send + Sync + 'static,
    ) -> Node {
        let (chain, lie) = (self.clone(), Arc::new(lie));
        Node::start_async(move |call| {
            let (chain, lie) = (chain.clone(), Arc::clone(&lie));
            async move { lie(&call, chain.answer(&call).await) }
        })
        .await
    }

    pub async fn answer(&self, call: &Call) -> Reply {
        let answer = if call.method == "eth_call" {
            self.call_at_hash(&call.params).await
        } else if call.params[0] == "finalized" {
            // Nothing is ever taken back here, so a deactivation would be final at once.
            Err(-32602)
        } else {
            self.request(&call.method, call.params.clone()).await
        };
        answer.map_or_else(Reply::Error, Reply::Result)
    }

    /// EIP-1898: errors when there is no such block, or it is not on the chain.
    async fn call_at_hash(&self, params: &Value) -> Result<Value, i64> {
        assert_eq!(params[1]["requireCanonical"], true);
        let hash = &params[1]["blockHash"];
        let block = self.request("eth_getBlockByHash", json!([hash, false])).await?;
        let number = block.get("number").ok_or(-32001)?;
        let canonical = self.request("eth_getBlockByNumber", json!([number, false])).await?;
        if canonical["hash"] != *hash {
            return Err(-32000);
        }
        self.request("eth_call", json!([params[0], number])).await
    }
}

pub fn new_key(key_type: KeyType) -> SigningKey {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).unwrap();
    // Below the order of the curve.
    secret[0] = 1;
    SigningKey::from_bytes(key_type, &secret).unwrap()
}
