//! `kill -9` while events are published by two instances: what was answered is there, and nothing is
//! there twice once calls are repeated with their keys.

use std::collections::HashMap;

use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::load::caller;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, Home, wait_for};

const WRITERS: usize = 4;

/// A call, and the ids of its answer, if one came.
struct Made {
    body: Value,
    key: String,
    ids: Option<Vec<String>>,
}

fn body(name: &str, count: usize) -> Value {
    let events =
        (0..count).map(|n| json!({"type": "test.killed", "subject": format!("{name}/{n}")}));
    json!({"events": events.collect::<Vec<_>>()})
}

async fn publish(caller: &Caller, made: &Made) -> Option<Vec<String>> {
    let request = caller.request("POST", "/v1/events").header("idempotency-key", &made.key);
    let answer = request.json(&made.body).try_send().await.ok()?;
    if answer.status == 503 {
        return None;
    }
    let answer = answer.is(200);
    let ids = answer["ids"].as_array().unwrap().iter();
    Some(ids.map(|id| id.as_str().unwrap().to_owned()).collect())
}

/// Publishes until an answer does not come.
async fn write(caller: Caller, name: String) -> Vec<Made> {
    let mut all = Vec::new();
    for call in 0.. {
        let name = format!("{name}/{call}");
        // A few calls are large.
        let count = if call % 7 == 6 { 1500 } else { 1 + call % 5 };
        let mut made = Made { body: body(&name, count), key: name, ids: None };
        made.ids = publish(&caller, &made).await;
        let lost = made.ids.is_none();
        all.push(made);
        if lost {
            break;
        }
    }
    all
}

/// The id of each subject; fails if any is there twice.
async fn log(caller: &Caller) -> HashMap<String, String> {
    let (mut found, mut since) = (HashMap::new(), String::new());
    loop {
        let page =
            caller.get(&format!("/v1/events?type=test.killed&limit=500{since}")).await.is(200);
        let items = page["items"].as_array().unwrap();
        if items.is_empty() {
            return found;
        }
        for item in items {
            let text = |name: &str| item[name].as_str().unwrap().to_owned();
            let other = found.insert(text("subject"), text("id"));
            assert_eq!(other, None, "{item} is there twice");
        }
        since = format!("&since={}", page.text_of("next_cursor"));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_there_and_nothing_twice(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await;
    let first = home.start().await;
    let token = caller(&home, &first);
    // On PostgreSQL, a second instance that lives on.
    let second = match on {
        Postgres => Some(home.another()),
        _ => None,
    };
    let second = match &second {
        Some(home) => Some(home.start().await),
        None => None,
    };
    let at = |process: &crate::support::Process| {
        let http = crate::support::http_client().build().unwrap();
        Caller::new(http, format!("http://{}", process.api), Some(token.token_text()))
    };
    let mut process = first;
    let mut made = Vec::new();
    for kill in 0..3 {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write(at(&process), format!("{kill}/{writer}")));
        }
        let raw = home.raw().await;
        let before = raw.number("count(*) FROM events").await;
        wait_for("events to be published", async || {
            (raw.number("count(*) FROM events").await > before + 4000).then_some(())
        })
        .await;
        process.kill().await;
        while let Some(all) = writers.join_next().await {
            made.extend(all.unwrap());
        }
        process = home.start().await;
        // The other instance knows what the killed one has written.
        let other = second.as_ref().map_or_else(|| at(&process), at);
        for call in &mut made {
            let ids = publish(&other, call).await.expect("an answer");
            let known = call.ids.get_or_insert_with(|| ids.clone());
            assert_eq!(*known, ids, "{}", call.key);
        }
    }
    let caller = at(&process);
    let count: usize = made.iter().map(|call| call.ids.as_ref().unwrap().len()).sum();
    let found = wait_for("the log to have them all", async || {
        let found = log(&caller).await;
        (found.len() >= count).then_some(found)
    })
    .await;
    assert_eq!(found.len(), count);
    for call in &made {
        for (event, id) in
            call.body["events"].as_array().unwrap().iter().zip(call.ids.as_ref().unwrap())
        {
            assert_eq!(found.get(event["subject"].as_str().unwrap()), Some(id));
        }
    }
    assert_eq!(process.stop().await.code(), 0);
    if let Some(second) = second {
        assert_eq!(second.stop().await.code(), 0);
    }
}
