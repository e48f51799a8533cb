//! `Idempotency-Key`: a repeat of a claim gets the first outcome, whatever happened since.

use onceguard::domain::{Accepted, Ask, Claim, EndReason, Outcome, Refusal, Scope};
use onceguard::storage::{Asked, OnLock};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    Limits, a_did, a_nonce, a_session, an_event, ask, by_signer, claim, claim_all, digest,
    in_seconds, in_session, minutes, opened, outcome, with_key,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_with_the_same_key_gets_the_first_outcome(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let expires_at = in_seconds(&store, 3_000).await;
    for bare in
        [in_session(session.id, a_nonce()), by_signer(&session.client_did, a_nonce(), expires_at)]
    {
        let keyed = with_key(bare.clone(), 7);
        let facts = ask(&store, &keyed).await;
        let row = facts.row.unwrap();
        assert_eq!(row.idempotency, Some(digest(7)));
        let first = Accepted { used_at: row.used_at, expires_at: row.expires_at, repeated: false };
        assert_eq!(outcome(&keyed, &facts), Outcome::Accepted(first));

        let replayed = Outcome::Replayed { first_used_at: row.used_at };
        let repeated = Outcome::Accepted(Accepted { repeated: true, ..first });
        for _ in 0..2 {
            assert_eq!(claim(&store, &keyed).await, repeated);
        }
        assert_eq!(claim(&store, &with_key(bare.clone(), 8)).await, replayed, "another's key");
        assert_eq!(claim(&store, &bare).await, replayed, "no key");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_a_replay_after_ten_minutes(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let claims = [
        with_key(in_session(session.id, a_nonce()), 7),
        with_key(by_signer(&a_did(), a_nonce(), in_seconds(&store, 3_000).await), 7),
    ];
    for claimed in &claims {
        assert_eq!(claim(&store, claimed).await.as_str(), "accepted");
    }
    store.pass(minutes(9)).await;
    for claimed in &claims {
        assert!(
            matches!(claim(&store, claimed).await, Outcome::Accepted(accepted) if accepted.repeated)
        );
    }
    store.pass(minutes(1)).await;
    for claimed in &claims {
        assert_eq!(claim(&store, claimed).await.as_str(), "replayed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_without_key_is_no_repeat_of_one_without_key(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let bare = in_session(session.id, a_nonce());
    claim(&store, &bare).await;
    assert_eq!(claim(&store, &with_key(bare, 7)).await.as_str(), "replayed");
}

/// A repeat learns the truth whatever happened to the session or the signer since.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_outcome_through_every_refusal(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store_with(Limits { quota_per_signer: 1 }).await;
    let mut new = a_session();
    new.max_claims = Some(1);
    let (counted, ended) = (opened(&store, new).await, opened(&store, a_session()).await);
    let mut idle = a_session();
    idle.idle_timeout_seconds = Some(10);
    let (idle, revoked) = (opened(&store, idle).await, opened(&store, a_session()).await);
    let signers = [a_did(), a_did(), a_did()];
    let soon = in_seconds(&store, 120).await;
    let late = in_seconds(&store, 3_000).await;
    let mut claims: Vec<_> = [
        in_session(counted.id, a_nonce()),
        in_session(ended.id, a_nonce()),
        in_session(idle.id, a_nonce()),
        in_session(revoked.id, a_nonce()),
        by_signer(&signers[0], a_nonce(), soon),
        by_signer(&signers[1], a_nonce(), late),
        by_signer(&signers[2], a_nonce(), late),
    ]
    .into_iter()
    .map(|claimed| with_key(claimed, 7))
    .collect();
    for outcome in claim_all(&store, &claims).await {
        assert!(matches!(outcome, Outcome::Accepted(a) if !a.repeated), "{outcome:?}");
    }

    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    for did in [&revoked.server_did, &signers[1]] {
        store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
    }
    store.pass(minutes(3)).await;
    // Its own time has come, by whichever clock.
    let past = in_seconds(&store, -60).await;
    claims[4].scope = by_signer(&signers[0], a_nonce(), past).scope;

    let mut others: Vec<_> =
        claims.iter().map(|claimed| Claim { nonce: a_nonce(), ..claimed.clone() }).collect();
    // What a caller says of its expiry does not age with the rows.
    let passed = in_seconds(&store, -60).await;
    others[4].scope = Scope::Signer {
        did: signers[0].clone(),
        expires_at: passed,
        issued_at: None,
        session: None,
    };
    let words: Vec<_> = claim_all(&store, &others).await.iter().map(Outcome::as_str).collect();
    let expected = [
        "claim_quota_reached",
        "session_ended",
        "session_expired",
        "did_revoked",
        "expired",
        "did_revoked",
        "claim_quota_reached",
    ];
    assert_eq!(words, expected);
    for outcome in claim_all(&store, &claims).await {
        assert!(matches!(outcome, Outcome::Accepted(a) if a.repeated), "{outcome:?}");
    }
    let without_key: Vec<_> =
        claims.iter().map(|claimed| Claim { idempotency: None, ..claimed.clone() }).collect();
    let words: Vec<_> = claim_all(&store, &without_key).await.iter().map(Outcome::as_str).collect();
    let mut expected = expected;
    (expected[0], expected[6]) = ("replayed", "replayed");
    assert_eq!(words, expected);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_told_through_a_refusal_when_it_is_wanted(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let claimed = in_session(session.id, a_nonce());
    let first = ask(&store, &claimed).await;
    store.end_session(session.id, EndReason::Ended, None).await.unwrap();
    let asked = Ask { claim: &claimed, wants_row: true, counted: false };
    let asked = store.claim(&[asked], OnLock::Skip).await;
    let Ok(Asked::Decided(facts)) = asked[0] else { panic!("{asked:?}") };
    assert_eq!((facts.row, facts.inserted), (first.row, false));
    let Some(Refusal::SessionOver(end)) = facts.refusal else { panic!("{facts:?}") };
    assert_eq!(end.reason, EndReason::Ended);
}
