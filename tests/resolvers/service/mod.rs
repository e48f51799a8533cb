//! did:web through the whole service: what a host answers, and what strangers make it be asked.

mod answers;
mod strangers;

use std::sync::Arc;

use onceguard::config::Config;
use onceguard::domain::{Did, DidUrl, KeyType, Timestamp};
use onceguard::resolvers::did_key;
use serde_json::{Value, json};

use crate::support::{Agent, Answer, Authority, Message, TestApp};

const VERIFY: &str = "/v1/verify";

/// Has the service read did:web from this machine, by certificates of this authority.
fn reads_here(config: &mut Config, authority: &Authority) {
    config.resolvers.web.enabled = true;
    config.resolvers.web.allow_private_addresses = true;
    config.resolvers.web.ca_file = Some(authority.file());
}

/// An agent, and the documents with its key that any DID may have.
struct Keyholder {
    agent: Agent,
    multikey: Arc<str>,
}

impl Keyholder {
    fn new() -> Self {
        let agent = Agent::new(KeyType::Ed25519);
        let multikey = did_key::encode(agent.signer.key.public_key()).unwrap();
        Self { agent, multikey: multikey.method_specific_id().into() }
    }

    /// The agent as this DID.
    fn named(&self, did: &Did) -> Agent {
        let mut agent = self.agent.clone();
        agent.did = did.clone();
        agent.signer.key_id = DidUrl::parse(did.as_str()).unwrap();
        agent
    }

    fn documents(&self) -> impl Fn(&Did) -> Value + Send + Sync + 'static {
        let multikey = Arc::clone(&self.multikey);
        move |did| {
            json!({
                "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
                "id": did.as_str(),
                "verificationMethod": [{
                    "id": format!("{did}#k1"),
                    "type": "Multikey",
                    "controller": did.as_str(),
                    "publicKeyMultibase": &*multikey,
                }],
                "authentication": ["#k1"],
            })
        }
    }
}

fn now(app: &TestApp) -> Timestamp {
    app.store().clock().now()
}

fn order() -> Message {
    Message::new("POST", "https://service.example/orders?id=1").json(&json!({"amount": 1}))
}

/// Another request than was signed.
fn forged(agent: &Agent, now: Timestamp) -> Message {
    let mut message = order().signed(agent, now);
    message.url = message.url.replace("id=1", "id=2");
    message
}

async fn verify(app: &TestApp, message: &Message) -> Answer {
    app.post(VERIFY, &message.to_verify()).await
}
