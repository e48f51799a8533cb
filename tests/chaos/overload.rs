//! A full queue: a caller that does not fit is refused at once, and a caller that waits gets an
//! answer.

use rstest::rstest;
use serde_json::json;
use tokio::task::JoinSet;

use crate::load::{caller, ops};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Home, RawSql, wait_for};

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
    prepare_to_hold_up(&raw, on).await;
    let id = caller.session().await;
    let path = format!("/v1/sessions/{id}/nonces");

    for round in 0..3 {
        hold_up(&raw, on).await;
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
        let_go(&raw, on).await;

        // The callers that waited were accepted. Those that were refused changed nothing, and may
        // repeat.
        while let Some(call) = calls.join_next().await {
            let (number, answer) = call.unwrap();
            if answer.status == 503 {
                answer.refused(503, "overloaded");
                refused.push(number);
            } else {
                answer.is(201);
            }
        }
        assert!(refused.len() < CALLERS, "no caller waited");
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

/// Prepares the database for [`hold_up`]. On PostgreSQL a lock is not enough, because claims wait
/// for none.
async fn prepare_to_hold_up(raw: &RawSql, on: Database) {
    if on == Postgres {
        raw.execute(
            "CREATE TABLE held_up (whatever int);
             CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 WHILE EXISTS (SELECT FROM held_up) LOOP PERFORM pg_sleep(0.01); END LOOP;
                 RETURN NULL;
             END $$;
             CREATE TRIGGER hold_up BEFORE INSERT ON nonces
                 FOR EACH STATEMENT EXECUTE FUNCTION hold_up()",
        )
        .await;
    }
}

/// Holds up every writer of nonces.
async fn hold_up(raw: &RawSql, on: Database) {
    raw.execute(match on {
        Postgres => "INSERT INTO held_up VALUES (1)",
        _ => "BEGIN IMMEDIATE",
    })
    .await;
}

async fn let_go(raw: &RawSql, on: Database) {
    raw.execute(if on == Postgres { "DELETE FROM held_up" } else { "ROLLBACK" }).await;
}

/// A batch that does not fit is refused, and takes no room from those that fit.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_does_not_fit_refuses_no_other(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on)
        .await
        .set("claims.queue", QUEUE)
        .set("claims.max_batch", 1)
        .set("database.claim_statement_timeout_seconds", 60);
    let process = home.start().await;
    let (caller, ops, raw) = (caller(&home, &process), ops(&process), home.raw().await);
    prepare_to_hold_up(&raw, on).await;
    let id = caller.session().await;
    let path = format!("/v1/sessions/{id}/nonces");
    hold_up(&raw, on).await;
    let mut waiting = JoinSet::new();
    let mut wait = async |number: usize, depth: f64| {
        let request = caller.request("POST", &path).json(&json!({ "nonce": format!("{number}") }));
        waiting.spawn(request.send());
        wait_for("the claim to wait", async || {
            (ops.metric("onceguard_claim_queue_depth", &[]).await == depth).then_some(())
        })
        .await;
    };
    // One is on its way, and two wait where four can.
    wait(0, 0.0).await;
    wait(1, 1.0).await;
    wait(2, 2.0).await;
    let claim = |number| json!({ "session_id": id, "nonce": format!("large-{number}") });
    for count in [QUEUE - 1, QUEUE + 1] {
        let claims: Vec<_> = (0..count).map(claim).collect();
        let large = caller.post("/v1/claims", &json!({ "claims": claims })).await;
        large.refused(503, "overloaded");
    }
    wait(3, 3.0).await;
    wait(4, 4.0).await;
    caller.post(&path, &json!({ "nonce": "5" })).await.refused(503, "overloaded");
    let_go(&raw, on).await;
    while let Some(answer) = waiting.join_next().await {
        answer.unwrap().is(201);
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
