//! `onceguard stats`.

use crate::{json, migrated};

#[tokio::test]
async fn the_busiest_clients_and_the_sizes_are_told() {
    let home = migrated().await;
    home.run(&["seed", "staging"]).await.success();
    let stats = json(home.run(&["stats", "--top", "2", "--json"]).await);
    assert_eq!(stats["backend"], "sqlite");
    assert_eq!(stats["top_clients"].as_array().unwrap().len(), 2);
    assert_eq!(stats["top_clients"][0]["active_sessions"], 4);
    assert!(stats["database"]["bytes"].as_u64().unwrap() > 0);
    let tables = stats["database"]["tables"].as_array().unwrap();
    assert!(tables.iter().any(|table| table["name"] == "nonces"), "{tables:?}");

    let printed = home.run(&["stats"]).await.success();
    assert!(printed.contains("active sessions  180\n"), "{printed}");
    assert!(printed.contains("did:example:agent-"), "{printed}");
}
