//! Many callers claim one nonce at the same time, and exactly one of them is told that it was
//! accepted.

use onceguard::domain::{Claim, Nonce, Outcome, Scope};
use rstest::rstest;
use serde_json::json;
use tokio::task::JoinSet;

use crate::load::caller;
use crate::services::claims;
use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{Home, a_did, a_session, in_seconds, nonce, opened};

const TASKS: usize = 64;

/// Through several queues, as several instances have them. So the database decides the race, and
/// not a queue that happens to have equal claims in one batch.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_64_tasks_one_wins_a_thousand_times(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let queues = [claims(&store), claims(&store), claims(&store), claims(&store)];
    let session = Scope::Session(opened(&store, a_session()).await.id);
    let expires_at = in_seconds(&store, 3_600).await;
    let signer = Scope::Signer { did: a_did(), expires_at, issued_at: None, session: None };
    for round in 0..1_000 {
        let scope = if round % 4 == 3 { &signer } else { &session };
        let nonce = nonce(&format!("round-{round}"));
        let mut tasks = JoinSet::new();
        for queue in queues.iter().cycle().take(TASKS) {
            let (queue, claim) = (queue.clone(), a_claim(scope, &nonce));
            tasks.spawn(async move { queue.claim(vec![claim]).await.unwrap().remove(0) });
        }
        let outcomes = tasks.join_all().await;
        let accepted: Vec<_> = outcomes.iter().filter_map(accepted_at).collect();
        let [won_at] = accepted[..] else { panic!("round {round}: {outcomes:?}") };
        for outcome in &outcomes {
            let first = match outcome {
                Outcome::Accepted(accepted) => accepted.used_at,
                Outcome::Replayed { first_used_at } => *first_used_at,
                Outcome::Refused(refusal) => panic!("round {round}: {refusal:?}"),
            };
            assert_eq!(first, won_at, "the losers learn of the winner's use");
        }
    }
}

fn a_claim(scope: &Scope, nonce: &Nonce) -> Claim {
    Claim { scope: scope.clone(), nonce: nonce.clone(), idempotency: None }
}

fn accepted_at(outcome: &Outcome) -> Option<onceguard::domain::Timestamp> {
    match outcome {
        Outcome::Accepted(accepted) => Some(accepted.used_at),
        _ => None,
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_64_callers_over_http_one_wins(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let home = Home::on(on).await;
    let process = home.start().await;
    let caller = caller(&home, &process);
    let path = format!("/v1/sessions/{}/nonces", caller.session().await);
    for round in 0..50 {
        let mut calls = JoinSet::new();
        for _ in 0..TASKS {
            let body = json!({ "nonce": format!("round-{round}") });
            let request = caller.request("POST", &path).json(&body);
            calls.spawn(async move {
                let answer = request.send().await;
                if answer.status == 409 {
                    answer.refused(409, "nonce_replayed").status
                } else {
                    answer.is(201).status
                }
            });
        }
        let statuses = calls.join_all().await;
        let winners = statuses.iter().filter(|status| **status == 201).count();
        assert_eq!(winners, 1, "round {round}: {statuses:?}");
    }
}
