//! A chain that is made up: one block, one contract, and what a test puts into it.

use alloy_primitives::{Address, B256, U256, hex, keccak256};
use alloy_sol_types::{SolCall, SolValue, sol};
use serde_json::{Value, json};

use crate::node::{Call, Node, Reply};

sol! {
    #[derive(Debug)]
    struct AgentMetadata {
        string did;
        string name;
        string description;
        string endpoint;
        bytes32[] keyHashes;
        string capabilities;
        address owner;
        uint256 registeredAt;
        uint256 updatedAt;
        bool active;
        uint256 chainId;
    }

    /// As in later versions of the contract.
    struct LaterAgentMetadata {
        string did;
        string name;
        string description;
        string endpoint;
        bytes32[] keyHashes;
        string capabilities;
        address owner;
        uint256 registeredAt;
        uint256 updatedAt;
        bool active;
        uint256 chainId;
        bytes kemPublicKey;
    }

    #[derive(Debug)]
    struct AgentKey {
        uint8 keyType;
        bytes keyData;
        bytes signature;
        bool verified;
        uint256 registeredAt;
    }

    function getAgentByDID(string did) external view returns (AgentMetadata);
    function getKey(bytes32 keyHash) external view returns (AgentKey);
}

pub const CONTRACT: &str = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
pub const DID: &str = "did:sage:ethereum:0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const FINALIZED: B256 = B256::repeat_byte(0xf1);
/// In the case of its checksum.
pub const OWNER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

/// The state at the latest block.
#[derive(Debug, Clone)]
pub struct Script {
    pub number: u64,
    pub hash: B256,
    /// The number of the finalized block, and whether the agent is active there. Without, the
    /// node does not know which block is.
    pub finalized: Option<(u64, bool)>,
    pub agent: AgentMetadata,
    /// What [`Self::key`] files under the agent.
    pub keys: Vec<(B256, AgentKey)>,
}

impl Script {
    /// An active agent with one Ed25519 key.
    pub fn new() -> Self {
        let script = Self {
            number: 1_234_567,
            hash: B256::repeat_byte(0xab),
            finalized: None,
            agent: AgentMetadata {
                did: DID.to_owned(),
                name: "An agent".to_owned(),
                description: String::new(),
                endpoint: "https://agent.example".to_owned(),
                keyHashes: Vec::new(),
                capabilities: "{}".to_owned(),
                owner: OWNER.parse().unwrap(),
                registeredAt: U256::from(1_700_000_000),
                updatedAt: U256::from(1_700_000_000),
                active: true,
                chainId: U256::from(31337),
            },
            keys: Vec::new(),
        };
        script.key(1, crate::ed25519(1).as_bytes(), true)
    }

    /// Without the key of [`Self::new`].
    pub fn without_keys() -> Self {
        let mut script = Self::new();
        script.keys.clear();
        script.agent.keyHashes.clear();
        script
    }

    /// The agent's next key.
    pub fn key(mut self, key_type: u8, bytes: &[u8], verified: bool) -> Self {
        let hash = keccak256(bytes);
        let key = AgentKey {
            keyType: key_type,
            keyData: bytes.to_vec().into(),
            signature: vec![1; 65].into(),
            verified,
            registeredAt: U256::from(1_700_000_000),
        };
        self.agent.keyHashes.push(hash);
        self.keys.push((hash, key));
        self
    }

    /// A node that tells nothing but this.
    pub async fn node(self) -> Node {
        self.node_with(|_, reply| reply).await
    }

    /// A node that tells what `change` makes of it.
    pub async fn node_with(
        self,
        change: impl Fn(&Call, Reply) -> Reply + Send + Sync + 'static,
    ) -> Node {
        Node::start(move |call| change(call, self.answer(call))).await
    }

    pub fn answer(&self, call: &Call) -> Reply {
        match call.method.as_str() {
            "eth_chainId" => Reply::Result(json!("0x7a69")),
            "eth_getBlockByNumber" if call.params == json!(["finalized", false]) => {
                match self.finalized {
                    Some((number, _)) => block(FINALIZED, number),
                    None => Reply::Error(-32602),
                }
            }
            "eth_getBlockByNumber" => {
                assert_eq!(call.params, json!(["latest", false]));
                block(self.hash, self.number)
            }
            "eth_call" if call.params[1] == self.pinned() => self.call(call),
            "eth_call" if call.params[1] == pinned(FINALIZED) => {
                let mut then = self.clone();
                then.agent.active = self.finalized.unwrap().1;
                then.call(call)
            }
            "eth_call" => Reply::Error(-32001),
            _ => Reply::Error(-32601),
        }
    }

    /// The block as calls name it (EIP-1898).
    pub fn pinned(&self) -> Value {
        pinned(self.hash)
    }

    fn call(&self, call: &Call) -> Reply {
        assert_eq!(call.params[0]["to"], CONTRACT);
        let input = hex::decode(call.params[0]["data"].as_str().unwrap()).unwrap();
        let output = if let Ok(call) = getAgentByDIDCall::abi_decode(&input) {
            let agent = if call.did == self.agent.did { self.agent.clone() } else { nobody() };
            getAgentByDIDCall::abi_encode_returns(&agent)
        } else {
            let asked = getKeyCall::abi_decode(&input).unwrap().keyHash;
            let key = self.keys.iter().find(|(hash, _)| *hash == asked);
            getKeyCall::abi_encode_returns(&key.map_or_else(no_key, |(_, key)| key.clone()))
        };
        returned(&output)
    }
}

fn pinned(hash: B256) -> Value {
    json!({ "blockHash": hash.to_string(), "requireCanonical": true })
}

fn block(hash: B256, number: u64) -> Reply {
    let number = format!("{number:#x}");
    Reply::Result(json!({ "hash": hash.to_string(), "number": number, "transactions": [] }))
}

/// The result of a call.
pub fn returned(output: &[u8]) -> Reply {
    Reply::Result(hex::encode_prefixed(output).into())
}

/// Whether it is a call of this function.
pub fn calls<C: SolCall>(call: &Call) -> bool {
    let selector = hex::encode_prefixed(C::SELECTOR);
    call.params[0]["data"].as_str().is_some_and(|data| data.starts_with(&selector))
}

/// What the later contract returns.
pub fn later(agent: AgentMetadata) -> Vec<u8> {
    LaterAgentMetadata {
        did: agent.did,
        name: agent.name,
        description: agent.description,
        endpoint: agent.endpoint,
        keyHashes: agent.keyHashes,
        capabilities: agent.capabilities,
        owner: agent.owner,
        registeredAt: agent.registeredAt,
        updatedAt: agent.updatedAt,
        active: agent.active,
        chainId: agent.chainId,
        kemPublicKey: vec![9; 32].into(),
    }
    .abi_encode()
}

fn nobody() -> AgentMetadata {
    AgentMetadata {
        did: String::new(),
        name: String::new(),
        description: String::new(),
        endpoint: String::new(),
        keyHashes: Vec::new(),
        capabilities: String::new(),
        owner: Address::ZERO,
        registeredAt: U256::ZERO,
        updatedAt: U256::ZERO,
        active: false,
        chainId: U256::ZERO,
    }
}

fn no_key() -> AgentKey {
    AgentKey {
        keyType: 0,
        keyData: Vec::new().into(),
        signature: Vec::new().into(),
        verified: false,
        registeredAt: U256::ZERO,
    }
}
