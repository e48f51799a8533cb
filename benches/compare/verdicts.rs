//! The cost of a verdict, compared with its signature check, for each type of key. Measured are the
//! bare check of the cryptographic library, with a parsed key; the same message through all checks
//! that need no I/O; and the whole verdict, which claims a nonce on SQLite.
//!
//! Each kind judges the same messages in turn, in this process. The ratios are of processor time,
//! and include the database's threads. So they show what a core can do, even if the machine does
//! other work.
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k256::ecdsa::signature::Verifier as _;
use onceguard::app::open_store;
use onceguard::clock::Clock;
use onceguard::config::{Need, SealingKeyBytes, Sources};
use onceguard::domain::{DidUrl, KeyType, Nonce, Peer};
use onceguard::metrics::Metrics;
use onceguard::resolvers::{Resolvers, did_key};
use onceguard::services::{Case, Claims, Dids, Sealer, SealingKeys, Seen, Sessions, Verdicts};
use onceguard::signatures::{
    Body, Profile, Request, Signer, SigningKey, Target, VerifyingKey, check,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use crate::Result;
use crate::bench::Bench;

/// Of each kind.
const MESSAGES: usize = 8192;
/// The number of concurrent verdicts when nonces are claimed.
const TASKS: usize = 64;
const URL: &str = "https://service.example/orders?id=1";
const CONTENT: &[u8] = br#"{"amount":1}"#;

/// A signed request, and the parts of it that a bare check needs.
struct Message {
    headers: Vec<(String, String)>,
    base: String,
    signature: Vec<u8>,
}

impl Message {
    fn sign(signer: &Signer, nonce: &str, clock: &Clock) -> Self {
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let nonce = Nonce::parse(nonce).unwrap();
        let now = clock.now();
        let fields = signer.sign(&request(&lines(&headers)), &nonce, now).unwrap();
        headers.extend(fields.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let (_, signature) =
            headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("signature")).unwrap();
        let signature = STANDARD.decode(signature.split(':').nth(1).unwrap()).unwrap();
        let base = check(&request(&lines(&headers)), &signer.profile, now)
            .unwrap()
            .signature_base()
            .unwrap();
        Self { headers, base, signature }
    }
}

fn lines(headers: &[(String, String)]) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

fn request<'a>(headers: &'a [(&'a str, &'a [u8])]) -> Request<'a> {
    let target = Target::parse(URL).unwrap();
    Request { method: "POST", target, headers, body: Body::Seen(CONTENT) }
}

fn bare(key: &VerifyingKey, message: &Message) -> bool {
    let (base, signature) = (message.base.as_bytes(), message.signature.as_slice());
    match key {
        VerifyingKey::Ed25519(key) => {
            let signature = ed25519_dalek::Signature::from_slice(signature).unwrap();
            key.verify_strict(base, &signature).is_ok()
        }
        VerifyingKey::Secp256k1(key) => {
            let signature = k256::ecdsa::Signature::from_slice(signature).unwrap();
            key.verify(base, &signature).is_ok()
        }
        VerifyingKey::P256(key) => {
            let signature = p256::ecdsa::Signature::from_slice(signature).unwrap();
            key.verify(base, &signature).is_ok()
        }
    }
}

fn unclaimed(key: &VerifyingKey, message: &Message, profile: &Profile, clock: &Clock) -> bool {
    let headers = lines(&message.headers);
    let checked = check(&request(&headers), profile, clock.now()).unwrap();
    checked.with_key(key).unwrap().verify().is_ok()
}

async fn claimed(verdicts: &Verdicts, messages: &Arc<Vec<Message>>) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (verdicts, messages) = (verdicts.clone(), Arc::clone(messages));
        let next = Arc::clone(&next);
        tasks.spawn(async move {
            while let Some(message) = messages.get(next.fetch_add(1, Ordering::Relaxed)) {
                let headers = lines(&message.headers);
                let seen = Seen::default();
                let case = Case {
                    request: request(&headers),
                    profile: None,
                    session: None,
                    counts: true,
                    peer: Peer::of_address(Ipv4Addr::LOCALHOST.into()),
                    signers: None,
                    repeat: None,
                    seen: &seen,
                };
                verdicts.judge(&case).await.unwrap().unwrap();
            }
        });
    }
    tasks.join_all().await;
}

async fn start_verdicts(folder: &Path, clock: &Clock) -> Verdicts {
    let folder = folder.to_str().unwrap().to_owned();
    let sources = Sources::default().flag("--data-dir", "data_dir", Some(folder));
    let config = sources.load(Need::Database).unwrap().config;
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = open_store(&config, &metrics, clock).await.unwrap();
    store.migrate_up().await.unwrap();
    let keys = SealingKeys::new(vec![SealingKeyBytes(Zeroizing::new([7; 32]))]).unwrap();
    let sessions =
        Sessions::start(store.clone(), Sealer::new(&keys), &config.sessions, metrics.clone());
    let claims = Claims::start(store.clone(), &config.claims, metrics.clone());
    let resolvers = Resolvers::new(&config.resolvers, metrics.clone(), Handle::current()).unwrap();
    let dids = Dids::new(store, resolvers, &config.dids, clock.clone(), metrics.clone());
    let profiles = config.signatures.profiles.as_slice().into();
    Verdicts::new(dids, claims, sessions, profiles, config.dids.max_stale, clock.clone(), metrics)
}

/// Processor time of all threads of this process.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap()
}

/// For each type of key: bare check, verdict without the claim, verdict.
pub fn per_second_of_a_core(bench: &Bench) -> Result<Vec<f64>> {
    // One thread for everything except the database.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let clock = Clock::system();
    let folder = bench.folder()?;
    let verdicts = runtime.block_on(start_verdicts(folder.path(), &clock));
    let mut rates = Vec::new();
    for key_type in [KeyType::Ed25519, KeyType::P256, KeyType::Secp256k1] {
        let key = SigningKey::from_bytes(key_type, &[7; 32])?;
        let verifying = VerifyingKey::new(key.public_key())?;
        let did = did_key::encode(key.public_key()).unwrap();
        let key_id = DidUrl::parse(did.as_str())?;
        let profile = Profile::onceguard();
        let signer = Signer { key, key_id, profile: profile.clone() };
        let sign =
            |number| Message::sign(&signer, &format!("nonce-of-a-round-{number:05}"), &clock);
        let messages: Arc<Vec<_>> = Arc::new((0..MESSAGES).map(sign).collect());
        let mut rate = |work: &dyn Fn()| {
            let before = cpu_time();
            work();
            rates.push(MESSAGES as f64 / (cpu_time() - before).as_secs_f64());
        };
        rate(&|| assert!(messages.iter().all(|message| bare(&verifying, message))));
        let passes = |message| unclaimed(&verifying, message, &profile, &clock);
        rate(&|| assert!(messages.iter().all(passes)));
        rate(&|| runtime.block_on(claimed(&verdicts, &messages)));
    }
    Ok(rates)
}
