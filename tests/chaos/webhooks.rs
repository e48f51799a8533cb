//! `kill -9` while events are sent to a webhook: each event that was published arrives.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::{Value, json};

use crate::load::{caller, caller_with};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, Got, Home, Receiver, wait_for};

/// Publishes until an answer does not come, and returns the ids that were answered.
async fn publish(caller: Caller) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let events: Vec<Value> =
            (0..20).map(|n| json!({"type": "test.killed", "subject": n.to_string()})).collect();
        let request = caller.request("POST", "/v1/events").json(&json!({ "events": events }));
        let Ok(answer) = request.try_send().await else { return ids };
        if answer.status == 503 {
            return ids;
        }
        let answer = answer.is(200);
        let new = answer["ids"].as_array().unwrap().iter();
        ids.extend(new.map(|id| id.as_str().unwrap().to_owned()));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_no_delivery(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await;
    let home =
        home.set("webhooks.allow_private_addresses", true).set("webhooks.timeout_seconds", 1);
    let receiver = Receiver::start().await;
    let mut process = home.start().await;
    let body = json!({"url": receiver.url("/"), "types": ["test.killed"]});
    caller(&home, &process).post("/v1/webhooks", &body).await.is(201);
    // On PostgreSQL, a second instance that lives on.
    let second = match on {
        Postgres => Some(home.another()),
        _ => None,
    };
    let second = match &second {
        Some(home) => Some(home.start().await),
        None => None,
    };
    let mut published = BTreeSet::new();
    for _ in 0..3 {
        let writer = tokio::spawn(publish(caller(&home, &process)));
        let before = receiver.count();
        wait_for("events to be sent", async || (receiver.count() > before + 200).then_some(()))
            .await;
        process.kill().await;
        published.extend(writer.await.unwrap());
        process = home.start().await;
    }
    // The leases of what the killed ones had taken pass first.
    wait_for("every event to arrive", async || {
        let got: BTreeSet<_> = receiver.got().iter().map(Got::id).collect();
        published.is_subset(&got).then_some(())
    })
    .await;
    // What was taken is said, and nothing is left.
    let caller = caller_with(&home.token(), &process);
    let webhooks = caller.get("/v1/webhooks").await.is(200);
    let id = webhooks["items"][0]["id"].as_str().unwrap().to_owned();
    wait_for("every delivery to be finished", async || {
        let left = caller.get(&format!("/v1/webhooks/{id}/deliveries?state=pending")).await;
        left.is(200)["items"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    assert_eq!(process.stop().await.code(), 0);
    if let Some(second) = second {
        assert_eq!(second.stop().await.code(), 0);
    }
}
