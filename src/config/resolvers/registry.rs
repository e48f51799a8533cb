//! `[resolvers.registry]`: the AgentCardRegistry on Ethereum, for did:sage.

use std::time::Duration;

use alloy_primitives::Address;

use super::endpoint::Endpoint;
use crate::config::reader::{Given, Reader, Show};

/// A reading waits for each endpoint that fails, so there must not be many.
const MAX_ENDPOINTS: usize = 8;

/// The largest chain id (EIP-2294).
const MAX_CHAIN_ID: u64 = u64::MAX / 2 - 36;

/// `[resolvers.registry]`, when there are endpoints.
#[derive(Debug, Clone)]
pub struct Registry {
    /// JSON-RPC of the chain's nodes, in the order in which they are asked.
    pub endpoints: Vec<Endpoint>,
    pub contract: Address,
    /// EIP-155.
    pub chain_id: u64,
    pub ttl: Duration,
    /// For everything that one endpoint is asked about a DID.
    pub timeout: Duration,
}

impl Registry {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let endpoints = read_endpoints(reader);
        let contract = reader.optional(
            "resolvers.registry.contract",
            Show::Plain,
            |given| given.text().and_then(parse_address).ok_or_else(|| INVALID_ADDRESS.to_owned()),
            |address| address.to_string().into(),
        );
        let chain_id = reader.number("resolvers.registry.chain_id", 1, 1..=MAX_CHAIN_ID);
        let ttl = reader.seconds("resolvers.registry.ttl_seconds", 15, 1..=86_400);
        let timeout = reader.seconds("resolvers.registry.timeout_seconds", 5, 1..=60);
        if endpoints.is_empty() {
            return None;
        }
        if contract.is_none() {
            reader.refuse(
                "resolvers.registry.contract",
                "is missing: resolvers.registry.endpoints needs the address of the contract",
            );
        }
        contract.map(|contract| Self { endpoints, contract, chain_id, ttl, timeout })
    }
}

fn read_endpoints(reader: &mut Reader) -> Vec<Endpoint> {
    let parse = |given: &Given| {
        let texts = if given.text() == Some("") { Some(Vec::new()) } else { given.texts() };
        texts
            .filter(|texts| texts.len() <= MAX_ENDPOINTS)
            .and_then(|texts| texts.into_iter().map(Endpoint::parse).collect())
            .ok_or_else(|| format!("must be a list of up to {MAX_ENDPOINTS} {}", Endpoint::ALLOWED))
    };
    let shown = |endpoints: &Vec<Endpoint>| endpoints.iter().map(Endpoint::to_string).collect();
    reader.value("resolvers.registry.endpoints", Show::Secret, Vec::new(), parse, shown)
}

const INVALID_ADDRESS: &str =
    "must be 0x and 40 hexadecimal digits, in one case or in that of its checksum (EIP-55)";

fn parse_address(text: &str) -> Option<Address> {
    let digits = text.strip_prefix("0x")?;
    let is_mixed = digits.bytes().any(|b| b.is_ascii_lowercase())
        && digits.bytes().any(|b| b.is_ascii_uppercase());
    if is_mixed { Address::parse_checksummed(text, None).ok() } else { text.parse().ok() }
}
