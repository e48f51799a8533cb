//! What a claim finds: the outcomes, one by one, and their order when several apply.

use onceguard::domain::{
    Accepted, Ask, Claim, EndReason, Nonce, Outcome, Refusal, Session, SessionState,
};
use onceguard::storage::Store;
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    Limits, a_did, a_nonce, a_session, an_audit_event, ask, ask_all, by_signer, claim, claim_all,
    days, digest, in_seconds, in_session, minutes, nonce, opened, outcome, read, with_key,
};

async fn revoke(store: &Store, did: &onceguard::domain::Did) {
    store.revoke_did(did, an_audit_event("did.revoke", did)).await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_nonce_is_accepted_and_its_row_told(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let (before, first) = (store.now().await.unwrap(), a_nonce());
    let facts = ask(&store, &in_session(session.id, first.clone())).await;
    let after = store.now().await.unwrap();

    assert!(facts.inserted && facts.refusal.is_none(), "{facts:?}");
    assert!(before <= facts.at && facts.at <= after);
    let row = facts.row.unwrap();
    assert_eq!((row.used_at, row.expires_at), (facts.at, session.deadline));
    assert_eq!(row.idempotency, None);
    assert_eq!(store.session_nonce(session.id, &first).await.unwrap(), Some(row));
    assert_eq!(store.session_nonce(session.id, &a_nonce()).await.unwrap(), None);
    assert_eq!(store.session_nonce(a_session().id, &first).await.unwrap(), None);

    let signer = a_did();
    let expires_at = in_seconds(&store, 300).await;
    let facts = ask(&store, &by_signer(&signer, first, expires_at)).await;
    assert!(facts.inserted && facts.refusal.is_none(), "{facts:?}");
    assert_eq!(facts.row.unwrap().expires_at, expires_at);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_used_nonce_is_replayed_for_ever_after(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let mut new = a_session();
    new.ttl_seconds = 86_400;
    let session = opened(&store, new).await;
    let signer = a_did();
    let claims = [
        in_session(session.id, nonce("n")),
        by_signer(&signer, nonce("n"), in_seconds(&store, 80_000).await),
    ];
    for claimed in claims {
        let first = ask(&store, &claimed).await;
        for _ in 0..2 {
            let again = ask(&store, &claimed).await;
            assert!(!again.inserted && again.refusal.is_none(), "{again:?}");
            assert_eq!(again.row, first.row);
            let first_used_at = first.row.unwrap().used_at;
            assert_eq!(outcome(&claimed, &again), Outcome::Replayed { first_used_at });
        }
        store.pass(minutes(60)).await;
        assert_eq!(claim(&store, &claimed).await.as_str(), "replayed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn scopes_do_not_share_nonces(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (one, two) = (opened(&store, a_session()).await, opened(&store, a_session()).await);
    let expires_at = in_seconds(&store, 300).await;
    let claims = [
        in_session(one.id, nonce("same")),
        in_session(two.id, nonce("same")),
        in_session(one.id, nonce("Same")),
        by_signer(&one.client_did, nonce("same"), expires_at),
        by_signer(&two.client_did, nonce("same"), expires_at),
    ];
    for claimed in &claims {
        assert_eq!(claim(&store, claimed).await.as_str(), "accepted", "{claimed:?}");
    }
    for outcome in claim_all(&store, &claims).await {
        assert_eq!(outcome.as_str(), "replayed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_nonce_that_is_well_formed_is_kept_exactly(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let all: String = ('!'..='~').collect();
    let nonces = ["'", "\"", "\\", "{a,b}", "NULL", "%_", "--;", &all, &"x".repeat(Nonce::MAX_LEN)]
        .map(nonce);
    let claims: Vec<_> = nonces.iter().map(|n| in_session(session.id, n.clone())).collect();
    let outcomes = claim_all(&store, &claims).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_str() == "accepted"), "{outcomes:?}");
    for nonce in &nonces {
        assert!(store.session_nonce(session.id, nonce).await.unwrap().is_some(), "{nonce}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_live_accepts_nothing(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let unknown = in_session(a_session().id, a_nonce());
    let refused = claim(&store, &unknown).await;
    assert_eq!(refused, Outcome::Refused(Refusal::SessionNotFound));

    let expired = opened(&store, a_session()).await;
    let mut idle = a_session();
    (idle.ttl_seconds, idle.idle_timeout_seconds) = (36_000, Some(60));
    let idle = opened(&store, idle).await;
    let ended = opened(&store, a_session()).await;
    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    store.pass(minutes(61)).await;

    let check = async || {
        for session in [&expired, &idle, &ended] {
            let claimed = in_session(session.id, a_nonce());
            let facts = ask(&store, &claimed).await;
            assert!(!facts.inserted && facts.row.is_none(), "{facts:?}");
            let expected = match read(&store, session.id).await.state() {
                SessionState::Ended { at, reason } => {
                    Refusal::SessionEnded { ended_at: at, reason }
                }
                SessionState::Expired { at, reason } => {
                    Refusal::SessionExpired { ended_at: at, reason }
                }
                SessionState::Active => panic!("still active"),
            };
            assert_eq!(facts.refusal, Some(expected));
            assert_eq!(store.session_nonce(session.id, &claimed.nonce).await.unwrap(), None);
        }
    };
    check().await;
    store.purge(onceguard::storage::PurgeStep::EndOverdueSessions, 10).await.unwrap();
    check().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_refuses_before_any_session_is_ended(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let revoked = Outcome::Refused(Refusal::DidRevoked);
    let (one, two) = (opened(&store, a_session()).await, opened(&store, a_session()).await);
    let live = opened(&store, a_session()).await;
    for did in [&one.client_did, &two.server_did] {
        revoke(&store, did).await;
    }
    for session in [&one, &two] {
        assert_eq!(claim(&store, &in_session(session.id, a_nonce())).await, revoked);
    }
    assert_eq!(claim(&store, &in_session(live.id, a_nonce())).await.as_str(), "accepted");

    let signer = a_did();
    let claimed = by_signer(&signer, a_nonce(), in_seconds(&store, 300).await);
    assert_eq!(claim(&store, &claimed).await.as_str(), "accepted");
    revoke(&store, &signer).await;
    assert_eq!(claim(&store, &claimed).await, revoked, "even where it would be replayed");
    let other = Claim { nonce: a_nonce(), ..claimed };
    assert_eq!(claim(&store, &other).await, revoked);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signers_claim_that_expired_is_refused(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let signer = a_did();
    let past = by_signer(&signer, a_nonce(), in_seconds(&store, -1).await);
    let facts = ask(&store, &past).await;
    assert!(!facts.inserted && facts.row.is_none(), "{facts:?}");
    assert_eq!(outcome(&past, &facts), Outcome::Refused(Refusal::Expired));
    // It left nothing behind.
    let future = by_signer(&signer, past.nonce, in_seconds(&store, 60).await);
    assert_eq!(claim(&store, &future).await.as_str(), "accepted");
}

/// Several rules apply: the first in schema.md's order is told.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_first_rule_that_applies_is_told(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store_with(Limits { quota_per_signer: 1 }).await;
    let word = async |claimed: &Claim| claim(&store, claimed).await.as_str();

    let mut new = a_session();
    new.max_claims = Some(1);
    let session = opened(&store, new).await;
    let used = in_session(session.id, nonce("used"));
    let fresh = in_session(session.id, nonce("fresh"));
    assert_eq!(word(&used).await, "accepted");
    assert_eq!(word(&used).await, "replayed", "before the session's quota");
    assert_eq!(word(&fresh).await, "claim_quota_reached");
    revoke(&store, &session.client_did).await;
    assert_eq!(word(&used).await, "did_revoked", "before replayed");
    assert_eq!(word(&fresh).await, "did_revoked", "before the quota");
    store.pass(minutes(61)).await;
    assert_eq!(word(&used).await, "session_expired", "before the revocation");

    let session = opened(&store, a_session()).await;
    let used = in_session(session.id, nonce("used"));
    word(&used).await;
    store.end_session(session.id, EndReason::Ended, None).await.unwrap();
    revoke(&store, &session.server_did).await;
    assert_eq!(word(&used).await, "session_ended", "before the revocation and replayed");

    let signer = a_did();
    let used = by_signer(&signer, nonce("used"), in_seconds(&store, 300).await);
    assert_eq!(word(&used).await, "accepted");
    assert_eq!(word(&used).await, "replayed", "before the signer's quota");
    let fresh = Claim { nonce: nonce("fresh"), ..used.clone() };
    assert_eq!(word(&fresh).await, "claim_quota_reached");
    let past = by_signer(&signer, nonce("used"), in_seconds(&store, -60).await);
    assert_eq!(word(&past).await, "expired", "before replayed");
    let fresh_past = Claim { nonce: nonce("fresh"), ..past.clone() };
    assert_eq!(word(&fresh_past).await, "expired", "before the quota");
    revoke(&store, &signer).await;
    for claimed in [&past, &fresh_past, &used, &fresh] {
        assert_eq!(word(claimed).await, "did_revoked", "before all others");
    }
}

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
    let claims: Vec<_> = [
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
    revoke(&store, &revoked.server_did).await;
    revoke(&store, &signers[1]).await;
    store.pass(minutes(3)).await;

    let others: Vec<_> =
        claims.iter().map(|claimed| Claim { nonce: a_nonce(), ..claimed.clone() }).collect();
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
    let facts = store.claim(&[Ask { claim: &claimed, wants_row: true }]).await;
    let facts = *facts[0].as_ref().unwrap();
    assert_eq!((facts.row, facts.inserted), (first.row, false));
    assert!(matches!(facts.refusal, Some(Refusal::SessionEnded { .. })));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_end_reopens_no_nonce_until_the_session_is_purged(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let spent = a_nonce();
    claim(&store, &in_session(session.id, spent.clone())).await;
    store.end_session(session.id, EndReason::Ended, None).await.unwrap();
    store.pass(days(6)).await;
    let step = onceguard::storage::PurgeStep::DeleteEndedSessions { retention: days(7) };
    store.purge(step, 100).await.unwrap();
    assert!(store.session_nonce(session.id, &spent).await.unwrap().is_some());
    let mut again = a_session();
    again.id = session.id;
    assert_eq!(store.open_session(again).await.unwrap(), onceguard::storage::Opened::Exists);
}

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
    revoke(&store, &revoked.client_did).await;
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

async fn activity(store: &Store, session: &Session) -> onceguard::domain::Timestamp {
    read(store, session.id).await.last_activity
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_activity_beyond_the_granularity(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values(None, Some(1_000))] max_claims: Option<u64>,
) {
    let store = on.store().await;
    let mut new = a_session();
    (new.idle_timeout_seconds, new.max_claims) = (Some(600), max_claims);
    let session = opened(&store, new).await;

    let facts = ask(&store, &in_session(session.id, a_nonce())).await;
    if facts.at - session.last_activity < chrono::Duration::seconds(5) {
        assert_eq!(activity(&store, &session).await, session.last_activity, "not rewritten");
    }
    store.pass(minutes(9)).await;
    let facts = ask(&store, &in_session(session.id, a_nonce())).await;
    assert!(facts.inserted);
    assert_eq!(activity(&store, &session).await, facts.at);

    store.pass(minutes(9)).await;
    assert_eq!(read(&store, session.id).await.state(), SessionState::Active);
    store.pass(minutes(2)).await;
    let before = activity(&store, &session).await;
    assert_eq!(claim(&store, &in_session(session.id, a_nonce())).await.as_str(), "session_expired");
    assert_eq!(activity(&store, &session).await, before, "a refused claim revives nothing");
}
