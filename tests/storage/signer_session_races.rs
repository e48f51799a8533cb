//! Signers' claims that name a session, met by others: by claims in the same session, in another
//! order, by the purge.

use std::time::Duration;

use onceguard::domain::{Claim, Outcome};
use onceguard::storage::{PurgeStep, Purged, Store};
use rstest::rstest;

use crate::signer_sessions::{counted, fresh};
use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    TestStore, a_did, a_nonce, a_session_between, ask_all, by_signer, claim, claim_all, count,
    in_seconds, in_session, naming, nonce, opened, purge_batch, read,
};

/// A session's last room goes to one of two new signers; the other gets no counter.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn new_signers_without_room_leave_nothing_behind(
    #[values(Sqlite, Postgres)] on: Database,
    #[values(false, true)] at_once: bool,
) {
    let store = on.store().await;
    let mut claims = Vec::new();
    for _ in 0..6 {
        let session = counted(&store, 1).await;
        for party in [&session.client_did, &session.server_did] {
            claims.push(fresh(&store, party, session.id).await);
        }
    }
    let outcomes = if at_once {
        concurrently(&[(*store).clone()], claims).await
    } else {
        claim_all(&store, &claims).await
    };
    assert_eq!(count(&outcomes, "accepted"), 6);
    assert_eq!(count(&outcomes, "claim_quota_reached"), 6);
    assert_eq!(store.raw().number("count(*) FROM signers").await, 6);
    assert_eq!(store.raw().number("sum(live) FROM signers").await, 6);
    assert_eq!(store.raw().number("count(*) FROM signer_nonces").await, 6);
}

/// Makes every claim in a task of its own, all at once, on the stores by turns.
async fn concurrently(stores: &[Store], claims: Vec<Claim>) -> Vec<Outcome> {
    let tasks: Vec<_> = claims
        .into_iter()
        .enumerate()
        .map(|(number, claimed)| {
            let store = stores[number % stores.len()].clone();
            tokio::spawn(async move { claim(&store, &claimed).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// What counts as one instance, and another where there can be one.
async fn instances(store: &TestStore, on: Database) -> Vec<Store> {
    match on {
        Postgres => vec![(**store).clone(), store.another().await],
        Sqlite | Memory => vec![(**store).clone(), (**store).clone()],
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_of_claims_share_one_exact_count(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let instances = instances(&store, on).await;
    for _ in 0..5 {
        let session = counted(&store, 10).await;
        let mut claims = Vec::new();
        for number in 0..32 {
            claims.push(match number % 4 {
                0 | 1 => in_session(session.id, a_nonce()),
                2 => fresh(&store, &session.client_did, session.id).await,
                _ => fresh(&store, &session.server_did, session.id).await,
            });
        }
        let outcomes = concurrently(&instances, claims).await;
        assert_eq!(count(&outcomes, "accepted"), 10);
        assert_eq!(count(&outcomes, "claim_quota_reached"), 22);
        assert_eq!(read(&store, session.id).await.claims, 10);
    }
}

/// Two instances, batches in opposite orders of sessions and signers, and the purge, all at once.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn crossing_batches_and_the_purge_do_not_deadlock(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let instances = instances(&store, on).await;
    let signers: Vec<_> = (0..4).map(|_| a_did()).collect();
    let mut sessions = Vec::new();
    for number in 0..6 {
        let mut new = a_session_between(&signers[number % 3], &a_did());
        new.idle_timeout_seconds = Some(60);
        new.max_claims = (number % 2 == 0).then_some(10_000);
        sessions.push(opened(&store, new).await);
    }
    let mut expected = 0;
    for round in 0..15 {
        // Activity is due, and what signers hold of the last round is the purge's.
        store.pass(Duration::from_secs(40)).await;
        let expires_at = in_seconds(&store, 30).await;
        let claims: Vec<_> = (0..48)
            .map(|number| {
                let (session, nonce) =
                    (sessions[number % 6].id, nonce(&format!("{round}-{number}")));
                match number % 4 {
                    0 => in_session(session, nonce),
                    _ => naming(by_signer(&signers[number % 3], nonce, expires_at), session),
                }
            })
            .chain([by_signer(&signers[3], a_nonce(), expires_at)])
            .collect();
        expected += (0..48).filter(|number| number % 2 == 0).count() as u64;
        let purging = {
            let store = (*store).clone();
            tokio::spawn(async move {
                let step = PurgeStep::DeleteSignerNonces { margin: Duration::ZERO };
                while purge_batch(&store, step, 5).await != Purged::default() {}
            })
        };
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let (store, mut claims) = (instances[task % 2].clone(), claims.clone());
                claims.rotate_left(task * 5);
                if task % 2 == 0 {
                    claims.reverse();
                }
                tokio::spawn(async move {
                    let facts = ask_all(&store, &claims).await;
                    let facts = facts.into_iter().map(Result::unwrap);
                    facts.filter(|facts| facts.inserted).count()
                })
            })
            .collect();
        let mut accepted = 0;
        for task in tasks {
            accepted += task.await.unwrap();
        }
        purging.await.unwrap();
        assert_eq!(accepted, 49, "each once, in round {round}");
    }
    let mut claims = 0;
    for session in sessions.iter().filter(|session| session.max_claims.is_some()) {
        claims += read(&store, session.id).await.claims;
    }
    assert_eq!(claims, expected);
    if on == Postgres {
        // A deadlock is tried again, so only the server tells; its sessions do when they end.
        for instance in &instances {
            instance.close().await;
        }
        let deadlocks = "deadlocks FROM pg_stat_database WHERE datname = current_database()";
        assert_eq!(store.raw().number(deadlocks).await, 0);
    }
}
