//! On PostgreSQL a claim in a session takes one of two statements: a quick one that only accepts,
//! or the one that judges. By its outcome nobody can tell which.

use std::time::Duration;

use onceguard::domain::{EndReason, NewSession, Outcome, Session, SessionId};
use rstest::rstest;

use crate::support::Database::Postgres;
use crate::support::{
    TestStore, a_nonce, a_session, an_event, claim, claim_all, in_session, opened, read,
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
    let inserts = query.contains("INSERT INTO nonces");
    if inserts && !query.contains("judged") { Quick } else { Judging }
}

/// Claims in a live session until the next batch takes this form first.
async fn bring_about(store: &TestStore, first: Form, live: SessionId) {
    let mut claims = 0;
    loop {
        let spent = in_session(live, a_nonce());
        assert_eq!(claim(store, &spent).await.as_str(), "accepted");
        if form(store).await == Quick {
            if first == Judging {
                // Which is left over.
                assert_eq!(claim(store, &spent).await.as_str(), "replayed");
            }
            return;
        }
        claims += 1;
        assert!(claims < 8, "no claim takes the quick statement");
    }
}

/// A session in which claims are not quick, and what one of them comes to.
#[derive(Debug, Clone, Copy)]
enum Case {
    Unknown,
    Ended,
    Expired,
    Idle,
    ClientRevoked,
    ServerRevoked,
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
            _ => {}
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
            Self::ClientRevoked | Self::ServerRevoked => {
                let client = matches!(self, Self::ClientRevoked);
                let did = if client { &session.client_did } else { &session.server_did };
                store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
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
            Self::ClientRevoked | Self::ServerRevoked => "did_revoked",
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
        Case::ClientRevoked,
        Case::ServerRevoked,
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
    let words: Vec<_> = outcomes.iter().map(Outcome::as_str).collect();
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

/// What is never quick is not asked twice each time; and as soon as claims can be, they are.
#[tokio::test(flavor = "multi_thread")]
async fn the_quick_statement_is_tried_less_while_it_leaves_claims_over() {
    let store = Postgres.store().await;
    let live = opened(&store, a_session()).await.id;
    for _ in 0..30 {
        let unknown = in_session(a_session().id, a_nonce());
        assert_eq!(claim(&store, &unknown).await.as_str(), "session_not_found");
    }
    // It was tried, and left over, before batches 1, 3, 6, 11 and 20: sixteen go around it now.
    let mut judged = 0;
    loop {
        assert_eq!(claim(&store, &in_session(live, a_nonce())).await.as_str(), "accepted");
        if form(&store).await == Quick {
            break;
        }
        judged += 1;
        assert!(judged <= 64, "claims are never quick again");
    }
    assert!(judged >= 6, "the quick statement was tried after {judged} batches");
}
