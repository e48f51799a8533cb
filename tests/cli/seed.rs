//! `onceguard seed`.

use crate::support::{Database, Home};
use crate::{assert_failed, json, migrated};

#[tokio::test]
async fn dev_has_four_dids_three_sessions_and_three_nonces() {
    let home = migrated().await;
    let printed = home.run(&["seed"]).await.success();
    assert_eq!(printed, "4 DIDs (1 revoked), 3 sessions, 3 nonces\n");
    let stats = json(home.run(&["stats", "--json"]).await);
    assert_eq!(stats["dids"], serde_json::json!({ "stored": 4, "revoked": 1 }));
    assert_eq!(stats["sessions"]["active"], 3);
    assert_eq!(stats["live_nonces"], 3);
}

#[tokio::test]
async fn staging_is_larger_and_running_twice_changes_nothing() {
    let home = migrated().await;
    home.run(&["seed", "staging"]).await.success();
    let first = json(home.run(&["stats", "--json"]).await);
    assert_eq!(first["dids"], serde_json::json!({ "stored": 50, "revoked": 5 }));
    assert_eq!(first["sessions"]["active"], 180);
    assert_eq!(first["live_nonces"], 1800);

    let again = home.run(&["seed", "staging"]).await;
    assert!(again.stderr.contains("was there already"), "{again:?}");
    again.success();
    let second = json(home.run(&["stats", "--json"]).await);
    for count in ["dids", "sessions", "live_nonces"] {
        assert_eq!(first[count], second[count]);
    }
}

#[tokio::test]
async fn a_database_with_other_data_is_refused() {
    let home = migrated().await;
    home.run(&["seed", "dev"]).await.success();
    assert_failed(&home.run(&["seed", "staging"]).await, 4, &["holds other data"]);
    let stats = json(home.run(&["stats", "--json"]).await);
    assert_eq!(stats["dids"]["stored"], 4);
}

#[tokio::test]
async fn a_seed_that_was_cut_short_is_finished() {
    let home = migrated().await;
    home.run(&["seed"]).await.success();
    let raw = home.raw().await;
    raw.execute("DELETE FROM nonces").await;
    raw.execute("DELETE FROM sessions").await;
    home.run(&["seed"]).await.success();
    let stats = json(home.run(&["stats", "--json"]).await);
    assert_eq!((&stats["sessions"]["active"], &stats["live_nonces"]), (&3.into(), &3.into()));
}

#[tokio::test]
async fn an_unmigrated_database_is_refused() {
    let home = Home::on(Database::Sqlite).await;
    assert_failed(&home.run(&["seed"]).await, 4, &["there is no database"]);
    assert_failed(&home.run(&["seed", "production"]).await, 2, &["dev", "staging"]);
}
