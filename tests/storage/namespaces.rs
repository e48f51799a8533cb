//! Claims in namespaces: as those of signers, in scopes that are no DID's.

use std::collections::HashSet;

use onceguard::domain::{Claim, Did, Namespace, Nonce, Outcome, Scope, Timestamp};
use onceguard::storage::PurgeStep;
use rstest::rstest;

use crate::recovery::recover;
use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    Limits, TestStore, a_did, a_new_did, a_nonce, an_event, by_signer, claim, claim_all, count,
    days, in_seconds, minutes, nonce, purge_batch,
};

fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

fn in_namespace(name: &str, nonce: Nonce, expires_at: Timestamp) -> Claim {
    let scope = Scope::Namespace { namespace: namespace(name), expires_at, issued_at: None };
    Claim { scope, nonce, idempotency: None }
}

fn issued(claim: Claim, at: Timestamp) -> Claim {
    let Scope::Namespace { namespace, expires_at, .. } = claim.scope else { unreachable!() };
    let scope = Scope::Namespace { namespace, expires_at, issued_at: Some(at) };
    Claim { scope, ..claim }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_one_is_accepted(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let expires_at = in_seconds(&store, 300).await;
    for round in 0..4 {
        let spent = in_namespace("jti", nonce(&format!("n-{round}")), expires_at);
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let (store, spent) = (store.clone(), spent.clone());
                tokio::spawn(async move { claim(&store, &spent).await })
            })
            .collect();
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.unwrap());
        }
        assert_eq!(count(&outcomes, "accepted"), 1, "{outcomes:?}");
        assert_eq!(count(&outcomes, "replayed"), 15, "{outcomes:?}");
    }
    assert_eq!(store.live_nonces(namespace("jti").key()).await, Ok(4));
    let used = store.namespace_nonce(&namespace("jti"), &nonce("n-0")).await.unwrap().unwrap();
    assert_eq!(used.expires_at, expires_at);
    assert_eq!(store.namespace_nonce(&namespace("jti"), &nonce("other")).await, Ok(None));
    assert_eq!(store.namespace_nonce(&namespace("JTI"), &nonce("n-0")).await, Ok(None));
}

/// A namespace may be called like a DID. It is another scope, and the DID's revocation is not its.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_no_did(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let expires_at = in_seconds(&store, 300).await;
    let new = a_new_did();
    let did: Did = new.did.clone();
    let claims = [
        by_signer(&did, nonce("n"), expires_at),
        in_namespace(did.as_str(), nonce("n"), expires_at),
        in_namespace("other", nonce("n"), expires_at),
    ];
    for expected in ["accepted", "replayed"] {
        for outcome in claim_all(&store, &claims).await {
            assert_eq!(outcome.as_str(), expected);
        }
    }
    store.put_did(new, an_event("onceguard.did.stored", &"x")).await.unwrap();
    store.revoke_did(&did, an_event("onceguard.did.revoked", &did)).await.unwrap();
    let refused = claim(&store, &by_signer(&did, a_nonce(), expires_at)).await;
    assert_eq!(refused.as_str(), "did_revoked");
    let accepted = claim(&store, &in_namespace(did.as_str(), a_nonce(), expires_at)).await;
    assert_eq!(accepted.as_str(), "accepted");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_may_be_of_any_bytes(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let expires_at = in_seconds(&store, 300).await;
    let of = |bytes: &[u8]| Nonce::of_bytes(bytes).unwrap();
    let different: [&[u8]; 5] = [b"\0", b"\0\0", b"a b", "é".as_bytes(), &[b'x'; 4096]];
    let nonces: HashSet<_> = different.iter().map(|bytes| of(bytes)).collect();
    assert_eq!(nonces.len(), different.len());
    for bytes in different {
        let spent = in_namespace("bytes", of(bytes), expires_at);
        assert_eq!(claim(&store, &spent).await.as_str(), "accepted");
        assert_eq!(claim(&store, &spent).await.as_str(), "replayed");
    }
    let text = in_namespace("bytes", nonce("text"), expires_at);
    assert_eq!(claim(&store, &text).await.as_str(), "accepted");
    let same = in_namespace("bytes", of(b"text"), expires_at);
    assert_eq!(claim(&store, &same).await.as_str(), "replayed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_has_a_quota(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store_with(Limits { quota_per_signer: 3 }).await;
    let expires_at = in_seconds(&store, 300).await;
    let claims: Vec<_> = (0..10)
        .map(|number| {
            let name = if number % 2 == 0 { "one" } else { "two" };
            in_namespace(name, nonce(&format!("n-{number}")), expires_at)
        })
        .collect();
    let outcomes = claim_all(&store, &claims).await;
    assert_eq!(count(&outcomes, "accepted"), 6, "{outcomes:?}");
    assert_eq!(count(&outcomes, "claim_quota_reached"), 4, "{outcomes:?}");
    let first: Vec<_> = outcomes.iter().take(6).map(Outcome::as_str).collect();
    assert_eq!(first, ["accepted"; 6], "in the order of asking");
    // A replay is one also when the quota is full.
    assert_eq!(claim(&store, &claims[0]).await.as_str(), "replayed");
    // The purge makes room.
    store.pass(minutes(10)).await;
    purge_batch(&store, PurgeStep::DeleteSignerNonces { margin: minutes(1) }, 100).await;
    assert_eq!(store.live_nonces(namespace("one").key()).await, Ok(0));
    let expires_at = in_seconds(&store, 300).await;
    let again = in_namespace("one", nonce("n-0"), expires_at);
    assert_eq!(claim(&store, &again).await.as_str(), "accepted");
}

/// In one batch with claims by signers and in sessions, each is decided by its own scope.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn times_are_judged_as_a_signers(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let now = in_seconds(&store, 0).await;
    let expires_at = in_seconds(&store, 300).await;
    let claims = [
        in_namespace("times", a_nonce(), now - chrono::Duration::seconds(1)),
        issued(in_namespace("times", a_nonce(), expires_at), in_seconds(&store, 120).await),
        issued(in_namespace("times", a_nonce(), expires_at), now),
        by_signer(&a_did(), a_nonce(), expires_at),
    ];
    let outcomes = claim_all(&store, &claims).await;
    let words: Vec<_> = outcomes.iter().map(Outcome::as_str).collect();
    assert_eq!(words, ["expired", "expired", "accepted", "accepted"]);
}

/// What a namespace accepted in the past that a restored database lost stays refused.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_again_after_a_recovery(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let copy = store.copy().await;
    let lost = store.another().await;
    let expires_at = in_seconds(&store, 86_400).await;
    let silent = in_namespace("jti", a_nonce(), expires_at);
    let dated = issued(in_namespace("jti", a_nonce(), expires_at), in_seconds(&store, 0).await);
    for sent in [&silent, &dated] {
        assert_eq!(claim(&lost, sent).await.as_str(), "accepted");
    }
    lost.close().await;
    recover(&copy).await;
    for sent in [&silent, &dated] {
        assert_eq!(claim(&copy, sent).await.as_str(), "issued_before_restore");
    }
    // Once the skew has passed, what says that it is new is accepted, and what says nothing is not
    // for a day.
    copy.pass(minutes(3)).await;
    let expires_at = in_seconds(&copy, 86_400).await;
    let fresh = issued(in_namespace("jti", a_nonce(), expires_at), in_seconds(&copy, 0).await);
    assert_eq!(claim(&copy, &fresh).await.as_str(), "accepted");
    let silent = in_namespace("jti", a_nonce(), expires_at);
    assert_eq!(claim(&copy, &silent).await.as_str(), "issued_before_restore");
    copy.pass(days(2)).await;
    let silent = in_namespace("jti", a_nonce(), in_seconds(&copy, 300).await);
    assert_eq!(claim(&copy, &silent).await.as_str(), "accepted");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_outlives_a_restart(#[values(Sqlite, Postgres)] on: Database) {
    let store: TestStore = on.store().await;
    let spent = in_namespace("jti", nonce("n"), in_seconds(&store, 300).await);
    assert_eq!(claim(&store, &spent).await.as_str(), "accepted");
    let again = store.another().await;
    assert_eq!(claim(&again, &spent).await.as_str(), "replayed");
}
