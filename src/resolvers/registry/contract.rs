//! The functions of SAGE's AgentCardRegistry that are called, and what their answers mean. No I/O
//! happens here.

use alloy_primitives::B256;
use alloy_sol_types::abi::AbiDecoderConfig;
use alloy_sol_types::{SolCall, sol};
use sha3::{Digest as _, Keccak256};

use crate::domain::{InvalidKey, KeyType, PublicKey};

sol! {
    /// Later versions of the contract have one more field at the end, which is not read. In the
    /// contract, the first fields and `capabilities` are strings that an agent's owner chooses. The
    /// contract does not check that they are UTF-8.
    struct AgentMetadata {
        bytes did;
        bytes name;
        bytes description;
        bytes endpoint;
        bytes32[] keyHashes;
        bytes capabilities;
        address owner;
        uint256 registeredAt;
        uint256 updatedAt;
        bool active;
        uint256 chainId;
    }

    struct AgentKey {
        uint8 keyType;
        bytes keyData;
        bytes signature;
        bool verified;
        uint256 registeredAt;
    }

    /// All fields are empty when there is no such agent.
    function getAgentByDID(string did) external view returns (AgentMetadata);

    /// All fields are empty when there is no such key.
    function getKey(bytes32 keyHash) external view returns (AgentKey);
}

/// What a key is for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Use {
    Signing(PublicKey),
    /// X25519.
    Agreement([u8; 32]),
}

/// Decodes what a function returned.
///
/// # Errors
/// When the bytes are not such a value.
pub(super) fn decode<C: SolCall>(output: &[u8]) -> Result<C::Return, &'static str> {
    if output.is_empty() {
        return Err("nothing: is the contract at the configured address?");
    }
    // The memory that decoding may take. The largest answer needs less.
    let config = AbiDecoderConfig::new().validate(true).memory_limit(4 << 20);
    C::abi_decode_returns_with_config(output, config)
        .map_err(|_| "what no AgentCardRegistry returns")
}

impl AgentMetadata {
    /// Whether the registry knows no agent.
    pub(super) fn is_empty(&self) -> bool {
        self.did.is_empty() && self.owner.is_zero() && self.keyHashes.is_empty()
    }
}

impl AgentKey {
    /// Whether this key has this hash. The registry stores keys under their Keccak-256.
    pub(super) fn has_hash(&self, hash: &B256) -> bool {
        Keccak256::digest(&self.keyData).as_slice() == hash.as_slice()
    }

    /// What the key may be used for. `None` when the key is not verified, because it was revoked or
    /// its owner has not proven to hold it; also for types that this service does not know.
    ///
    /// # Errors
    /// Why a verified key may not be used.
    pub(super) fn usage(&self) -> Result<Option<Use>, InvalidKey> {
        if !self.verified {
            return Ok(None);
        }
        let bytes = self.keyData.as_ref();
        match self.keyType {
            0 => secp256k1(bytes).map(|key| Some(Use::Signing(key))),
            1 => PublicKey::new(KeyType::Ed25519, bytes).map(|key| Some(Use::Signing(key))),
            2 => Ok(bytes.try_into().ok().map(Use::Agreement)),
            _ => Ok(None),
        }
    }
}

/// A point in one of the contract's forms: compressed, uncompressed, or uncompressed without the
/// first byte.
fn secp256k1(bytes: &[u8]) -> Result<PublicKey, InvalidKey> {
    if bytes.len() == 64 {
        PublicKey::from_sec1(KeyType::Secp256k1, &[&[4], bytes].concat())
    } else {
        PublicKey::from_sec1(KeyType::Secp256k1, bytes)
    }
}
