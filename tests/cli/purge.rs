//! `onceguard purge`.

use crate::{json, migrated};

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let home = migrated().await;
    home.run(&["seed"]).await.success();
    let raw = home.raw().await;
    raw.execute("UPDATE sessions SET created_at = 0, expires_at = 1, deadline = 1").await;

    for _ in 0..2 {
        let planned = json(home.run(&["purge", "--dry-run", "--json"]).await);
        assert_eq!(planned["dry_run"], true);
        assert_eq!(planned["sessions_expired"], 3);
        assert_eq!(planned["sessions_deleted"], 0);
    }
    let done = json(home.run(&["purge", "--json"]).await);
    assert_eq!(done["dry_run"], false);
    assert_eq!(done["sessions_expired"], 3);
    let after = json(home.run(&["purge", "--json"]).await);
    assert_eq!(after["sessions_expired"], 0);
}

#[tokio::test]
async fn sessions_past_their_retention_leave_with_their_nonces() {
    let home = migrated().await;
    home.run(&["seed"]).await.success();
    let raw = home.raw().await;
    let end =
        "UPDATE sessions SET ended_at = 1, end_reason = 'ended', session_key = NULL, key_id = NULL";
    raw.execute(end).await;
    let table = home.run(&["purge"]).await.success();
    let row = |what: &str| table.lines().find(|line| line.starts_with(what)).unwrap().to_owned();
    assert!(row("ended sessions deleted").ends_with("  3"), "{table}");
    assert!(row("nonces of sessions deleted").ends_with("  3"), "{table}");
    let stats = json(home.run(&["stats", "--json"]).await);
    assert_eq!(stats["live_nonces"], 0);
}
