//! What a claim finds: the outcomes, one by one, and their order when several apply.

use std::time::Duration;

use onceguard::domain::{Claim, EndReason, Nonce, Outcome, Refusal, Session, SessionState};
use onceguard::storage::Store;
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    Limits, a_did, a_nonce, a_session, an_event, ask, by_signer, claim, claim_all, days,
    in_seconds, in_session, minutes, nonce, opened, outcome, purge_batch, read,
};

async fn revoke(store: &Store, did: &onceguard::domain::Did) {
    store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
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
                SessionState::Over(end) => Refusal::SessionOver(end),
                SessionState::Active => panic!("still active"),
            };
            assert_eq!(facts.refusal, Some(expected));
            assert_eq!(store.session_nonce(session.id, &claimed.nonce).await.unwrap(), None);
        }
    };
    check().await;
    purge_batch(&store, onceguard::storage::PurgeStep::EndOverdueSessions, 10).await;
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
    purge_batch(&store, step, 100).await;
    assert!(store.session_nonce(session.id, &spent).await.unwrap().is_some());
    let mut again = a_session();
    again.id = session.id;
    assert_eq!(store.open_session(again).await.unwrap(), onceguard::domain::Opened::Exists);
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

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn without_a_timeout_activity_is_recorded_by_the_minute(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values(None, Some(1_000))] max_claims: Option<u64>,
) {
    let store = on.store().await;
    let mut new = a_session();
    new.max_claims = max_claims;
    let session = opened(&store, new).await;
    store.pass(Duration::from_secs(50)).await;
    let before = activity(&store, &session).await;
    let facts = ask(&store, &in_session(session.id, a_nonce())).await;
    assert!(facts.inserted);
    if facts.at - before < chrono::Duration::seconds(60) {
        assert_eq!(activity(&store, &session).await, before, "not rewritten");
    }

    store.pass(Duration::from_secs(11)).await;
    let facts = ask(&store, &in_session(session.id, a_nonce())).await;
    assert_eq!(activity(&store, &session).await, facts.at);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_signer_leaves_nothing_behind(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let (revoked, late, fresh) = (a_did(), a_did(), a_did());
    revoke(&store, &revoked).await;
    let (past, future) = (in_seconds(&store, -1).await, in_seconds(&store, 60).await);
    let claims = [
        by_signer(&revoked, a_nonce(), future),
        by_signer(&late, a_nonce(), past),
        by_signer(&fresh, a_nonce(), future),
        by_signer(&revoked, a_nonce(), past),
    ];
    let outcomes = claim_all(&store, &claims).await;
    let words: Vec<_> = outcomes.iter().map(Outcome::as_str).collect();
    assert_eq!(words, ["did_revoked", "expired", "accepted", "did_revoked"]);
    assert_eq!(store.raw().number("count(*) FROM signers").await, 1);
    assert_eq!(store.raw().number("count(*) FROM signer_nonces").await, 1);
}
