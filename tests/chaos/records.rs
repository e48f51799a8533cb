//! `kill -9` while batches of records are written: each batch is there whole or not at all, and none
//! that was answered is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::load::caller;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, Home, hex, wait_for};

const OWNERS: usize = 4;
const RECORDS: usize = 10;

fn owner(number: usize) -> String {
    format!("/v1/records/did:web:owner-{number}.example")
}

/// A record with this ciphertext.
pub fn sealed(ciphertext: &str) -> Value {
    let iv = [3; 12];
    let checksum = Sha256::digest([iv.as_slice(), ciphertext.as_bytes()].concat());
    json!({
        "iv": STANDARD.encode(iv),
        "ciphertext": STANDARD.encode(ciphertext),
        "checksum": hex(&checksum),
    })
}

/// Every record of an owner, of this round.
fn batch(round: u64) -> Value {
    let mut record = sealed(&format!("{round:0>5000}"));
    record["metadata"] = json!({"round": round.to_string()});
    let precondition = if round == 1 { "if_none_match" } else { "if_match" };
    let put = |id: usize| json!({"op": "put", "kind": "sync", "id": id.to_string(), precondition: "*", "record": record});
    json!({"operations": (0..RECORDS).map(put).collect::<Vec<_>>()})
}

/// Writes round after round until no more answers come.
async fn write(caller: Caller, number: usize, answered: Arc<AtomicU64>) {
    let path = format!("{}/batch", owner(number));
    loop {
        let round = answered.load(Ordering::SeqCst) + 1;
        let request = caller.request("POST", &path).json(&batch(round));
        let Ok(answer) = request.try_send().await else { return };
        if answer.status == 503 {
            return;
        }
        answer.is(200);
        answered.store(round, Ordering::SeqCst);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_whole_batches(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await;
    let mut process = home.start().await;
    let answered: Vec<_> = (0..OWNERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
    for kill in 1..=4 {
        let mut writers = JoinSet::new();
        for (number, answered) in answered.iter().enumerate() {
            writers.spawn(write(caller(&home, &process), number, answered.clone()));
        }
        wait_for("batches to be written", async || {
            let enough = answered.iter().all(|one| one.load(Ordering::SeqCst) >= 5 * kill);
            enough.then_some(())
        })
        .await;
        process.kill().await;
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
        process = home.start().await;
        let caller = caller(&home, &process);
        for (number, answered) in answered.iter().enumerate() {
            let list = caller.get(&format!("{}?limit=500", owner(number))).await.is(200);
            let items = list["items"].as_array().unwrap();
            assert_eq!(items.len(), RECORDS);
            let last = answered.load(Ordering::SeqCst);
            let round: u64 = items[0]["metadata"]["round"].as_str().unwrap().parse().unwrap();
            assert!(round == last || round == last + 1, "{round}, and {last} was answered");
            for item in items {
                assert_eq!(item["metadata"]["round"], round.to_string(), "a part of a batch");
                let ciphertext = STANDARD.encode(format!("{round:0>5000}"));
                assert_eq!(item["ciphertext"], ciphertext, "of another round");
            }
            let usage = caller.get(&format!("{}/usage", owner(number))).await.is(200);
            assert_eq!((&usage["records"], &usage["bytes"]), (&json!(10), &json!(50_000)));
            answered.store(round, Ordering::SeqCst);
        }
    }
    let blobs = home.raw().await.number("count(*) FROM record_blobs").await;
    assert_eq!(usize::try_from(blobs).unwrap(), OWNERS * RECORDS, "nothing is left over");
    assert_eq!(process.stop().await.code(), 0);
}
