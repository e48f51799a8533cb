//! `kill -9` under load: accepted nonces stay spent.

use rstest::rstest;
use serde_json::json;

use crate::load::{Load, caller};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::Home;

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_accepted_is_forgotten_by_a_killed_process(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = Home::on(on).await;
    let mut process = home.start().await;
    let id = caller(&home, &process).session().await;
    let mut ledgers = Vec::new();
    for round in 0..6 {
        // One nonce a request, and many: the larger a batch, the longer its commit.
        let size = if round % 2 == 0 { 1 } else { 100 };
        let (callers, prefix) = ([caller(&home, &process)], format!("round-{round}"));
        let load = Load::in_batches_of(size, &callers, 16, &id, &prefix);
        load.accepts(100 + 20 * size + 50 * round).await;
        process.kill().await;
        ledgers.push(load.stop().await);
        process = home.start().await;
        let caller = caller(&home, &process);
        caller.get("/v1/sessions").await.is(200);
        // Every ledger again, to see whether a later crash forgets nonces of earlier rounds. The
        // first comparison claimed the other nonces itself, so only accepted ones are compared.
        ledgers.last().unwrap().verify(&caller, &id).await;
        for ledger in &ledgers {
            ledger.verify_accepted(&caller, &id).await;
        }
    }
    let accepted: u64 = ledgers.iter().map(|ledger| ledger.counts().accepted).sum();
    let used = home.raw().await.number("count(*) FROM nonces").await;
    assert!(u64::try_from(used).unwrap() >= accepted, "{used} of {accepted} are there");
    let answer = caller(&home, &process)
        .post(&format!("/v1/sessions/{id}/nonces"), &json!({ "nonce": "afterwards" }))
        .await;
    answer.is(201);
    assert_eq!(process.stop().await.code(), 0);
}
