//! Sealing keys: a rotation that is killed, and a start with the wrong key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::json;
use tokio::task::JoinSet;

use crate::load::caller;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, Home, Process, Running, SEALING_KEY, wait_for};

const NEW_KEY: &str = "dGhlIG5leHQgc2VhbGluZyBrZXksIDMyIGJ5dGVzISE=";
const SESSIONS: usize = 700;

fn session_key(number: usize) -> String {
    STANDARD.encode(format!("the secret of session {number}"))
}

/// Opens sessions with keys, and returns their ids.
async fn open_sessions(caller: &Caller) -> Vec<String> {
    let mut calls = JoinSet::new();
    let mut ids = vec![String::new(); SESSIONS];
    for number in 0..SESSIONS {
        let caller = caller.clone();
        calls.spawn(async move {
            let opened = caller.open_with(json!({ "session_key": session_key(number) })).await;
            (number, opened.text_of("id"))
        });
        while calls.len() >= 32 {
            let (number, id) = calls.join_next().await.unwrap().unwrap();
            ids[number] = id;
        }
    }
    for (number, id) in calls.join_all().await {
        ids[number] = id;
    }
    ids
}

async fn read_all(home: &Home, process: &Process, ids: &[String]) {
    let caller = caller(home, process);
    for (number, id) in ids.iter().enumerate() {
        let answer = caller.get(&format!("/v1/sessions/{id}/key")).await.is(200);
        assert_eq!(answer["session_key"], session_key(number));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_rotation_is_finished_by_the_next(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await.set("sealing.key", SEALING_KEY);
    let process = home.start().await;
    let ids = open_sessions(&caller(&home, &process)).await;
    assert_eq!(process.stop().await.code(), 0);

    let home = home.set("sealing.key", NEW_KEY).set("sealing.old_keys", SEALING_KEY);
    let raw = home.raw().await;
    let process = home.start().await;
    let old_key = raw.text("min(key_id) FROM sessions").await;
    let left = format!("count(*) FROM sessions WHERE key_id = '{old_key}'");
    assert_eq!(raw.number(&left).await, i64::try_from(SESSIONS).unwrap());
    let mut rotation = Running::start(home.command(&["sealing", "rotate"]));
    wait_for("the first of the rotation", async || {
        (raw.number(&left).await < i64::try_from(SESSIONS).unwrap()).then_some(())
    })
    .await;
    rotation.kill();
    rotation.finished().await;
    assert!(raw.number(&left).await > 0, "the rotation was over before it was killed");
    // Half of the session keys are sealed with one key, half with the other. All can be opened.
    read_all(&home, &process, &ids).await;
    // Until here, PostgreSQL has finished the statement whose sender was killed.
    let remaining = raw.number(&left).await;

    let rotated = home.run(&["sealing", "rotate", "--json"]).await.success();
    let rotated: serde_json::Value = serde_json::from_str(&rotated).unwrap();
    assert_eq!(rotated["resealed"], remaining);
    assert_eq!(rotated["unreadable"], 0);
    assert_eq!(rotated["retired"], json!([old_key]));
    assert_eq!(raw.number(&left).await, 0);
    assert_eq!(process.stop().await.code(), 0);

    // The old key is no longer needed.
    let home = home.unset("sealing.old_keys");
    let process = home.start().await;
    read_all(&home, &process, &ids).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_key_stops_the_start(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await.set("sealing.key", SEALING_KEY);
    let process = home.start().await;
    let caller = caller(&home, &process);
    let id = caller.open_with(json!({ "session_key": session_key(0) })).await.text_of("id");
    assert_eq!(process.stop().await.code(), 0);

    let wrong = home.set("sealing.key", NEW_KEY);
    let ended = wrong.spawn(wrong.command(&["serve"])).finished().await;
    assert_eq!(ended.code(), 4, "{ended:?}");
    assert!(ended.stderr.contains("sealing key"), "{}", ended.stderr);
    assert!(ended.stderr.contains("sealing.old_keys"), "what to do: {}", ended.stderr);
    assert!(!ended.stderr.contains(NEW_KEY), "{}", ended.stderr);
    assert!(!wrong.has_listened(), "nothing was served");

    let right = wrong.set("sealing.key", SEALING_KEY);
    let process = right.start().await;
    read_all(&right, &process, &[id]).await;
}
