// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

/// What onceguard reads of SAGE's AgentCardRegistry, and what tests need to change in it. Nobody
/// is asked for a proof of anything here.
contract Registry {
    struct Agent {
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

    struct Key {
        uint8 keyType;
        bytes keyData;
        bytes signature;
        bool verified;
        uint256 registeredAt;
    }

    mapping(string => Agent) private agents;
    mapping(bytes32 => Key) private keys;

    function getAgentByDID(string calldata did) external view returns (Agent memory) {
        return agents[did];
    }

    function getKey(bytes32 keyHash) external view returns (Key memory) {
        return keys[keyHash];
    }

    function register(string calldata did) external {
        Agent storage agent = agents[did];
        agent.did = did;
        agent.name = "An agent of a test";
        agent.endpoint = "https://agent.example";
        agent.capabilities = "{}";
        agent.owner = msg.sender;
        agent.registeredAt = block.timestamp;
        agent.updatedAt = block.timestamp;
        agent.chainId = block.chainid;
    }

    function setActive(string calldata did, bool active) external {
        agents[did].active = active;
    }

    function addKey(string calldata did, uint8 keyType, bytes calldata keyData) external {
        bytes32 keyHash = keccak256(keyData);
        keys[keyHash] = Key(keyType, keyData, hex"01", true, block.timestamp);
        agents[did].keyHashes.push(keyHash);
    }

    /// As SAGE's does, it gives the place of the key to the last one.
    function revokeKey(string calldata did, bytes32 keyHash) external {
        bytes32[] storage hashes = agents[did].keyHashes;
        for (uint256 i = 0; i < hashes.length; i++) {
            if (hashes[i] == keyHash) {
                hashes[i] = hashes[hashes.length - 1];
                hashes.pop();
                break;
            }
        }
        keys[keyHash].verified = false;
    }

    function setVerified(bytes32 keyHash, bool verified) external {
        keys[keyHash].verified = verified;
    }

    /// Leaves the key's hash with its agent: a state that SAGE's never has.
    function forgetKey(bytes32 keyHash) external {
        delete keys[keyHash];
    }
}
