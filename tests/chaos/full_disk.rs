//! A full disk: 503, nothing lost, and recovery.

use std::process::Command;

use serde_json::json;

use crate::load::{caller, ops};
use crate::support::{Database, Home, wait_for};

/// A limit on the size of every file, in the shell's blocks, replaces the full disk: writes beyond
/// it fail. The limit's signal is ignored, because a full disk sends none.
const LIMITED: &str = r#"trap "" XFSZ; ulimit -f "$1"; exec "$0" serve"#;
const BLOCKS: &str = "4096";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_503_and_loses_nothing() {
    let home = Home::on(Database::Sqlite).await;
    home.run(&["migrate", "up"]).await.success();
    let mut command = Command::new("sh");
    command.args(["-c", LIMITED, env!("CARGO_BIN_EXE_onceguard"), BLOCKS]);
    home.equip(&mut command);
    let process = home.start_as(command).await;
    let (limited, ops) = (caller(&home, &process), ops(&process));
    let id = limited.session().await;
    let batch = |number: usize| {
        let claim = |index| {
            let nonce = format!("{number}-{index}-{}", "x".repeat(200));
            json!({ "session_id": id, "nonce": nonce })
        };
        json!({ "claims": (0..500).map(claim).collect::<Vec<_>>() })
    };

    let mut accepted = 0;
    let refused = loop {
        let answer = limited.post("/v1/claims", &batch(accepted)).await;
        if answer.status != 200 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 100, "the disk is never full");
    };
    assert!(accepted > 0);
    let refused = refused.is(503);
    let codes = ["storage_unavailable", "outcome_unknown"];
    assert!(codes.contains(&refused.code()), "{refused:?}");
    // When not even a page can be written, `/readyz` does not say that it is ready.
    let mut number = 0;
    let unready = wait_for("the disk to be full", async || {
        for _ in 0..100 {
            number += 1;
            let claim = json!({ "nonce": format!("one-{number}-{}", "x".repeat(200)) });
            limited.post(&format!("/v1/sessions/{id}/nonces"), &claim).await;
        }
        let answer = ops.get("/readyz").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(unready["database"]["writable"], false, "{unready:?}");
    let reason = unready["reasons"][0].as_str().unwrap();
    assert!(reason.contains("disk full"), "{reason}");
    // It still answers reads.
    limited.get(&format!("/v1/sessions/{id}")).await.is(200);
    ops.get("/livez").await.is(200);
    process.kill().await;

    // When there is room again, all accepted nonces are spent, and the others can be claimed.
    let process = home.start().await;
    let caller = caller(&home, &process);
    let outcome = async |number: usize| {
        let answer = caller.post("/v1/claims", &batch(number)).await.is(200);
        let results = answer["results"].as_array().unwrap().clone();
        let first = results[0]["outcome"].as_str().unwrap().to_owned();
        assert!(results.iter().all(|result| result["outcome"] == first.as_str()), "one for all");
        first
    };
    for number in 0..accepted {
        assert_eq!(outcome(number).await, "replayed", "batch {number} of {accepted}");
    }
    let last = outcome(accepted).await;
    if refused.code() == "storage_unavailable" {
        assert_eq!(last, "accepted", "said to have changed nothing");
    }
    assert_eq!(outcome(accepted + 1).await, "accepted");
    assert_eq!(process.stop().await.code(), 0);
}
