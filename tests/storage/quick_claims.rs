//! On PostgreSQL a claim in a session takes one of two statements: a quick one that only accepts,
//! or the one that judges. By its outcome nobody can tell which.

use std::time::Duration;

use onceguard::domain::{EndReason, NewSession, Session, SessionId};
use rstest::rstest;

use crate::support::Database::Postgres;
use crate::support::{
    TestStore, a_nonce, a_session, an_audit_event, claim, claim_all, in_session, opened, read,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Quick,
    Judging,
}

use Form::{Judging, Quick};

/// Which statement the last claim in a session took: idle connections show what they ran last.
async fn form(store: &TestStore) -> Form {
    let last = "query FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND (query LIKE '%INTO nonces%' OR query LIKE '%judged%' OR query LIKE '%JOIN nonces%')
        ORDER BY query_start DESC LIMIT 1";
    let query = store.raw().text(last).await;
    if query.trim_start().starts_with("INSERT INTO nonces") { Quick } else { Judging }
}

/// Claims in a live session until the next claim tries this form first.
async fn bring_about(store: &TestStore, form_wanted: Form, live: SessionId) {
    if form_wanted == Judging {
        let spent = in_session(live, a_nonce());
        claim(store, &spent).await;
        assert_eq!(claim(store, &spent).await.as_str(), "replayed");
        return;
    }
    for _ in 0..8 {
        assert_eq!(claim(store, &in_session(live, a_nonce())).await.as_str(), "accepted");
        if form(store).await == Quick {
            return;
        }
    }
    panic!("no claim takes the quick statement");
}

/// A session in which claims are not quick, and what one of them comes to.
#[derive(Debug, Clone, Copy)]
enum Case {
    Unknown,
    Ended,
    Expired,
    Idle,
    Revoked,
    UsedUp,
    Counted,
    LongQuiet,
}

impl Case {
    fn new_session(self) -> NewSession {
        let mut new = a_session();
        match self {
            // Less than the time for which its activity counts as recent.
            Self::Expired => new.ttl_seconds = 1,
            Self::Idle => new.idle_timeout_seconds = Some(10),
            Self::UsedUp => new.max_claims = Some(1),
            Self::Counted => new.max_claims = Some(2),
            Self::Unknown | Self::Ended | Self::Revoked | Self::LongQuiet => {}
        }
        new
    }

    async fn bring_about(self, store: &TestStore, session: &Session) {
        let id = session.id;
        match self {
            Self::Ended => drop(store.end_session(id, EndReason::Ended, None).await.unwrap()),
            Self::Expired => tokio::time::sleep(Duration::from_millis(1_100)).await,
            Self::Idle | Self::LongQuiet => {
                store.pass(Duration::from_secs(61)).await;
            }
            Self::Revoked => {
                let did = &session.server_did;
                store.revoke_did(did, an_audit_event("did.revoke", did)).await.unwrap();
            }
            Self::UsedUp | Self::Counted => {
                assert_eq!(claim(store, &in_session(id, a_nonce())).await.as_str(), "accepted");
            }
            Self::Unknown => {}
        }
    }

    const fn outcome(self) -> &'static str {
        match self {
            Self::Unknown => "session_not_found",
            Self::Ended => "session_ended",
            Self::Expired | Self::Idle => "session_expired",
            Self::Revoked => "did_revoked",
            Self::UsedUp => "claim_quota_reached",
            Self::Counted | Self::LongQuiet => "accepted",
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_quick_is_judged(
    #[values(
        Case::Unknown,
        Case::Ended,
        Case::Expired,
        Case::Idle,
        Case::Revoked,
        Case::UsedUp,
        Case::Counted,
        Case::LongQuiet
    )]
    case: Case,
    #[values(Quick, Judging)] first: Form,
) {
    let store = Postgres.store().await;
    let live = opened(&store, a_session()).await.id;
    let session = opened(&store, case.new_session()).await;
    case.bring_about(&store, &session).await;
    let id = if matches!(case, Case::Unknown) { a_session().id } else { session.id };
    bring_about(&store, first, live).await;

    let claims = [live, id, live].map(|id| in_session(id, a_nonce()));
    let outcomes = claim_all(&store, &claims).await;
    let words: Vec<_> = outcomes.iter().map(|outcome| outcome.as_str()).collect();
    assert_eq!(words, ["accepted", case.outcome(), "accepted"]);
    for claimed in [&claims[0], &claims[2]] {
        assert_eq!(claim(&store, claimed).await.as_str(), "replayed");
    }
    let after = read(&store, session.id).await;
    match case {
        Case::Counted => assert_eq!(after.claims, 2),
        Case::LongQuiet => {
            let recorded = store.steady(after.last_activity) > session.last_activity;
            assert!(recorded, "activity was not recorded");
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_among_quick_claims_costs_the_others_nothing() {
    let store = Postgres.store().await;
    let live = opened(&store, a_session()).await.id;
    let spent = in_session(live, a_nonce());
    assert_eq!(claim(&store, &spent).await.as_str(), "accepted");
    assert_eq!(form(&store).await, Quick);

    let mut claims: Vec<_> = (0..64).map(|_| in_session(live, a_nonce())).collect();
    claims.insert(40, spent);
    for (place, outcome) in claim_all(&store, &claims).await.iter().enumerate() {
        assert_eq!(outcome.as_str(), if place == 40 { "replayed" } else { "accepted" });
    }
    assert_eq!(store.raw().number("count(*) FROM nonces").await, 65);
}

/// Replays must not have every batch asked twice; and without them, claims are quick again.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_replay_claims_are_judged_for_a_while() {
    let store = Postgres.store().await;
    let live = opened(&store, a_session()).await.id;
    bring_about(&store, Judging, live).await;
    let mut judged = 0;
    loop {
        assert_eq!(claim(&store, &in_session(live, a_nonce())).await.as_str(), "accepted");
        if judged % 64 == 0 && form(&store).await == Quick {
            break;
        }
        judged += 1;
        assert!(judged < 2_048, "claims are never quick again");
    }
    assert!(judged >= 1_024, "claims were quick again after {judged}");
}
