//! Signers' claims that name a session: the signer must be a party, and it is judged first, counted
//! exactly and kept active, in the transaction that spends the nonce.

use std::sync::Arc;
use std::time::Duration;

use onceguard::config;
use onceguard::domain::{Claim, Did, End, EndReason, Outcome, Refusal, Scope, Session, SessionId};
use onceguard::metrics::Metrics;
use onceguard::services::Claims;
use onceguard::storage::Store;
use rstest::rstest;
use uuid::Uuid;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    Limits, TestStore, a_did, a_nonce, a_session, a_session_between, an_event, ask, by_signer,
    claim, claim_all, count, in_seconds, in_session, naming, opened, outcome, read, with_key,
};

pub(crate) async fn counted(store: &Store, max_claims: u64) -> Session {
    let mut new = a_session();
    new.max_claims = Some(max_claims);
    opened(store, new).await
}

/// A session of this client.
async fn of(store: &Store, client: &Did, max_claims: Option<u64>) -> Session {
    let mut new = a_session_between(client, &a_did());
    new.max_claims = max_claims;
    opened(store, new).await
}

/// A claim that passes if `session` and `signer` let it.
pub(crate) async fn fresh(store: &Store, signer: &Did, session: SessionId) -> Claim {
    naming(by_signer(signer, a_nonce(), in_seconds(store, 300).await), session)
}

async fn refusal(store: &Store, claimed: &Claim) -> Refusal {
    match claim(store, claimed).await {
        Outcome::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

async fn revoke(store: &Store, did: &Did) {
    store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
}

/// The signer's nonces, and its counter if it has one.
async fn held(store: &TestStore, did: &Did) -> (i64, Option<i64>) {
    let (raw, key) = (store.raw(), did.signer_key());
    let of = format!("WHERE signer = {}", raw.signer(key));
    let live = raw.number(&format!("coalesce(max(live), -1) FROM signers {of}")).await;
    let nonces = raw.number(&format!("count(*) FROM signer_nonces {of}")).await;
    (nonces, (live >= 0).then_some(live))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_live_session_lets_its_signers_pass(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let signer = a_did();
    let (limited, open) = (of(&store, &signer, Some(10)).await, of(&store, &signer, None).await);
    for session in [&limited, &open] {
        let claimed = fresh(&store, &signer, session.id).await;
        let facts = ask(&store, &claimed).await;
        assert!(facts.inserted);
        assert_eq!(outcome(&claimed, &facts).as_str(), "accepted");
        assert_eq!(claim(&store, &claimed).await.as_str(), "replayed");
        let elsewhere =
            naming(claimed.clone(), if session.id == open.id { limited.id } else { open.id });
        assert_eq!(claim(&store, &elsewhere).await.as_str(), "replayed", "one scope, any session");
        assert_eq!(store.session_nonce(session.id, &claimed.nonce).await.unwrap(), None);
    }
    assert_eq!(read(&store, limited.id).await.claims, 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_in_its_order(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store_with(Limits { quota_per_signer: 1 }).await;
    let mut new = a_session();
    (new.max_claims, new.idle_timeout_seconds) = (Some(1), Some(60));
    let session = opened(&store, new).await;
    // Each step adds a reason that comes before those that there are.
    let signer = session.client_did.clone();
    let spent = fresh(&store, &signer, session.id).await;
    let unnamed = by_signer(&signer, spent.nonce.clone(), in_seconds(&store, 300).await);
    let no_room = fresh(&store, &signer, session.id).await;
    let open = of(&store, &signer, None).await;
    let ended = of(&store, &signer, None).await;
    assert_eq!(claim(&store, &unnamed).await.as_str(), "accepted");
    let full = fresh(&store, &signer, open.id).await;
    assert_eq!(refusal(&store, &full).await, Refusal::ClaimQuotaReached);
    assert_eq!(refusal(&store, &no_room).await, Refusal::ClaimQuotaReached);

    let other = fresh(&store, &session.server_did, session.id).await;
    assert_eq!(claim(&store, &other).await.as_str(), "accepted");
    assert_eq!(refusal(&store, &no_room).await, Refusal::SessionUsedUp);
    assert_eq!(claim(&store, &spent).await.as_str(), "replayed");

    let past = in_seconds(&store, -5).await;
    let expired = naming(by_signer(&signer, spent.nonce.clone(), past), session.id);
    assert_eq!(refusal(&store, &expired).await, Refusal::Expired);
    revoke(&store, &signer).await;
    assert_eq!(refusal(&store, &expired).await, Refusal::DidRevoked);
    assert_eq!(refusal(&store, &spent).await, Refusal::DidRevoked);

    store.pass(Duration::from_mins(2)).await;
    let over = refusal(&store, &expired).await;
    assert!(
        matches!(over, Refusal::SessionOver(End { reason: EndReason::Idle, .. })),
        "before the signer's revocation: {over:?}"
    );
    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    let over = refusal(&store, &naming(expired.clone(), ended.id)).await;
    assert!(
        matches!(over, Refusal::SessionOver(End { reason: EndReason::Ended, .. })),
        "before a party's revocation: {over:?}"
    );
    let theirs = opened(&store, a_session()).await;
    store.end_session(theirs.id, EndReason::Ended, None).await.unwrap();
    let strangers = naming(expired.clone(), theirs.id);
    assert_eq!(refusal(&store, &strangers).await, Refusal::NotAParty);
    let unknown = naming(expired, SessionId(Uuid::now_v7()));
    assert_eq!(refusal(&store, &unknown).await, Refusal::SessionNotFound);
}

/// Of a session of others, live or over, strangers learn only that it exists.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_parties_pass(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (open, full) = (opened(&store, a_session()).await, counted(&store, 1).await);
    claim(&store, &in_session(full.id, a_nonce())).await;
    let (ended, lost) = (opened(&store, a_session()).await, opened(&store, a_session()).await);
    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    revoke(&store, &lost.server_did).await;
    let mut claims = Vec::new();
    for (session, told) in [
        (&open, "accepted"),
        (&full, "claim_quota_reached"),
        (&ended, "session_ended"),
        (&lost, "did_revoked"),
    ] {
        let stranger = fresh(&store, &a_did(), session.id).await;
        assert_eq!(refusal(&store, &stranger).await, Refusal::NotAParty);
        claims.push((stranger, "not_a_party"));
        for party in [&session.client_did, &session.server_did] {
            claims.push((fresh(&store, party, session.id).await, told));
        }
    }
    // Nor is one a party of a session because it is one of another.
    claims.push((fresh(&store, &open.client_did, full.id).await, "not_a_party"));
    let (claims, told): (Vec<_>, Vec<_>) = claims.into_iter().unzip();
    let outcomes = claim_all(&store, &claims).await;
    assert_eq!(outcomes.iter().map(Outcome::as_str).collect::<Vec<_>>(), told);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_party_closes_the_session(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values(false, true)] server: bool,
    #[values(None, Some(5))] max_claims: Option<u64>,
) {
    let store = on.store().await;
    let mut new = a_session();
    new.max_claims = max_claims;
    let session = opened(&store, new).await;
    let (party, other) = if server {
        (&session.server_did, &session.client_did)
    } else {
        (&session.client_did, &session.server_did)
    };
    revoke(&store, party).await;
    let claimed = fresh(&store, other, session.id).await;
    assert_eq!(refusal(&store, &claimed).await, Refusal::DidRevoked);
    let past = naming(by_signer(other, a_nonce(), in_seconds(&store, -5).await), session.id);
    assert_eq!(refusal(&store, &past).await, Refusal::DidRevoked, "before its own expiry");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_claim_leaves_nothing_behind(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let full = counted(&store, 1).await;
    claim(&store, &in_session(full.id, a_nonce())).await;
    let ended = opened(&store, a_session()).await;
    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    let lost = opened(&store, a_session()).await;
    revoke(&store, &lost.server_did).await;
    let (live, open) = (counted(&store, 5).await, opened(&store, a_session()).await);
    let mut refused = Vec::new();
    for session in [&full, &ended, &lost] {
        refused.push(fresh(&store, &session.client_did, session.id).await);
    }
    for session in [full.id, live.id, open.id, SessionId(Uuid::now_v7())] {
        refused.push(fresh(&store, &a_did(), session).await);
    }
    let past = in_seconds(&store, -5).await;
    refused.push(naming(by_signer(&live.client_did, a_nonce(), past), live.id));

    let before = store.raw().data().await;
    for claimed in &refused {
        refusal(&store, claimed).await;
    }
    claim_all(&store, &refused).await;
    assert_eq!(store.raw().data().await, before);

    // Nor beside one that is accepted.
    let signer = live.server_did;
    refused.insert(2, fresh(&store, &signer, live.id).await);
    let outcomes = claim_all(&store, &refused).await;
    assert_eq!(count(&outcomes, "accepted"), 1);
    assert_eq!(held(&store, &signer).await, (1, Some(1)));
    assert_eq!(store.raw().number("count(*) FROM signers").await, 1);
    assert_eq!(store.raw().number("count(*) FROM signer_nonces").await, 1);
    assert_eq!(read(&store, live.id).await.claims, 1);
}

/// A batch in which two limits meet: none is exceeded, and what one refuses takes no room of the
/// other.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn two_limits_are_exact_in_a_batch(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store_with(Limits { quota_per_signer: 3 }).await;
    let signers = [a_did(), a_did(), a_did()];
    let counted = async |server: &Did, max_claims| {
        let mut new = a_session_between(&signers[0], server);
        new.max_claims = Some(max_claims);
        opened(&store, new).await
    };
    let (one, two) = (counted(&signers[1], 4).await, counted(&signers[2], 3).await);
    let open = of(&store, &signers[0], None).await;
    let spent = fresh(&store, &signers[0], one.id).await;
    assert_eq!(claim(&store, &spent).await.as_str(), "accepted");
    let mut claims = vec![spent];
    for _ in 0..6 {
        // A signer who is full after two more, in every session.
        for session in [one.id, two.id, open.id] {
            claims.push(fresh(&store, &signers[0], session).await);
        }
    }
    claims.push(in_session(one.id, a_nonce()));
    for _ in 0..4 {
        claims.push(fresh(&store, &signers[1], one.id).await);
        claims.push(fresh(&store, &signers[2], two.id).await);
    }
    let outcomes = claim_all(&store, &claims).await;
    assert_eq!(outcomes[0].as_str(), "replayed");
    let by_signers = claims.iter().zip(&outcomes).filter(|(claimed, outcome)| {
        matches!(claimed.scope, Scope::Signer { .. }) && outcome.as_str() == "accepted"
    });
    let held_in_all = 1 + i64::try_from(by_signers.count()).unwrap();
    assert_eq!(held(&store, &signers[0]).await, (3, Some(3)));
    let (nonces, live) = held(&store, &signers[1]).await;
    assert_eq!(live, (nonces > 0).then_some(nonces));
    assert!(nonces <= 3);
    let (one, two) = (read(&store, one.id).await, read(&store, two.id).await);
    assert_eq!((one.claims, two.claims), (4, 3), "{outcomes:?}");
    assert_eq!(store.raw().number("sum(live) FROM signers").await, held_in_all);
    assert_eq!(store.raw().number("count(*) FROM signer_nonces").await, held_in_all);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signers_claims_keep_a_session_active(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values(None, Some(100))] max_claims: Option<u64>,
) {
    let store = on.store().await;
    let mut new = a_session();
    (new.idle_timeout_seconds, new.max_claims) = (Some(60), max_claims);
    let session = opened(&store, new).await;
    for _ in 0..5 {
        store.pass(Duration::from_secs(50)).await;
        let claimed = fresh(&store, &session.client_did, session.id).await;
        let facts = ask(&store, &claimed).await;
        assert_eq!(outcome(&claimed, &facts).as_str(), "accepted");
        let active = read(&store, session.id).await.last_activity;
        assert_eq!(active, facts.at);
        let again = fresh(&store, &session.client_did, session.id).await;
        if ask(&store, &again).await.at - active < chrono::Duration::seconds(5) {
            assert_eq!(read(&store, session.id).await.last_activity, active, "not rewritten");
        }
        assert_eq!(claim(&store, &claimed).await.as_str(), "replayed");
    }
    if max_claims.is_some() {
        assert_eq!(read(&store, session.id).await.claims, 10);
    }
    // A replay is no activity.
    let spent = fresh(&store, &session.client_did, session.id).await;
    claim(&store, &spent).await;
    store.pass(Duration::from_secs(50)).await;
    assert_eq!(claim(&store, &spent).await.as_str(), "replayed");
    store.pass(Duration::from_secs(50)).await;
    let late = fresh(&store, &session.client_did, session.id).await;
    assert_eq!(claim(&store, &late).await.as_str(), "session_expired");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_outcome_though_its_session_is_over(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let claimed = with_key(fresh(&store, &session.client_did, session.id).await, 7);
    let Outcome::Accepted(first) = claim(&store, &claimed).await else { panic!("not accepted") };
    store.end_session(session.id, EndReason::Ended, None).await.unwrap();
    let Outcome::Accepted(again) = claim(&store, &claimed).await else { panic!("not repeated") };
    assert_eq!((again.used_at, again.repeated), (first.used_at, true));
    let other = with_key(claimed, 8);
    assert_eq!(claim(&store, &other).await.as_str(), "session_ended");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_equal_messages_with_different_sessions_one_is_accepted(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let config = config::Claims {
        queue: 1_024,
        max_batch: 64,
        quota_per_signer: 1_000_000,
        quota_per_namespace: 1_000_000,
        purge_margin: Duration::from_mins(5),
    };
    let claims = Claims::start((*store).clone(), &config, Arc::new(Metrics::new().unwrap()));
    let signer = a_did();
    let (one, two) = (of(&store, &signer, Some(10)).await, of(&store, &signer, Some(10)).await);
    let ended = of(&store, &signer, None).await;
    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    for round in 1..=10 {
        let message = by_signer(&signer, a_nonce(), in_seconds(&store, 300).await);
        let batch = vec![
            naming(message.clone(), ended.id),
            naming(message.clone(), one.id),
            message.clone(),
            naming(message.clone(), two.id),
            naming(message.clone(), one.id),
        ];
        let outcomes = claims.claim(batch).await.unwrap();
        let words: Vec<_> = outcomes.iter().map(Outcome::as_str).collect();
        assert_eq!(words, ["session_ended", "accepted", "replayed", "replayed", "replayed"]);
        assert_eq!(read(&store, one.id).await.claims, round);
    }
    assert_eq!(read(&store, two.id).await.claims, 0);
}
