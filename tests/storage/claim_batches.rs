//! Many claims in one call: each on its own, answered in order.

use onceguard::domain::{EndReason, Outcome};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    Limits, a_did, a_nonce, a_session, an_event, ask_all, by_signer, claim, claim_all, in_seconds,
    in_session, nonce, opened,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_answers_of_a_batch_are_in_its_order(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(opened(&store, a_session()).await.id);
    }
    let (signer, expires_at) = (a_did(), in_seconds(&store, 300).await);
    let claims: Vec<_> = (0..1_000)
        .map(|number| {
            // Neither in the order of their text nor grouped by scope.
            let nonce = nonce(&format!("{:04}-{number}", number * 7_919 % 10_000));
            match number % 4 {
                3 => by_signer(&signer, nonce, expires_at),
                which => in_session(sessions[which], nonce),
            }
        })
        .collect();
    let third: Vec<_> = claims.iter().step_by(3).cloned().collect();
    for outcome in claim_all(&store, &third).await {
        assert_eq!(outcome.as_str(), "accepted");
    }
    for (number, outcome) in claim_all(&store, &claims).await.iter().enumerate() {
        let expected = if number % 3 == 0 { "replayed" } else { "accepted" };
        assert_eq!(outcome.as_str(), expected, "number {number}");
    }
    for claimed in claims.iter().filter(|claimed| claimed.nonce.as_str().ends_with("00")) {
        assert_eq!(claim(&store, claimed).await.as_str(), "replayed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_claims_of_a_batch_do_not_fail_each_other(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store_with(Limits { quota_per_signer: 1 }).await;
    let (live, ended) = (opened(&store, a_session()).await, opened(&store, a_session()).await);
    let revoked = opened(&store, a_session()).await;
    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    let did = &revoked.client_did;
    store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
    let (signer, full) = (a_did(), a_did());
    let (past, future) = (in_seconds(&store, -5).await, in_seconds(&store, 300).await);
    claim(&store, &by_signer(&full, a_nonce(), future)).await;
    let spent = in_session(live.id, a_nonce());
    claim(&store, &spent).await;

    let batch = [
        in_session(a_session().id, a_nonce()),
        in_session(live.id, a_nonce()),
        in_session(ended.id, a_nonce()),
        spent,
        in_session(revoked.id, a_nonce()),
        by_signer(&signer, a_nonce(), past),
        by_signer(&full, a_nonce(), future),
        by_signer(&signer, a_nonce(), future),
    ];
    let words: Vec<_> = claim_all(&store, &batch).await.iter().map(Outcome::as_str).collect();
    let expected = [
        "session_not_found",
        "accepted",
        "session_ended",
        "replayed",
        "did_revoked",
        "expired",
        "claim_quota_reached",
        "accepted",
    ];
    assert_eq!(words, expected);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_batch_has_no_answers(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    assert_eq!(ask_all(&store, &[]).await, []);
}
