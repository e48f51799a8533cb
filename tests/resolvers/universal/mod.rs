//! Other methods, through a server that speaks the HTTP binding of W3C DID Resolution.

mod answers;
mod reach;
mod stub;

use std::sync::Arc;

use onceguard::config::{self, Need, Sources};
use onceguard::domain::{Did, DidDocument};
use onceguard::metrics::Metrics;
use onceguard::resolvers::{Answer, Resolution, Resolvers};
use serde_json::Value;
use tokio::runtime::Handle;

use crate::support::{DEADLINE, a_public_key, an_account, did};

use stub::{Reply, Stub};

/// What is asked for.
fn a_did() -> Did {
    did("did:ion:EiClkZMDxPKqC9c-umQfTkR8")
}

fn a_document() -> DidDocument {
    let did = a_did();
    let id = format!("{did}#key-1");
    DidDocument::of_key(&did, id, a_public_key(1))
}

fn a_json_document() -> Value {
    Value::Object(a_document().json().clone())
}

/// The configuration with a resolver at this URL. Nothing is slow enough to be given up, unless a
/// test asks for that.
fn config_for(url: &str) -> config::Resolvers {
    let variables = [("ONCEGUARD_RESOLVERS__UNIVERSAL__URL", url)];
    let loaded = Sources::default().environment(variables).load(Need::Everything).unwrap();
    let mut config = loaded.config.resolvers;
    config.universal.as_mut().unwrap().timeout = DEADLINE;
    config
}

fn resolvers_with(config: &config::Resolvers) -> Resolvers {
    Resolvers::new(config, Arc::new(Metrics::new().unwrap()), Handle::current()).unwrap()
}

fn resolvers_at(stub: &Stub) -> Resolvers {
    resolvers_with(&config_for(&format!("http://127.0.0.1:{}", stub.port())))
}

/// What comes of a reply.
async fn answer_to(reply: Reply) -> Answer {
    let stub = Stub::start(reply).await;
    let Resolution { answer, version } =
        resolvers_at(&stub).resolve(&a_did(), an_account()).await.unwrap();
    assert_eq!(version, None);
    answer
}

/// Why there is no answer.
async fn unreachable(resolvers: &Resolvers) -> String {
    resolvers.resolve(&a_did(), an_account()).await.unwrap_err().to_string()
}
