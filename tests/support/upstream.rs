//! A Universal Resolver for one test. It answers for each DID what the test wants, or not at all.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, web};
use onceguard::config::{Config, Need, Sources};
use onceguard::domain::{Did, PublicKey};
use serde_json::{Value, json};
use tokio::sync::watch;

/// The method whose DIDs it reads.
pub const METHOD: &str = "example";

/// A DID that no other test has, and that only an [`Upstream`] knows.
pub fn an_upstream_did() -> Did {
    super::did(&format!("did:{METHOD}:{}", uuid::Uuid::now_v7().simple()))
}

/// The answers about a DID.
#[derive(Debug, Clone)]
pub enum Says {
    Document(Value),
    Status(u16),
    Deactivated,
}

pub struct Upstream {
    address: SocketAddr,
    server: ServerHandle,
    shared: Arc<Shared>,
}

struct Shared {
    says: Mutex<HashMap<String, Says>>,
    /// An answer that replaces all others.
    fails: Mutex<Option<u16>>,
    asked: AtomicUsize,
    /// Whether it answers, or lets every caller wait.
    answers: watch::Sender<bool>,
}

impl Upstream {
    #[allow(clippy::unused_async, reason = "it needs a runtime")]
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            says: Mutex::default(),
            fails: Mutex::default(),
            asked: AtomicUsize::new(0),
            answers: watch::Sender::new(true),
        });
        let data = shared.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::from(data.clone()))
                .route("/1.0/identifiers/{did}", web::get().to(answer))
        })
        .workers(1)
        .disable_signals()
        .bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Self { address, server: handle, shared }
    }

    /// Configures the service to read the DIDs of [`METHOD`] here.
    pub fn configure(&self, config: &mut Config) {
        let url = Some(format!("http://{}", self.address));
        let sources = Sources::default().flag("the test", "resolvers.universal.url", url).flag(
            "the test",
            "resolvers.universal.methods",
            Some(METHOD.to_owned()),
        );
        config.resolvers.universal =
            sources.load(Need::Database).unwrap().config.resolvers.universal;
    }

    pub fn says(&self, did: &Did, says: Says) {
        self.shared.says.lock().unwrap().insert(did.to_string(), says);
    }

    /// Publishes this key for the DID.
    pub fn has(&self, did: &Did, key: &PublicKey) {
        self.says(did, Says::Document(document(did, key)));
    }

    /// Makes every question fail with 500, or no longer.
    pub fn fails(&self, fails: bool) {
        *self.shared.fails.lock().unwrap() = fails.then_some(500);
    }

    /// How often it has been asked so far.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// From now on, holds back every answer until [`Self::resume`].
    pub fn hold(&self) {
        self.shared.answers.send_replace(false);
    }

    pub fn resume(&self) {
        self.shared.answers.send_replace(true);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

/// A document with one key that may sign.
pub fn document(did: &Did, key: &PublicKey) -> Value {
    let multikey = onceguard::resolvers::did_key::encode(key).unwrap();
    json!({
        "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"],
        "id": did.as_str(),
        "verificationMethod": [{
            "id": format!("{did}#k1"),
            "type": "Multikey",
            "controller": did.as_str(),
            "publicKeyMultibase": multikey.method_specific_id(),
        }],
        "authentication": ["#k1"],
    })
}

async fn answer(shared: web::Data<Shared>, did: web::Path<String>) -> HttpResponse {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    shared.answers.subscribe().wait_for(|answers| *answers).await.unwrap();
    if let Some(status) = *shared.fails.lock().unwrap() {
        return HttpResponse::build(StatusCode::from_u16(status).unwrap()).finish();
    }
    let says = shared.says.lock().unwrap().get(did.as_str()).cloned();
    let result = |status: u16, document: Value, metadata: Value, error: Option<&str>| {
        let mut body = json!({
            "didResolutionMetadata": {"contentType": "application/did+ld+json"},
            "didDocument": document,
            "didDocumentMetadata": metadata,
        });
        if let Some(error) = error {
            body["didResolutionMetadata"] = json!({"error": error});
        }
        HttpResponse::build(StatusCode::from_u16(status).unwrap())
            .content_type("application/ld+json;profile=\"https://w3id.org/did-resolution\"")
            .body(body.to_string())
    };
    match says {
        Some(Says::Document(document)) => result(200, document, json!({}), None),
        Some(Says::Status(status)) => {
            HttpResponse::build(StatusCode::from_u16(status).unwrap()).finish()
        }
        Some(Says::Deactivated) => result(410, Value::Null, json!({"deactivated": true}), None),
        None => result(404, Value::Null, json!({}), Some("notFound")),
    }
}
