//! did:web, against HTTPS hosts on this machine.

mod documents;
mod hostile;
mod limits;
mod reach;

use std::sync::Arc;
use std::time::Duration;

use onceguard::config::{self, Need, Sources};
use onceguard::domain::Did;
use onceguard::metrics::Metrics;
use onceguard::resolvers::{Answer, Resolvers, did_key};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::site::within_deadline;
use crate::support::{Authority, a_public_key, an_account};

/// The default configuration of did:web.
fn defaults() -> config::Resolvers {
    Sources::default().load(Need::Everything).unwrap().config.resolvers
}

fn resolvers(config: &config::Resolvers) -> Resolvers {
    Resolvers::new(config, Arc::new(Metrics::new().unwrap()), Handle::current()).unwrap()
}

/// Resolvers that may ask hosts on this machine, and trust this authority. No host is slow enough
/// to be given up, unless a test asks for that.
fn trusting(authority: &Authority) -> Resolvers {
    trusting_with(authority, |_| {})
}

fn trusting_with(authority: &Authority, change: impl FnOnce(&mut config::Web)) -> Resolvers {
    let mut config = defaults();
    config.web.allow_private_addresses = true;
    config.web.ca_file = Some(authority.file());
    config.web.timeout = Duration::from_hours(1);
    change(&mut config.web);
    resolvers(&config)
}

fn trusting_with_places(
    authority: &Authority,
    change: impl FnOnce(&mut config::Places),
) -> Resolvers {
    let mut config = defaults();
    config.web.allow_private_addresses = true;
    config.web.ca_file = Some(authority.file());
    config.web.timeout = Duration::from_hours(1);
    change(&mut config.places);
    resolvers(&config)
}

/// A document with one key that may sign.
fn document(did: &Did) -> Value {
    with_keys(did, 1)
}

fn with_keys(did: &Did, count: u8) -> Value {
    let id = |number: u8| format!("{did}#key-{number}");
    let method = |number: u8| {
        let key = did_key::encode(&a_public_key(number)).unwrap();
        let multibase = key.method_specific_id();
        json!({
            "id": id(number), "type": "Multikey", "controller": did.as_str(),
            "publicKeyMultibase": multibase,
        })
    };
    json!({
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": did.as_str(),
        "verificationMethod": (1..=count).map(method).collect::<Vec<_>>(),
        "authentication": (1..=count).map(id).collect::<Vec<_>>(),
    })
}

async fn answer(resolvers: &Resolvers, did: &Did) -> Answer {
    let read = within_deadline(resolvers.resolve(did, an_account())).await.unwrap();
    assert_eq!(read.version, None);
    read.answer
}

async fn unusable(resolvers: &Resolvers, did: &Did) -> String {
    match answer(resolvers, did).await {
        Answer::Unusable(why) => why.to_string(),
        other => panic!("{did}: {other:?}"),
    }
}

async fn unreachable(resolvers: &Resolvers, did: &Did) -> String {
    within_deadline(resolvers.resolve(did, an_account())).await.unwrap_err().to_string()
}

/// The document's first key is the one of [`document`].
async fn found(resolvers: &Resolvers, did: &Did) {
    match answer(resolvers, did).await {
        Answer::Document { document, owner_address: None } => {
            assert_eq!(document.json()["id"], did.as_str());
            assert_eq!(document.first_key(), Some(&a_public_key(1)), "{did}");
        }
        other => panic!("{did}: {other:?}"),
    }
}
