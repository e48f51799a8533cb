//! `onceguard stats`.

use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::{json as told, migrated};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_busiest_clients_and_the_sizes_are_told(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed", "staging"]).await.success();
    let stats = told(home.run(&["stats", "--top", "2", "--json"]).await);
    let backend = if on == Postgres { "postgresql" } else { "sqlite" };
    assert_eq!(stats["backend"], backend);
    assert_eq!(stats["top_clients"].as_array().unwrap().len(), 2);
    assert_eq!(stats["top_clients"][0]["active_sessions"], 4);
    assert!(stats["database"]["bytes"].as_u64().unwrap() > 0);
    let tables = stats["database"]["tables"].as_array().unwrap();
    assert!(tables.iter().any(|table| table["name"] == "nonces"), "{tables:?}");

    // Ten records of each of 45 DIDs.
    let records = &stats["records"];
    assert_eq!((&records["owners"], &records["records"]), (&json!(45), &json!(450)));
    assert_eq!(records["agents"], json!({ "records": 0, "bytes": 0 }));
    let kinds = json!([{ "kind": "sync", "records": 180 }, { "kind": "backup", "records": 90 }]);
    assert_eq!(records["top_kinds"], kinds);

    let mut webhooks = stats["webhooks"].clone();
    let waits = webhooks["oldest_pending_seconds"].take();
    assert!(waits.as_u64().is_some(), "{stats}");
    let expected = json!({
        "active": 0, "paused": 1, "disabled": 0,
        "pending": 1, "dead": 1, "oldest_pending_seconds": null,
    });
    assert_eq!(webhooks, expected);

    let printed = home.run(&["stats"]).await.success();
    assert!(printed.contains("active sessions    180\n"), "{printed}");
    assert!(printed.contains("did:example:agent-"), "{printed}");
    for line in [
        "record owners      45\n",
        "records            450\n",
        "sync        180\n",
        "events given up    1\n",
    ] {
        assert!(printed.contains(line), "{line:?} is not in {printed}");
    }
}
