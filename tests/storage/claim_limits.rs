//! Counted sessions and signers' quotas: exact, also under contention, and never made room for.

use onceguard::domain::{Claim, Outcome, SessionId};
use onceguard::storage::{PurgeStep, Store};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    Limits, TestStore, a_did, a_nonce, a_session, by_signer, claim, claim_all, count, in_seconds,
    in_session, minutes, opened, purge_batch, read,
};

async fn counted(store: &Store, max_claims: u64) -> SessionId {
    let mut new = a_session();
    new.max_claims = Some(max_claims);
    opened(store, new).await.id
}

/// Makes every claim in a task of its own, all at once.
async fn claim_concurrently(store: &Store, claims: Vec<Claim>) -> Vec<Outcome> {
    let tasks: Vec<_> = claims
        .into_iter()
        .map(|claimed| {
            let store = store.clone();
            tokio::spawn(async move { claim(&store, &claimed).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_counted_session_accepts_exactly_so_many(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = counted(&store, 10).await;
    let claims = (0..32).map(|_| in_session(id, a_nonce())).collect();
    let outcomes = claim_concurrently(&store, claims).await;
    assert_eq!(count(&outcomes, "accepted"), 10);
    assert_eq!(count(&outcomes, "claim_quota_reached"), 22);
    assert_eq!(read(&store, id).await.claims, 10);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_counted_session_accepts_exactly_so_many_of_a_batch(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (one, two) = (counted(&store, 7).await, counted(&store, 3).await);
    let claims: Vec<_> = (0..30)
        .map(|number| in_session(if number % 2 == 0 { one } else { two }, a_nonce()))
        .collect();
    let outcomes = claim_all(&store, &claims).await;
    assert_eq!(count(&outcomes, "accepted"), 10);
    assert_eq!(count(&outcomes, "claim_quota_reached"), 20);
    assert_eq!(read(&store, one).await.claims, 7);
    assert_eq!(read(&store, two).await.claims, 3);
    // What was told is what is stored.
    for (claimed, outcome) in claims.iter().zip(&outcomes) {
        let stored = match claimed.scope {
            onceguard::domain::Scope::Session(id) => {
                store.session_nonce(id, &claimed.nonce).await.unwrap().is_some()
            }
            _ => unreachable!(),
        };
        assert_eq!(stored, outcome.as_str() == "accepted");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_takes_no_room_in_a_counted_session(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = counted(&store, 3).await;
    let spent = [in_session(id, a_nonce()), in_session(id, a_nonce())];
    assert_eq!(count(&claim_all(&store, &spent).await, "accepted"), 2);
    for _ in 0..3 {
        assert_eq!(count(&claim_all(&store, &spent).await, "replayed"), 2);
    }
    assert_eq!(read(&store, id).await.claims, 2);

    let [one, two] = spent;
    let batch = [one, in_session(id, a_nonce()), two];
    let words: Vec<_> = claim_all(&store, &batch).await.iter().map(Outcome::as_str).collect();
    assert_eq!(words, ["replayed", "accepted", "replayed"], "the last room is for the new one");
    assert_eq!(read(&store, id).await.claims, 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn equal_nonces_under_contention_take_one_room(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = counted(&store, 2).await;
    let (one, two) = (in_session(id, a_nonce()), in_session(id, a_nonce()));
    let claims = (0..32).map(|n| if n % 2 == 0 { one.clone() } else { two.clone() }).collect();
    let outcomes = claim_concurrently(&store, claims).await;
    assert_eq!(count(&outcomes, "accepted"), 2, "{outcomes:?}");
    assert_eq!(count(&outcomes, "replayed"), 30, "{outcomes:?}");
    assert_eq!(read(&store, id).await.claims, 2);
}

async fn live(store: &TestStore, did: &onceguard::domain::Did) -> (i64, i64) {
    let (raw, key) = (store.raw(), did.signer_key());
    let rows = format!("count(*) FROM signer_nonces WHERE signer = {}", raw.signer(key));
    let live = format!("coalesce(sum(live), 0) FROM signers WHERE signer = {}", raw.signer(key));
    (raw.number(&rows).await, raw.number(&live).await)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signers_quota_is_exact(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store_with(Limits { quota_per_signer: 10 }).await;
    let (signer, other) = (a_did(), a_did());
    let expires_at = in_seconds(&store, 300).await;
    let claims = (0..32).map(|_| by_signer(&signer, a_nonce(), expires_at)).collect();
    let outcomes = claim_concurrently(&store, claims).await;
    assert_eq!(count(&outcomes, "accepted"), 10);
    assert_eq!(count(&outcomes, "claim_quota_reached"), 22);
    assert_eq!(live(&store, &signer).await, (10, 10));

    let mine = by_signer(&other, a_nonce(), expires_at);
    assert_eq!(claim(&store, &mine).await.as_str(), "accepted", "it is each signer's own");
    assert_eq!(live(&store, &other).await, (1, 1));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signers_quota_is_exact_in_a_batch(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store_with(Limits { quota_per_signer: 5 }).await;
    let (one, two) = (a_did(), a_did());
    let expires_at = in_seconds(&store, 300).await;
    let first = by_signer(&one, a_nonce(), expires_at);
    claim(&store, &first).await;
    let mut claims: Vec<_> = (0..20)
        .map(|n| by_signer(if n % 2 == 0 { &one } else { &two }, a_nonce(), expires_at))
        .collect();
    claims.insert(7, first);
    let outcomes = claim_all(&store, &claims).await;
    assert_eq!(count(&outcomes, "accepted"), 9);
    assert_eq!(count(&outcomes, "claim_quota_reached"), 11);
    assert_eq!(outcomes[7].as_str(), "replayed");
    assert_eq!(live(&store, &one).await, (5, 5));
    assert_eq!(live(&store, &two).await, (5, 5));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_evicts_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store_with(Limits { quota_per_signer: 3 }).await;
    let signer = a_did();
    let expires_at = in_seconds(&store, 60).await;
    let spent: Vec<_> = (0..3).map(|_| by_signer(&signer, a_nonce(), expires_at)).collect();
    claim_all(&store, &spent).await;
    // Expired, but not purged: the rows still hold their room.
    store.pass(minutes(2)).await;
    let expires_at = in_seconds(&store, 60).await;
    for _ in 0..5 {
        let more = by_signer(&signer, a_nonce(), expires_at);
        assert_eq!(claim(&store, &more).await.as_str(), "claim_quota_reached");
    }
    let again: Vec<_> =
        spent.iter().map(|claimed| by_signer(&signer, claimed.nonce.clone(), expires_at)).collect();
    assert_eq!(count(&claim_all(&store, &again).await, "replayed"), 3);

    let step = PurgeStep::DeleteSignerNonces { margin: minutes(1) };
    assert_eq!(purge_batch(&store, step, 100).await.signer_nonces_deleted, 3);
    let more = by_signer(&signer, a_nonce(), expires_at);
    assert_eq!(claim(&store, &more).await.as_str(), "accepted", "purged is room again");
    assert_eq!(live(&store, &signer).await, (1, 1));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn refused_and_replayed_claims_count_for_no_signer(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let signer = a_did();
    let past = by_signer(&signer, a_nonce(), in_seconds(&store, -60).await);
    claim(&store, &past).await;
    assert_eq!(live(&store, &signer).await, (0, 0));
    let spent = by_signer(&signer, a_nonce(), in_seconds(&store, 60).await);
    for _ in 0..3 {
        claim(&store, &spent).await;
    }
    assert_eq!(live(&store, &signer).await, (1, 1));
}
