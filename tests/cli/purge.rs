//! `onceguard purge`.

use rstest::rstest;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::{json, migrated, stats};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_and_changes_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let raw = home.raw().await;
    let (opened, expired) = match on {
        Postgres => ("now() - interval '2 h'", "now() - interval '1 h'"),
        _ => ("(unixepoch() - 7200) * 1000000", "(unixepoch() - 3600) * 1000000"),
    };
    raw.execute(&format!(
        "UPDATE sessions SET created_at = {opened}, expires_at = {expired}, deadline = {expired}"
    ))
    .await;

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
    // What changed nothing left no event.
    let events = "FROM events WHERE type = 'onceguard.database.purged' AND actor = 'operator'";
    assert_eq!(raw.number(&format!("count(*) {events}")).await, 1);
    let expired = "max(CAST(data ->> 'sessions_expired' AS bigint))";
    assert_eq!(raw.number(&format!("{expired} {events}")).await, 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sessions_past_their_retention_leave_with_their_nonces(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let raw = home.raw().await;
    let ended = if on == Postgres { "to_timestamp(1)" } else { "1" };
    raw.execute(&format!(
        "UPDATE sessions
            SET ended_at = {ended}, end_reason = 'ended', session_key = NULL, key_id = NULL"
    ))
    .await;
    let table = home.run(&["purge"]).await.success();
    let row = |what: &str| table.lines().find(|line| line.starts_with(what)).unwrap().to_owned();
    assert!(row("ended sessions deleted").ends_with("  3"), "{table}");
    assert!(row("nonces of sessions deleted").ends_with("  3"), "{table}");
    let counts = stats(&home).await;
    assert_eq!(counts["live_nonces"], 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn dids_that_nobody_asks_for_leave(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let raw = home.raw().await;
    let time = |day: u32| match on {
        Postgres => format!("to_timestamp({day} * 86400)"),
        _ => format!("{day} * 86400000000"),
    };
    raw.execute(&format!(
        "INSERT INTO dids (did, document, source, fetched_at, stale_at, created_at, updated_at)
            VALUES ('did:web:unused.example', '{{}}', 'web', {fetched}, {stale}, {fetched}, {fetched})",
        fetched = time(1),
        stale = time(2),
    ))
    .await;
    assert_eq!(json(home.run(&["purge", "--dry-run", "--json"]).await)["dids_deleted"], 1);
    let table = home.run(&["purge"]).await.success();
    let row = table.lines().find(|line| line.starts_with("unused DIDs deleted")).unwrap();
    assert!(row.ends_with("  1"), "{table}");
    assert_eq!(raw.number("count(*) FROM dids").await, 0);
}
