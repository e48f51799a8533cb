//! The service as it runs: its jobs link and sign the log, and add the words of what was restored; and
//! the log passes after a backup and a restore.

use rstest::rstest;
use serde_json::{Value, json};

use crate::backup::place;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, Home, Process, SEALING_KEY, http_client, wait_for};
use crate::{json as told, migrated};

fn caller(home: &Home, process: &Process) -> Caller {
    let http = http_client().build().unwrap();
    Caller::new(http, format!("http://{}", process.api), Some(&home.token()))
}

/// The place of an event once it is linked.
async fn linked(caller: &Caller, subject: &str) -> u64 {
    let path = format!("/v1/events?type=test.run&subject={subject}");
    wait_for("the event to be linked", async || {
        let page = caller.get(&path).await.is(200);
        page["items"].as_array().unwrap().first().map(|event| event["sequence"].as_u64().unwrap())
    })
    .await
}

async fn verified(home: &Home) -> Value {
    told(home.run(&["audit", "verify", "--json"]).await)
}

/// A service that published an event, which is under a signed head.
async fn signed(on: Database) -> (Home, Process, u64) {
    let home = Home::on(on).await.set("sealing.key", SEALING_KEY);
    let process = home.start().await;
    let event = json!({"type": "test.run", "subject": "one"});
    caller(&home, &process).post("/v1/events", &event).await.is(201);
    let place = linked(&caller(&home, &process), "one").await;
    // A start signs what was linked; from then on, a minute passes between two heads.
    assert_eq!(process.stop().await.code(), 0);
    let process = home.start().await;
    let raw = home.raw().await;
    wait_for("a signed head", async || {
        let heads = format!("count(*) FROM event_heads WHERE sequence >= {place}");
        (raw.number(&heads).await > 0).then_some(())
    })
    .await;
    (home, process, place)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_links_and_signs(#[values(Sqlite, Postgres)] on: Database) {
    let (home, process, place) = signed(on).await;
    let verified = verified(&home).await;
    assert_eq!(verified["findings"], json!([]));
    assert!(verified["signed_until"].as_u64().unwrap() >= place, "{verified}");
    let kept = std::fs::read_to_string(home.folder().join("audit-heads")).unwrap();
    assert!(!kept.is_empty());
    assert_eq!(process.stop().await.code(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_log_passes_and_what_was_restored_is_found(
    #[values(Sqlite, Postgres)] from: Database,
    #[values(Sqlite, Postgres)] to: Database,
) {
    let (source, process, place_of_event) = signed(from).await;
    let opened = caller(&source, &process)
        .open_with(json!({"metadata": {"note": "restored words"}}))
        .await
        .text_of("id");
    assert_eq!(process.stop().await.code(), 0);
    let (_, file) = place(&source, "source.tar.zst");
    source.run(&["backup", "--output", &file]).await.success();

    // The heads are signed by a key that both have.
    let home = migrated(to).await.set("sealing.key", SEALING_KEY);
    for name in ["admin.token", "audit-heads"] {
        std::fs::copy(source.folder().join(name), home.folder().join(name)).unwrap();
    }
    home.run(&["restore", &file, "--yes", "--tokens", "keep"]).await.success();
    let checked = verified(&home).await;
    assert_eq!(checked["findings"], json!([]), "{checked}");
    assert!(checked["signed_until"].as_u64().unwrap() >= place_of_event, "{checked}");

    let process = home.start().await;
    let caller = caller(&home, &process);
    let found = wait_for("the words of what was restored", async || {
        let answer = caller.get("/v1/search?q=words+restored").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(found["items"][0]["id"], *opened);
    let event = json!({"type": "test.run", "subject": "two"});
    caller.post("/v1/events", &event).await.is(201);
    assert!(linked(&caller, "two").await > place_of_event);
    assert_eq!(verified(&home).await["findings"], json!([]));
    assert_eq!(process.stop().await.code(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_start_tells_what_is_configured_and_no_secret(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home =
        Home::on(on).await.set("sealing.key", SEALING_KEY).set("claims.quota_per_signer", 77);
    assert_eq!(home.start().await.stop().await.code(), 0);
    let process = home.start().await;
    let caller = caller(&home, &process);
    let events = wait_for("both starts", async || {
        let page = caller.get("/v1/events?type=onceguard.instance.started").await.is(200);
        let items = page["items"].as_array().unwrap().clone();
        (items.len() >= 2).then_some(items)
    })
    .await;
    let [_, started] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&started["subject"], &started["actor"]), (&json!(process.api), &json!("service")));
    let settings = &started["data"]["settings"];
    assert_eq!(started["data"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&settings["claims.quota_per_signer"], &settings["log.format"]),
        (&json!(77), &json!("json"))
    );
    assert_eq!(settings["sealing.key"], "***");
    assert_eq!(settings["claims.quota_per_namespace"], Value::Null, "a default is left out");
    assert!(!started.to_string().contains(SEALING_KEY));
    assert_eq!(process.stop().await.code(), 0);
}
