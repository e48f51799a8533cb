//! `onceguard instances`.

use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::{json, migrated};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn instances_and_their_states_are_listed(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    assert_eq!(json(home.run(&["instances", "--json"]).await), json!({"items": []}));
    let process = home.start().await;
    let name = process.api.to_string();
    let listed = json(home.run(&["instances", "--json"]).await);
    assert_eq!(
        (&listed["items"][0]["name"], &listed["items"][0]["state"]),
        (&json!(name), &json!("active"))
    );
    process.kill().await;
    home.start().await.stop().await;
    let raw = home.raw().await;
    let gone = match on {
        Postgres => "heartbeat_at - interval '61 s'",
        _ => "heartbeat_at - 61000000",
    };
    raw.execute(&format!("UPDATE instances SET heartbeat_at = {gone}")).await;
    let printed = home.run(&["instances"]).await.success();
    let states: Vec<_> =
        printed.lines().map(|line| line.split_whitespace().nth(3).unwrap()).collect();
    assert_eq!(states, ["STATE", "ended", "terminated"], "{printed}");
    assert!(printed.contains(&name), "{printed}");
}
