//! Revocation beside everything else that can happen. Once the call has returned, the revocation
//! holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::join_all;
use onceguard::domain::{Actor, Did, NewSession, Opened, Outcome};
use onceguard::services::{Claims, Sessions};
use onceguard::storage::Store;
use rstest::rstest;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::load;
use crate::services::{claims, dids};
use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    Home, a_did, a_nonce, a_session, asked, by_signer, in_seconds, in_session, opened, sessions_of,
    wait_for,
};

const ROUNDS: usize = 60;
const WORKERS: usize = 4;
/// Openings of a worker at a time.
const TOGETHER: usize = 3;

/// One round's DID, and whether its revocation has returned.
#[derive(Clone)]
struct Round {
    did: Did,
    revoked: Arc<AtomicBool>,
    accepted_before: Arc<AtomicU64>,
    start: Arc<Barrier>,
}

impl Round {
    fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst)
    }

    fn session(&self, number: usize) -> NewSession {
        let mut new = a_session();
        let party =
            if number.is_multiple_of(2) { &mut new.client_did } else { &mut new.server_did };
        *party = self.did.clone();
        new
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_crosses_a_revocation(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    // On PostgreSQL, revoked through one instance and used through another.
    let user = if on == Postgres { store.another().await } else { (*store).clone() };
    let (sessions, queue, dids) = (sessions_of(&user), claims(&user), dids(&store));
    let mut accepted_before = 0;
    for _ in 0..ROUNDS {
        let round = Round {
            did: a_did(),
            revoked: Arc::default(),
            accepted_before: Arc::default(),
            start: Arc::new(Barrier::new(2 * WORKERS + 1)),
        };
        let mut tasks = JoinSet::new();
        for worker in 0..WORKERS {
            tasks.spawn(open(sessions.clone(), queue.clone(), round.clone(), worker));
            tasks.spawn(use_it(user.clone(), queue.clone(), round.clone(), worker));
        }
        round.start.wait().await;
        // Each time at a different moment of the other tasks.
        while round.accepted_before.load(Ordering::SeqCst) < accepted_before % 23 {
            tokio::task::yield_now().await;
        }
        let revocation = dids.revoke(&round.did, &Actor::Operator).await.unwrap();
        round.revoked.store(true, Ordering::SeqCst);
        assert!(revocation.sessions_ended >= 1, "those that were open before: {revocation:?}");
        assert_no_live_session(&store, &round.did).await;
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        assert_no_live_session(&store, &round.did).await;
        accepted_before += round.accepted_before.load(Ordering::SeqCst);
    }
    assert!(accepted_before > 0, "no claim was ever made before a revocation");
}

/// The process committed the flag, and died before it had ended the sessions.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_revocation_holds_and_is_finished(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await;
    let process = home.start().await;
    let caller = load::caller(&home, &process);
    let did = a_did();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(caller.open_with(json!({ "server_did": did.as_str() })).await.text_of("id"));
    }
    process.kill().await;
    let raw = home.raw().await;
    // If it was killed in the middle of a job, its lease would delay the next run for a minute.
    raw.execute("DELETE FROM leases").await;
    let now = raw.time(onceguard::clock::Clock::system().now());
    let yes = if on == Postgres { "true" } else { "1" };
    raw.execute(&format!(
        "INSERT INTO dids (did, revoked, revoked_at, created_at, updated_at) \
         VALUES ('{did}', {yes}, {now}, {now}, {now})"
    ))
    .await;

    let process = home.start().await;
    let caller = load::caller(&home, &process);
    for id in &ids {
        let path = format!("/v1/sessions/{id}/nonces");
        let answer = caller.post(&path, &json!({ "nonce": "a" })).await;
        // Before and after the job has come by.
        assert!(["did_revoked", "session_ended"].contains(&answer.code()), "{answer:?}");
    }
    wait_for("the job to end the sessions", async || {
        let live = raw.number("count(*) FROM sessions WHERE ended_at IS NULL").await;
        (live == 0).then_some(())
    })
    .await;
    let ended = caller.get(&format!("/v1/sessions/{}", ids[0])).await.refused(410, "session_ended");
    assert_eq!(ended["end_reason"], "did_revoked");
}

/// Opens sessions of the DID, several at a time, and claims in each, until it is refused after the
/// revocation.
async fn open(sessions: Sessions, queue: Claims, round: Round, worker: usize) {
    round.start.wait().await;
    for number in worker.. {
        let too_late = round.is_revoked();
        let openings = (0..TOGETHER).map(|more| sessions.open(asked(round.session(number + more))));
        let mut refused = 0;
        for opened in join_all(openings).await {
            match opened.unwrap() {
                Opened::Created(session) => {
                    assert!(!too_late, "a session of a revoked DID was opened");
                    let too_late = round.is_revoked();
                    let claim = in_session(session.id, a_nonce());
                    round.judge(&queue.claim(vec![claim]).await.unwrap(), too_late);
                }
                Opened::Revoked(did) => {
                    assert_eq!(did, round.did);
                    refused += 1;
                }
                other => panic!("a new id was not opened: {other:?}"),
            }
        }
        if too_late {
            assert_eq!(refused, TOGETHER);
            return;
        }
    }
}

/// Claims in a session of the DID, and as the DID, until it is refused after the revocation.
async fn use_it(store: Store, queue: Claims, round: Round, worker: usize) {
    let session = opened(&store, round.session(worker)).await;
    let expires_at = in_seconds(&store, 60).await;
    round.start.wait().await;
    loop {
        let too_late = round.is_revoked();
        let claims =
            vec![in_session(session.id, a_nonce()), by_signer(&round.did, a_nonce(), expires_at)];
        let outcomes = queue.claim(claims).await.unwrap();
        round.judge(&outcomes, too_late);
        if too_late {
            return;
        }
    }
}

impl Round {
    /// Claims that began after the revocation had returned are refused.
    fn judge(&self, outcomes: &[Outcome], began_too_late: bool) {
        for outcome in outcomes {
            match outcome {
                Outcome::Accepted(_) => {
                    assert!(!began_too_late, "accepted after the revocation: {outcomes:?}");
                    self.accepted_before.fetch_add(1, Ordering::SeqCst);
                }
                Outcome::Refused(_) => {}
                Outcome::Replayed { .. } => panic!("a new nonce is no replay: {outcomes:?}"),
            }
        }
    }
}

async fn assert_no_live_session(store: &Store, did: &Did) {
    use onceguard::domain::{PageRequest, SessionFilter, StateFilter};
    let page = PageRequest { limit: 100, after: None };
    for client in [true, false] {
        let did = Some(did.clone());
        let (client_did, server_did) = if client { (did, None) } else { (None, did) };
        let filter = SessionFilter { client_did, server_did, state: StateFilter::Active };
        let live = store.list_sessions(&filter, &page).await.unwrap();
        assert!(live.items.is_empty(), "sessions live on: {:?}", live.items);
    }
}
