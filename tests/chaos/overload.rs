//! A full queue: whoever does not fit is refused at once, and whoever waits gets an answer.

use rstest::rstest;
use serde_json::json;
use tokio::task::JoinSet;

use crate::load::{caller, ops};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Home, wait_for};

const QUEUE: usize = 4;
const CALLERS: usize = 64;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_the_surplus_and_keeps_the_rest(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = Home::on(on)
        .await
        .set("claims.queue", QUEUE)
        .set("database.claim_statement_timeout_seconds", 60);
    let process = home.start().await;
    let (caller, ops, raw) = (caller(&home, &process), ops(&process), home.raw().await);
    let id = caller.session().await;
    let path = format!("/v1/sessions/{id}/nonces");

    for round in 0..3 {
        // Holds up every writer of nonces, until the end of this transaction.
        raw.execute(match on {
            Postgres => "BEGIN; LOCK TABLE nonces IN ACCESS EXCLUSIVE MODE",
            _ => "BEGIN IMMEDIATE",
        })
        .await;
        let mut calls = JoinSet::new();
        for number in 0..CALLERS {
            let body = json!({ "nonce": format!("{round}-{number}") });
            let request = caller.request("POST", &path).json(&body);
            calls.spawn(async move { (number, request.send().await) });
        }
        // One batch of at most the queue's length is on its way, and the queue is full again.
        let mut refused = Vec::new();
        while refused.len() < CALLERS - 2 * QUEUE {
            let (number, answer) = calls.join_next().await.unwrap().unwrap();
            answer.refused(503, "overloaded");
            refused.push(number);
        }
        ops.get("/livez").await.is(200);
        let overloaded = ops.metric("onceguard_claims_overloaded_total", &[]).await;
        assert!(overloaded >= 1.0, "{overloaded}");
        assert!(ops.metric("onceguard_claim_queue_depth", &[]).await > 0.0);
        caller.get(&format!("/v1/sessions/{id}")).await.is(200);
        raw.execute("ROLLBACK").await;

        // Who waited has been accepted; who was refused has changed nothing, and may come again.
        while let Some(call) = calls.join_next().await {
            let (number, answer) = call.unwrap();
            if answer.status == 503 {
                answer.refused(503, "overloaded");
                refused.push(number);
            } else {
                answer.is(201);
            }
        }
        assert!(refused.len() < CALLERS, "nobody waited");
        for number in 0..CALLERS {
            let body = json!({ "nonce": format!("{round}-{number}") });
            let answer = caller.post(&path, &body).await;
            if refused.contains(&number) {
                answer.is(201);
            } else {
                answer.refused(409, "nonce_replayed");
            }
        }
        wait_for("the queue to be empty", async || {
            (ops.metric("onceguard_claim_queue_depth", &[]).await == 0.0).then_some(())
        })
        .await;
    }
    assert_eq!(process.stop().await.code(), 0);
}

/// A batch needs room for all of its claims at once, and does not take any when there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_the_queue_is_refused_whole() {
    let home = Home::on(Sqlite).await.set("claims.queue", QUEUE);
    let process = home.start().await;
    let caller = caller(&home, &process);
    let id = caller.session().await;
    let claims = |count: usize| {
        let claim = |number| json!({ "session_id": id, "nonce": format!("n-{number}") });
        json!({ "claims": (0..count).map(claim).collect::<Vec<_>>() })
    };
    caller.post("/v1/claims", &claims(QUEUE + 1)).await.refused(503, "overloaded");
    let answer = caller.post("/v1/claims", &claims(QUEUE)).await.is(200);
    let accepted = answer["results"].as_array().unwrap().iter();
    assert_eq!(accepted.filter(|result| result["outcome"] == "accepted").count(), QUEUE);
}
