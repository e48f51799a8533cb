//! Everything that locks rows, at once and in opposite orders: no deadlock reaches a caller, and
//! every counter is exact in the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onceguard::domain::{Claim, Did, Outcome, Scope, SessionId};
use onceguard::services::Claims;
use onceguard::storage::{PurgeStep, Purged, Store};
use rstest::rstest;
use tokio::task::JoinSet;

use crate::services::claims;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    Limits, RawSql, TestStore, a_did, a_session, by_signer, days, in_session, nonce, opened,
    purge_batch, sessions_of, wait_for,
};

const WORKERS: usize = 8;
const BATCHES: usize = 120;
const MAX_CLAIMS: u64 = 100;
const QUOTA: u64 = 50;

/// The scopes that every worker claims in.
#[derive(Clone)]
struct Scopes {
    /// At most [`MAX_CLAIMS`] each.
    counted: Vec<SessionId>,
    /// Sessions whose activity is recorded.
    idling: Vec<SessionId>,
    /// Sessions that are ended and deleted meanwhile.
    ending: Vec<SessionId>,
    signers: Vec<Did>,
}

impl Scopes {
    async fn open(store: &Store) -> Self {
        let (mut counted, mut idling, mut ending) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..12 {
            let mut new = a_session();
            new.max_claims = Some(MAX_CLAIMS);
            counted.push(opened(store, new).await.id);
        }
        for _ in 0..2 {
            let mut new = a_session();
            new.idle_timeout_seconds = Some(600);
            idling.push(opened(store, new).await.id);
            ending.push(opened(store, a_session()).await.id);
        }
        Self { counted, idling, ending, signers: (0..3).map(|_| a_did()).collect() }
    }

    /// One batch: in every scope, a nonce that others claim as well.
    async fn batch(&self, store: &Store, worker: usize, number: usize) -> Vec<Claim> {
        // Partly new, and partly the same for many workers.
        let name = |index: usize| nonce(&format!("n-{}", number * 2 + index % 5));
        let mut batch = Vec::new();
        let sessions = self.counted.iter().chain(&self.idling).chain(&self.ending);
        for (index, session) in sessions.enumerate() {
            batch.push(in_session(*session, name(index)));
            batch.push(in_session(*session, name(index + 1)));
        }
        // Some expire while the test runs, and are purged.
        let milliseconds = if number.is_multiple_of(3) { 100 } else { 600_000 };
        let expires_at = store.now().await.unwrap() + chrono::Duration::milliseconds(milliseconds);
        for (index, signer) in self.signers.iter().enumerate() {
            batch.push(by_signer(signer, name(index), expires_at));
            batch.push(by_signer(signer, name(index + worker), expires_at));
        }
        // Half of the workers go the other way round.
        if worker.is_multiple_of(2) {
            batch.reverse();
        }
        batch
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn counters_are_exact_and_nobody_deadlocks(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store_with(Limits { quota_per_signer: QUOTA }).await;
    // Two instances, where there can be two.
    let other = if on == Postgres { store.another().await } else { (*store).clone() };
    let scopes = Scopes::open(&store).await;
    let queues = [claims(&store), claims(&other), claims(&store), claims(&other)];
    let over = Arc::new(AtomicBool::new(false));
    let purging = tokio::spawn(purge(other.clone(), Arc::clone(&over)));
    let touching = tokio::spawn(touch(other.clone(), scopes.clone(), Arc::clone(&over)));
    let ending = tokio::spawn(end((*store).clone(), scopes.clone()));

    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (queue, scopes) = (queues[worker % queues.len()].clone(), scopes.clone());
        workers.spawn(work((*store).clone(), queue, scopes, worker));
    }
    let mut accepted: BTreeMap<String, u64> = BTreeMap::new();
    for (scope, count) in workers.join_all().await.into_iter().flatten() {
        *accepted.entry(scope).or_default() += count;
    }
    over.store(true, Ordering::SeqCst);
    let purged = purging.await.unwrap();
    touching.await.unwrap();
    ending.await.unwrap();
    // No claim is under way any more, so ended sessions can be deleted.
    let rest = PurgeStep::DeleteEndedSessions { retention: days(0) };
    while purge_batch(&store, rest, 1_000).await != Purged::default() {}
    compare(&store, &scopes, &accepted, &purged).await;
    if on == Postgres {
        // A retry would hide a conflict, but this order of locks must cause none.
        store.close().await;
        other.close().await;
        wait_for("the connections to have reported", async || {
            let open = "count(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND application_name = 'onceguard'";
            (store.raw().number(open).await == 0).then_some(())
        })
        .await;
        let deadlocks = "deadlocks FROM pg_stat_database WHERE datname = current_database()";
        assert_eq!(store.raw().number(deadlocks).await, 0, "deadlocks");
    }
}

/// Claims batch after batch, and returns how many claims were accepted in which scope.
async fn work(store: Store, queue: Claims, scopes: Scopes, worker: usize) -> BTreeMap<String, u64> {
    let mut accepted = BTreeMap::new();
    for number in 0..BATCHES {
        let batch = scopes.batch(&store, worker, number).await;
        let outcomes = queue.claim(batch.clone()).await.unwrap();
        for (claim, outcome) in batch.iter().zip(outcomes) {
            if matches!(outcome, Outcome::Accepted(_)) {
                *accepted.entry(name(&claim.scope)).or_default() += 1;
            }
        }
    }
    accepted
}

fn name(scope: &Scope) -> String {
    match scope {
        Scope::Session(id) => id.to_string(),
        Scope::Signer { did, .. } => did.to_string(),
        Scope::Namespace { namespace, .. } => namespace.to_string(),
    }
}

/// Longer than any claim takes, as the configurable minimum of seven days is, too. A claim that has
/// found its session live may insert after the session has ended, but not after it was deleted.
const RETENTION: Duration = Duration::from_secs(2);

/// Purges in small batches, signers' nonces with no margin.
async fn purge(store: Store, over: Arc<AtomicBool>) -> Purged {
    let mut total = Purged::default();
    while !over.load(Ordering::SeqCst) {
        for step in [
            PurgeStep::EndOverdueSessions,
            PurgeStep::DeleteEndedSessions { retention: RETENTION },
            PurgeStep::DeleteSignerNonces { margin: days(0) },
        ] {
            total += purge_batch(&store, step, 7).await;
        }
    }
    total
}

async fn touch(store: Store, scopes: Scopes, over: Arc<AtomicBool>) {
    let sessions = sessions_of(&store);
    while !over.load(Ordering::SeqCst) {
        for id in scopes.idling.iter().rev().chain(&scopes.counted) {
            sessions.touch(*id).await.unwrap();
        }
    }
}

/// Ends some sessions while they are used; the purge deletes them.
async fn end(store: Store, scopes: Scopes) {
    let sessions = sessions_of(&store);
    for id in scopes.ending {
        sessions.end(id, None).await.unwrap();
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
}

async fn compare(
    store: &TestStore,
    scopes: &Scopes,
    accepted: &BTreeMap<String, u64>,
    purged: &Purged,
) {
    let raw = store.raw();
    let told = |scope: String| i64::try_from(accepted.get(&scope).copied().unwrap_or(0)).unwrap();
    for id in scopes.counted.iter().chain(&scopes.idling) {
        let rows = format!("count(*) FROM nonces WHERE session_id = {}", raw.id(*id));
        assert_eq!(raw.number(&rows).await, told(id.to_string()), "rows, and accepted claims");
    }
    for id in &scopes.counted {
        let claims = format!("claims FROM sessions WHERE id = {}", raw.id(*id));
        assert_eq!(
            raw.number(&claims).await,
            i64::try_from(MAX_CLAIMS).unwrap(),
            "used up, exactly"
        );
        assert_eq!(told(id.to_string()), i64::try_from(MAX_CLAIMS).unwrap());
    }
    let mut left = 0;
    for did in &scopes.signers {
        let key = raw.signer(did.signer_key());
        let rows = raw.number(&format!("count(*) FROM signer_nonces WHERE signer = {key}")).await;
        let live = format!("coalesce(sum(live), 0) FROM signers WHERE signer = {key}");
        assert_eq!(raw.number(&live).await, rows, "the quota counts what is there");
        assert!(rows <= i64::try_from(QUOTA).unwrap(), "{rows} rows");
        left += rows;
    }
    let gone = i64::try_from(purged.signer_nonces_deleted).unwrap();
    let of_signers: i64 = scopes.signers.iter().map(|did| told(did.to_string())).sum();
    assert_eq!(of_signers, left + gone, "accepted by signers: still there, or purged");
    assert!(gone > 0, "the purge had nothing to do");
    assert_eq!(raw.number("count(*) FROM sessions WHERE ended_at IS NOT NULL").await, 0);
    let orphans = match raw {
        RawSql::Sqlite(_) => "session_nonces WHERE session NOT IN (SELECT number FROM sessions)",
        RawSql::Postgres(_) => "nonces WHERE session_id NOT IN (SELECT id FROM sessions)",
    };
    assert_eq!(raw.number(&format!("count(*) FROM {orphans}")).await, 0);
}
