//! `onceguard audit list`, `follow` and `export`.

use std::process::{Command, Stdio};

use rstest::rstest;
use serde_json::{Value, json};

use crate::records::url;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Home, Running, store_at, wait_for};
use crate::{assert_failed, json, migrated};

/// A log with tokens that were made.
async fn filled(on: Database, count: usize) -> Home {
    let home = migrated(on).await;
    for number in 0..count {
        let name = format!("token-{number}");
        home.run(&["token", "create", "--name", &name, "--scope", "audit"]).await.success();
    }
    link(&home).await;
    home
}

/// Gives every event its place, as a serving instance does.
async fn link(home: &Home) {
    let store = store_at(&url(home)).await;
    while store.link_events().await.unwrap() > 0 {}
    store.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_and_exported(#[values(Sqlite, Postgres)] on: Database) {
    let home = filled(on, 3).await;
    let of_type = ["--type", "onceguard.token.created"];
    let list = |more: &[&str]| [&["audit", "list"], &of_type[..], more].concat().join("\u{0}");
    let run = async |line: String| home.run(&line.split('\u{0}').collect::<Vec<_>>()).await;
    let listed = json(run(list(&["--json", "--limit", "2"])).await);
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!((&items[0]["actor"], &items[0]["outcome"]), (&json!("operator"), &json!("success")));
    let since = listed["next_cursor"].as_str().unwrap();
    let rest = json(run(list(&["--json", "--since", since])).await);
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    let none = json(run(list(&["--json", "--from", "2999-01-01T00:00:00Z"])).await);
    assert_eq!(none["items"], json!([]));
    let printed = run(list(&["--limit", "2"])).await;
    assert!(printed.stderr.contains(&format!("--since {since}")), "{printed:?}");
    assert_eq!(printed.success().lines().count(), 3);

    let exported = home.run(&["audit", "export", "--type", of_type[1]]).await.success();
    let lines: Vec<Value> =
        exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    for (line, item) in lines.iter().zip(items) {
        assert_eq!(line["specversion"], "1.0");
        assert_eq!(line["datacontenttype"], "application/json");
        for (name, of_item) in [
            ("id", "id"),
            ("source", "source"),
            ("type", "type"),
            ("subject", "subject"),
            ("time", "at"),
            ("data", "data"),
        ] {
            assert_eq!(line[name], item[of_item], "{name}");
        }
        // CloudEvents has no null, and names of lower-case letters and digits.
        let members = line.as_object().unwrap();
        assert!(members.values().all(|value| !value.is_null()), "{line}");
        let fits =
            |name: &String| name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(members.keys().all(fits), "{line}");
    }
    assert_failed(&home.run(&["audit", "list", "--since", "x"]).await, 2, &["--since"]);
    assert_failed(&home.run(&["audit", "list", "--from", "today"]).await, 2, &["--from"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_prints_what_comes_until_it_is_stopped(
    #[values(Sqlite, Postgres)] on: Database,
    #[values("INT", "TERM")] signal: &str,
) {
    let home = filled(on, 2).await;
    let following = Running::start(home.command(&["audit", "follow", "--json"]));
    let from_the_start =
        Running::start(home.command(&["audit", "follow", "--since", "AAAAAAAAAAA"]));
    wait_for("the old events", async || {
        (from_the_start.output().lines().count() >= 2).then_some(())
    })
    .await;
    let mut number = 0;
    // Until it has begun, nothing is new to it.
    wait_for("a new event", async || {
        number += 1;
        let name = format!("new-{number}");
        home.run(&["token", "create", "--name", &name, "--scope", "audit"]).await.success();
        link(&home).await;
        following.output().contains("onceguard.token.created").then_some(())
    })
    .await;
    following.signal(signal);
    let finished = following.finished().await;
    assert_eq!(finished.code(), 0, "{finished:?}");
    for line in finished.stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["sequence"].as_u64().unwrap() > 2, "an old event: {line}");
    }
    from_the_start.signal(signal);
    assert_eq!(from_the_start.finished().await.code(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_failure(#[values(Sqlite, Postgres)] on: Database) {
    let home = filled(on, 2).await;
    for command in ["export", "list"] {
        // Nothing ever reads the other end.
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let mut process: Command = home.command(&["audit", command]);
        process.stdout(Stdio::from(write));
        // A busy machine has slow statements, of which the log would warn.
        process.env("RUST_LOG", "error");
        let finished = Running::start(process).finished().await;
        assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{command}: {finished:?}");
    }
}
