//! The HTTP ceiling: the speed of actix-web with a handler that only reads and writes JSON.

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::bench::{Bench, Sample, Subject};
use crate::process::Process;
use crate::wire::{self, HttpClient};

#[derive(Deserialize)]
pub struct Nonce {
    pub nonce: String,
}

/// As large as the answer to a claim.
#[derive(Serialize)]
pub struct Accepted {
    pub nonce: String,
    pub session_id: String,
    pub used_at: &'static str,
    pub expires_at: &'static str,
}

/// The answer, which is always the same.
pub fn accepted(session_id: String, nonce: String) -> HttpResponse {
    let (used_at, expires_at) = ("2026-01-02T03:04:05.678901Z", "2026-01-02T04:04:05.678901Z");
    HttpResponse::Created().json(Accepted { nonce, session_id, used_at, expires_at })
}

async fn post(session: web::Path<String>, body: web::Json<Nonce>) -> HttpResponse {
    accepted(session.into_inner(), body.into_inner().nonce)
}

/// As large as the answer about a did:key.
#[derive(Serialize)]
struct Document {
    did: String,
    key_type: &'static str,
    public_key: &'static str,
    verification_methods: [Method; 1],
    owner_address: Option<String>,
    revoked: bool,
    source: &'static str,
    fetched_at: &'static str,
    stale_at: &'static str,
    created_at: Option<&'static str>,
    updated_at: Option<&'static str>,
}

#[derive(Serialize)]
struct Method {
    id: String,
    key_type: &'static str,
    public_key: &'static str,
}

async fn get(did: web::Path<String>) -> HttpResponse {
    let (key_type, public_key) = ("Ed25519", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let at = "2026-01-02T03:04:05.678901Z";
    HttpResponse::Ok().json(Document {
        verification_methods: [Method { id: format!("{did}#key-1"), key_type, public_key }],
        did: did.into_inner(),
        key_type,
        public_key,
        owner_address: None,
        revoked: false,
        source: "key",
        fetched_at: at,
        stale_at: at,
        created_at: None,
        updated_at: None,
    })
}

pub fn serve() -> Result<()> {
    let app = || {
        App::new()
            .route("/v1/sessions/{id}/nonces", web::post().to(post))
            .route("/v1/dids/{did}", web::get().to(get))
    };
    let serving = async { HttpServer::new(app).listen(listener()?)?.run().await };
    Ok(actix_web::rt::System::new().block_on(serving)?)
}

/// Listens, and prints the address for the parent process.
pub fn listener() -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    Ok(listener)
}

pub fn post_claims(bench: &Bench, connections: usize) -> Result<Sample> {
    let sessions: Arc<[String]> = (0..64).map(|_| uuid::Uuid::now_v7().to_string()).collect();
    measure(bench, connections, &wire::single_claim(), &sessions, 201)
}

pub fn get_did(bench: &Bench, connections: usize) -> Result<Sample> {
    let request = wire::http("GET", &format!("/v1/dids/{}", crate::onceguard::DID), "");
    measure(bench, connections, &request, &Arc::default(), 200)
}

fn measure(
    bench: &Bench,
    connections: usize,
    request: &str,
    ids: &Arc<[String]>,
    status: u16,
) -> Result<Sample> {
    let (process, address) = Process::spawn_self("bare", &[])?;
    let subject = Subject { address, pid: process.id(), postgres: None };
    subject.measure(bench, connections, 1, &|| HttpClient::boxed(request, ids, status, 0))
}
