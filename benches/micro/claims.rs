//! A claim's way through the queue to a database in memory and back, which shows the cost of the
//! queue without a disk.

use divan::Bencher;
use divan::counter::ItemsCount;
use futures_util::future::join_all;
use onceguard::domain::{Claim, Did, Metadata, Nonce, Scope, SessionId};
use onceguard::services::{Claims, OpenSession, Sealer, Sessions};
use uuid::Uuid;

use crate::{Base, sealing};

struct Queue {
    base: Base,
    claims: Claims,
    session: SessionId,
}

impl Queue {
    fn new() -> Self {
        let base = Base::new();
        let sealer = Sealer::new(&sealing::keys());
        let (store, metrics) = (base.store.clone(), base.metrics.clone());
        let sessions = base.runtime.block_on(async {
            Sessions::start(store.clone(), sealer, &base.config.sessions, metrics.clone())
        });
        let session = SessionId(Uuid::now_v7());
        let opening = OpenSession {
            id: Some(session),
            client_did: Did::parse("did:web:a.example").unwrap(),
            server_did: Did::parse("did:web:b.example").unwrap(),
            session_key: None,
            ttl_seconds: None,
            idle_timeout_seconds: None,
            max_claims: None,
            metadata: Metadata::default(),
            user_agent: None,
            ip_address: None,
        };
        base.runtime.block_on(sessions.open(opening)).unwrap();
        let claims = base.runtime.block_on(async {
            // It starts a task.
            Claims::start(store, &base.config.claims, metrics)
        });
        Self { base, claims, session }
    }

    fn fresh(&self) -> Vec<Claim> {
        let nonce = Nonce::parse(&format!("{:032x}", fastrand::u128(..))).unwrap();
        vec![Claim { scope: Scope::Session(self.session), nonce, idempotency: None }]
    }
}

/// No other caller waits.
#[divan::bench]
fn alone(bencher: Bencher<'_, '_>) {
    let queue = Queue::new();
    bencher
        .with_inputs(|| queue.fresh())
        .bench_values(|claim| queue.base.runtime.block_on(queue.claims.claim(claim)).unwrap());
}

/// The number of callers that wait at the same time.
#[divan::bench(args = [64, 256])]
fn together(bencher: Bencher<'_, '_>, callers: usize) {
    let queue = Queue::new();
    bencher
        .counter(ItemsCount::new(callers))
        .with_inputs(|| (0..callers).map(|_| queue.fresh()).collect::<Vec<_>>())
        .bench_values(|claims| {
            let calls = claims.into_iter().map(|claim| queue.claims.claim(claim));
            let answers = queue.base.runtime.block_on(join_all(calls));
            assert!(answers.iter().all(Result::is_ok));
        });
}
