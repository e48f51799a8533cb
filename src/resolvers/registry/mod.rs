//! did:sage: agents in SAGE's AgentCardRegistry contract on Ethereum.
//!
//! An agent and all its keys are read at one block, the node's latest, pinned by its hash. So a
//! reading never mixes two states. A key that cannot be read fails the whole reading. Only verified
//! keys of an active agent may sign; the registry says which keys and agents these are.
//!
//! **What is final.** The contract has one flag for an agent, `active`. It is false from
//! registration until `activateAgent`, which is possible only after a delay. `deactivateAgent`
//! unsets the flag. Anyone may then call `activateAgent`, which sets it again at once. An agent
//! that was never active looks like one that was deactivated, so inactivity by itself proves
//! nothing. But an agent that was seen active, and is inactive in a later, finalized block, was
//! deactivated by its owner. A later activation need not come from the owner. So a deactivation is
//! reported with the finalized block, and the caller, who knows what was seen before, decides. A
//! revoked key stays revoked in the contract, and is simply no longer in the document.
//!
//! The node is trusted: nothing here checks proofs of the chain's state.

mod contract;
mod node;

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use backon::{ConstantBuilder, Retryable as _};
use futures_util::{StreamExt as _, TryStreamExt as _, stream, try_join};
use recloser::{AsyncRecloser, Recloser};

use super::answer::{Answer, InvalidResolver, Resolution, Unreachable, Unusable};
use super::operated;
use super::places::{Account, Of, Places};
use crate::config;
use crate::domain::{Did, DidDocument, KeyAgreement, VerificationMethod};

use contract::{AgentKey, AgentMetadata, Use, getAgentByDIDCall, getKeyCall};
use node::{Block, Fault, Node};

/// The method's name.
pub(super) const METHOD: &str = "sage";

/// The most requests of one reading at the same time.
const MAX_REQUESTS: usize = 4;

/// How long to wait before a node is asked again, once.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// After this many failures in a row, and one more at first, a node is not asked for a while.
const MAX_FAILURES: usize = 5;
/// How long it is not asked. Then one reading decides whether it is asked again.
const LEFT_ALONE: Duration = Duration::from_secs(10);

pub(super) struct Registry {
    nodes: Vec<(Node, AsyncRecloser)>,
    contract: Address,
    chain_id: u64,
    ttl: Duration,
    timeout: Duration,
    places: Arc<Places>,
}

impl Registry {
    pub(super) fn new(
        config: &config::Registry,
        places: Arc<Places>,
    ) -> Result<Self, InvalidResolver> {
        let client = operated::client().map_err(|why| InvalidResolver {
            key: "resolvers.registry.endpoints",
            message: format!("TLS cannot be set up: {why}"),
        })?;
        let breaker = || {
            let breaker = Recloser::custom()
                .closed_len(MAX_FAILURES)
                .error_rate_closed(1.0)
                .half_open_len(1)
                .open_wait(LEFT_ALONE);
            AsyncRecloser::from(breaker.build())
        };
        let node = |endpoint: &config::Endpoint| Node::new(endpoint.clone(), client.clone());
        Ok(Self {
            nodes: config.endpoints.iter().map(|endpoint| (node(endpoint), breaker())).collect(),
            contract: config.contract,
            chain_id: config.chain_id,
            ttl: config.ttl,
            timeout: config.timeout,
            places,
        })
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(super) async fn resolve(
        &self,
        did: &Did,
        account: &Account,
    ) -> Result<Resolution, Unreachable> {
        if let Err(why) = self.check(did) {
            return Ok(Resolution { answer: Answer::Unusable(why), version: None });
        }
        let _place = self.places.enter(account, Of::Registry)?;
        let mut faults = Vec::new();
        for (index, (node, breaker)) in self.nodes.iter().enumerate() {
            let (number, host) = (index + 1, node.endpoint());
            let reading = self.read_in_time(node, did);
            let why = match breaker.call_with(Fault::is_failure, reading).await {
                Ok(resolution) => return Ok(resolution),
                Err(recloser::Error::Inner(fault)) => {
                    // The last node's fault is reported with all the others.
                    if number < self.nodes.len() {
                        tracing::warn!(%did, endpoint = number, %host, %fault, "the next node is asked");
                    }
                    fault.to_string()
                }
                Err(recloser::Error::Rejected) => "is left alone, having failed often".to_owned(),
            };
            faults.push(format!("endpoint {number} ({host}) {why}"));
        }
        Err(Unreachable::Failed(faults.join("; ")))
    }

    /// Whether this registry is the one that the DID names.
    fn check(&self, did: &Did) -> Result<(), Unusable> {
        let segments: Vec<&str> = did.method_specific_id().split(':').collect();
        let chain = match segments.as_slice() {
            ["ethereum", _, ..] => return Ok(()),
            ["eip155", chain, _] => chain,
            ["eip155", chain, registry, _] => {
                let own = format!("{:#x}", self.contract);
                if *registry != own {
                    let why = format!("it is of another registry than {own}");
                    return Err(Unusable::Method(why));
                }
                chain
            }
            _ => {
                let why = "a did:sage goes on with ethereum:<agent>, or with eip155:<chain id>:\
                           <agent> or eip155:<chain id>:<registry>:<agent>";
                return Err(Unusable::Did(why.to_owned()));
            }
        };
        if *chain != self.chain_id.to_string() {
            let why = format!("it is of another chain than {}", self.chain_id);
            return Err(Unusable::Method(why));
        }
        Ok(())
    }

    async fn read_in_time(&self, node: &Node, did: &Did) -> Result<Resolution, Fault> {
        let once = ConstantBuilder::default().with_delay(RETRY_AFTER).with_max_times(1);
        let reading = (|| self.read(node, did)).retry(once).when(Fault::may_pass);
        let late = |_| Err(Fault::Late(self.timeout));
        tokio::time::timeout(self.timeout, reading).await.unwrap_or_else(late)
    }

    async fn read(&self, node: &Node, did: &Did) -> Result<Resolution, Fault> {
        let (chain_id, block) = try_join!(node.chain_id(), node.latest_block())?;
        if chain_id != self.chain_id {
            return Err(Fault::OtherChain { theirs: chain_id, ours: self.chain_id });
        }
        let call = getAgentByDIDCall { did: did.to_string() };
        let agent = self.ask(node, &block, call).await?;
        let answer = self.answer(node, &block, did, &agent).await?;
        Ok(Resolution { answer, version: Some(block.number) })
    }

    async fn answer(
        &self,
        node: &Node,
        block: &Block,
        did: &Did,
        agent: &AgentMetadata,
    ) -> Result<Answer, Fault> {
        if agent.is_empty() {
            return Ok(Answer::NotFound);
        }
        if *agent.did != *did.as_str().as_bytes() {
            return Err(nonsense::<getAgentByDIDCall>("another agent than was asked for"));
        }
        if agent.chainId != U256::from(self.chain_id) {
            let why = format!("it was registered on another chain than {}", self.chain_id);
            return Ok(Answer::Unusable(Unusable::Method(why)));
        }
        if !agent.active {
            let finalized_at = self.inactive_when_finalized(node, block, did).await?;
            return Ok(Answer::Deactivated { finalized_at });
        }
        if agent.keyHashes.len() > DidDocument::MAX_METHODS {
            let keys = agent.keyHashes.len();
            tracing::debug!(%did, keys, "an agent has more keys than are read");
        }
        let hashes = agent.keyHashes.clone().into_iter().take(DidDocument::MAX_METHODS);
        let keys: Vec<AgentKey> = stream::iter(hashes)
            .map(|key_hash| async move {
                let key = self.ask(node, block, getKeyCall { keyHash: key_hash }).await?;
                if key.has_hash(&key_hash) {
                    Ok(key)
                } else {
                    Err(nonsense::<getKeyCall>("another key than was asked for"))
                }
            })
            .buffered(MAX_REQUESTS)
            .try_collect()
            .await?;
        let owner = agent.owner.to_checksum(None);
        Ok(Answer::Document { document: document(did, &keys), owner_address: Some(owner) })
    }

    /// The node's finalized block, if the agent exists in it and is inactive there too. A node that
    /// cannot name its finalized block proves nothing.
    async fn inactive_when_finalized(
        &self,
        node: &Node,
        latest: &Block,
        did: &Did,
    ) -> Result<Option<u64>, Fault> {
        let finalized = match node.finalized_block().await {
            Ok(finalized) => finalized,
            Err(Fault::Refused { .. } | Fault::Nonsense { .. }) => return Ok(None),
            Err(fault) => return Err(fault),
        };
        if finalized.number > latest.number {
            return Ok(None);
        }
        let call = getAgentByDIDCall { did: did.to_string() };
        let agent = self.ask(node, &finalized, call).await?;
        let inactive = *agent.did == *did.as_str().as_bytes() && !agent.active;
        Ok(inactive.then_some(finalized.number))
    }

    async fn ask<C: SolCall>(
        &self,
        node: &Node,
        block: &Block,
        call: C,
    ) -> Result<C::Return, Fault> {
        let output = node.call_contract(self.contract, block, &call.abi_encode()).await?;
        contract::decode::<C>(&output).map_err(nonsense::<C>)
    }
}

fn nonsense<C: SolCall>(problem: &'static str) -> Fault {
    Fault::Nonsense { asked: C::SIGNATURE, problem }
}

/// The keys as a DID document. A key's fragment is `key-` and its position in the registry, from 1,
/// as in SAGE's agent cards. The contract may give a revoked key's position to another key.
fn document(did: &Did, keys: &[AgentKey]) -> DidDocument {
    let (mut signing, mut agreement) = (Vec::new(), Vec::new());
    for (index, key) in keys.iter().enumerate() {
        let id = format!("{did}#key-{}", index + 1);
        match key.usage() {
            Ok(Some(Use::Signing(key))) => {
                signing.push(VerificationMethod { id, key, authentication: true });
            }
            Ok(Some(Use::Agreement(x25519))) => agreement.push(KeyAgreement { id, x25519 }),
            Ok(None) => {}
            Err(why) => tracing::debug!(id, %why, "a key of an agent is left out"),
        }
    }
    DidDocument::of_keys(did, &signing, &agreement)
}
