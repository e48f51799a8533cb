//! A node of the chain, over JSON-RPC 2.0 (the execution API of Ethereum). This module does not
//! retry, and sets no time limits. Errors repeat neither what a node sends nor its URL.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256, hex};
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::Endpoint;
use crate::resolvers::body::{self, BadBody};
use crate::resolvers::operated;

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 1 << 20;

pub(super) struct Node {
    endpoint: Endpoint,
    client: reqwest::Client,
    next_id: AtomicU64,
}

/// A block of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) hash: B256,
    pub(super) number: u64,
}

/// Why a node gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("cannot be reached: {0}")]
    Network(String),
    #[error("did not answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("answered with HTTP status {0}")]
    Status(u16),
    /// Of a call at a block's hash: also when the node does not know the block, or no longer.
    #[error("refused to call the contract at a block's hash (EIP-1898): JSON-RPC error {0}")]
    CallRefused(i64),
    #[error("refused {method}: JSON-RPC error {code}")]
    Refused { method: &'static str, code: i64 },
    #[error("is on chain {theirs}, and not on {ours}")]
    OtherChain { theirs: u64, ours: u64 },
    #[error("answered {asked} with {problem}")]
    Nonsense { asked: &'static str, problem: &'static str },
}

impl Fault {
    /// Whether another attempt may help: the network may have failed for a moment, or the server
    /// that answered, of several behind one name, may not have the block yet.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Network(_) | Self::CallRefused(_) => true,
            Self::Status(status) => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// Whether the circuit breaker counts this failure. The answer to a call may depend on what
    /// strangers have written into the contract, and they must not be able to switch a node off.
    pub(super) const fn is_failure(&self) -> bool {
        matches!(self, Self::Network(_) | Self::Late(_) | Self::Status(_))
    }
}

#[derive(Deserialize)]
struct Answer {
    id: Value,
    #[serde(default)]
    result: Value,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
}

#[derive(Deserialize)]
struct RawBlock {
    hash: String,
    number: String,
}

impl Node {
    pub(super) const fn new(endpoint: Endpoint, client: reqwest::Client) -> Self {
        Self { endpoint, client, next_id: AtomicU64::new(1) }
    }

    pub(super) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The chain's EIP-155 id.
    pub(super) async fn chain_id(&self) -> Result<u64, Fault> {
        const METHOD: &str = "eth_chainId";
        let id: String = self.call(METHOD, json!([])).await?;
        quantity(&id).ok_or_else(|| nonsense(METHOD, "what is no chain id"))
    }

    /// The newest block.
    pub(super) async fn latest_block(&self) -> Result<Block, Fault> {
        self.block("latest").await
    }

    /// The newest finalized block.
    pub(super) async fn finalized_block(&self) -> Result<Block, Fault> {
        self.block("finalized").await
    }

    async fn block(&self, tag: &str) -> Result<Block, Fault> {
        const METHOD: &str = "eth_getBlockByNumber";
        let block: Option<RawBlock> = self.call(METHOD, json!([tag, false])).await?;
        let block = block.ok_or_else(|| nonsense(METHOD, "no block"))?;
        let hash = block.hash.strip_prefix("0x").and_then(|digits| digits.parse().ok());
        // A database's integers can count the blocks of every chain.
        let number = quantity(&block.number).filter(|number| i64::try_from(*number).is_ok());
        match (hash, number) {
            (Some(hash), Some(number)) => Ok(Block { hash, number }),
            (None, _) => Err(nonsense(METHOD, "a malformed block hash")),
            (_, None) => Err(nonsense(METHOD, "a malformed block number")),
        }
    }

    /// What a contract's function returns at exactly this block, as long as the block is on the
    /// chain (EIP-1898). Input and output are ABI-encoded.
    pub(super) async fn call_contract(
        &self,
        contract: Address,
        block: &Block,
        input: &[u8],
    ) -> Result<Vec<u8>, Fault> {
        const METHOD: &str = "eth_call";
        let call = json!({ "to": contract.to_string(), "data": hex::encode_prefixed(input) });
        let at = json!({ "blockHash": block.hash.to_string(), "requireCanonical": true });
        let output: String =
            self.call(METHOD, json!([call, at])).await.map_err(|fault| match fault {
                Fault::Refused { code, .. } => Fault::CallRefused(code),
                other => other,
            })?;
        hex::decode(&output).map_err(|_| nonsense(METHOD, "what is not hexadecimal"))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, Fault> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let response = self
            .client
            .post(self.endpoint.url().clone())
            .header(CONTENT_TYPE, "application/json")
            .body(request.to_string())
            .send()
            .await
            .map_err(|error| Fault::Network(operated::reason(&error)))?;
        let status = response.status();
        let body = body::read(response, MAX_ANSWER).await.map_err(|bad| match bad {
            BadBody::TooLarge => nonsense(method, "more than 1 MiB"),
            BadBody::BrokenOff(error) => Fault::Network(operated::reason(&error)),
        })?;
        let answer = serde_json::from_slice::<Answer>(&body);
        // Some nodes refuse with an HTTP status, too.
        if let Ok(Answer { error: Some(RpcError { code }), .. }) = answer {
            return Err(Fault::Refused { method, code });
        }
        if status != StatusCode::OK {
            return Err(Fault::Status(status.as_u16()));
        }
        let answer = answer.map_err(|_| nonsense(method, "what is no JSON-RPC response"))?;
        if answer.id != id {
            return Err(nonsense(method, "the answer to another request"));
        }
        serde_json::from_value(answer.result)
            .map_err(|_| nonsense(method, "a result of another type"))
    }
}

const fn nonsense(asked: &'static str, problem: &'static str) -> Fault {
    Fault::Nonsense { asked, problem }
}

/// A number as the execution API writes it: `0x` and hexadecimal digits.
fn quantity(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
    u64::from_str_radix(digits, 16).ok()
}
