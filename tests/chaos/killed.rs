//! `kill -9` under load: accepted nonces stay spent, and no session is forgotten.

use std::mem::take;
use std::sync::{Arc, Mutex};

use rstest::rstest;
use serde_json::json;
use tokio::task::JoinSet;

use crate::load::{Load, caller};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, Home, a_did, wait_for};

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

/// A session that was opened, and whether it was ended; `None`: nobody can know.
struct Known {
    id: String,
    ended: Option<bool>,
}

/// Opens sessions, and ends every second one, until no more answers come.
async fn open_and_end(caller: Caller, known: Arc<Mutex<Vec<Known>>>) {
    for number in 0_u64.. {
        let parties = json!({ "client_did": a_did().as_str(), "server_did": a_did().as_str() });
        let opening = caller.request("POST", "/v1/sessions").json(&parties);
        let Ok(opened) = opening.try_send().await else { return };
        if opened.status == 503 {
            continue;
        }
        let id = opened.is(201).text_of("id");
        let ended = if number.is_multiple_of(2) {
            match caller.request("DELETE", &format!("/v1/sessions/{id}")).try_send().await {
                Ok(answer) if answer.status == 204 => Some(true),
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{answer:?}");
                    None
                }
                Err(_) => None,
            }
        } else {
            Some(false)
        };
        known.lock().unwrap().push(Known { id, ended });
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_forgotten_by_a_killed_process(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await;
    let mut process = home.start().await;
    let mut all = Vec::new();
    for _ in 0..4 {
        let known = Arc::new(Mutex::new(Vec::new()));
        let mut clients = JoinSet::new();
        for _ in 0..16 {
            clients.spawn(open_and_end(caller(&home, &process), Arc::clone(&known)));
        }
        wait_for("sessions to be opened", async || {
            (known.lock().unwrap().len() >= 150).then_some(())
        })
        .await;
        process.kill().await;
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        process = home.start().await;
        let caller = caller(&home, &process);
        // With those of earlier rounds, which a later crash must not forget either.
        all.append(&mut take(&mut *known.lock().unwrap()));
        for Known { id, ended } in &all {
            let answer = caller.get(&format!("/v1/sessions/{id}")).await;
            match ended {
                Some(true) => drop(answer.refused(410, "session_ended")),
                Some(false) => drop(answer.is(200)),
                None => assert!([200, 410].contains(&answer.status), "{answer:?}"),
            }
        }
    }
    assert_eq!(process.stop().await.code(), 0);
}
