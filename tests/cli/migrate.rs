//! `onceguard migrate`.

use crate::support::{Database, Home};
use crate::{assert_failed, json, migrated};

#[tokio::test]
async fn up_applies_once_and_status_tells() {
    let home = Home::on(Database::Sqlite).await;
    let applied = home.run(&["migrate", "up"]).await.success();
    let names: Vec<_> =
        applied.lines().map(|line| line.strip_prefix("applied ").unwrap()).collect();
    assert!(!names.is_empty());

    let again = home.run(&["migrate", "up"]).await;
    assert!(again.stderr.contains("nothing to apply"), "{again:?}");
    assert_eq!(again.success(), "");

    let status = json(home.run(&["migrate", "status", "--json"]).await);
    assert_eq!(status["pending"], 0);
    let listed: Vec<_> =
        status["migrations"].as_array().unwrap().iter().map(|m| &m["name"]).collect();
    assert_eq!(listed, names);
    let table = home.run(&["migrate", "status"]).await.success();
    assert_eq!(table.lines().count(), names.len() + 1);
    assert!(table.lines().nth(1).unwrap().ends_with("  applied"), "{table}");
}

#[tokio::test]
async fn down_does_nothing_without_a_yes() {
    let home = migrated().await;
    let finished = home.run(&["migrate", "down"]).await;
    assert_failed(&finished, 4, &["deletes everything in the tables", "pass --yes"]);
    assert_eq!(json(home.run(&["migrate", "status", "--json"]).await)["pending"], 0);
}

#[tokio::test]
async fn down_reverts_the_newest_or_all() {
    let home = migrated().await;
    let all = json(home.run(&["migrate", "status", "--json"]).await);
    let names: Vec<_> =
        all["migrations"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    let newest = names.last().unwrap();

    let printed = home.run(&["migrate", "down", "--yes"]).await.success();
    assert_eq!(printed, format!("reverted {newest}\n"));
    assert_eq!(json(home.run(&["migrate", "status", "--json"]).await)["pending"], 1);
    assert_failed(&home.run(&["token", "list"]).await, 4, &["lacks 1 migrations", "migrate up"]);

    let printed = home.run(&["migrate", "down", "--all", "--yes"]).await.success();
    assert_eq!(printed.lines().count(), names.len() - 1);
    let nothing = home.run(&["migrate", "down", "--yes"]).await;
    assert!(nothing.stderr.contains("nothing to revert"), "{nothing:?}");
    home.run(&["migrate", "up"]).await.success();
}

#[tokio::test]
async fn redo_reverts_and_applies_the_newest() {
    let home = migrated().await;
    assert_failed(&home.run(&["migrate", "redo"]).await, 4, &["pass --yes"]);
    let printed = home.run(&["migrate", "redo", "--yes"]).await.success();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].strip_prefix("reverted "), lines[1].strip_prefix("applied "));
}

#[tokio::test]
async fn a_count_of_none_makes_no_sense() {
    let home = migrated().await;
    assert_failed(&home.run(&["migrate", "down", "0", "--yes"]).await, 2, &["0"]);
    assert_failed(&home.run(&["migrate", "down", "1", "--all"]).await, 2, &["--all"]);
}

#[tokio::test]
async fn commands_make_no_database_by_accident() {
    let home = Home::on(Database::Sqlite).await;
    for command in [&["migrate", "status"][..], &["token", "list"], &["stats"], &["purge"]] {
        assert_failed(&home.run(command).await, 4, &["there is no database at", "migrate up"]);
    }
    assert_eq!(std::fs::read_dir(home.folder()).unwrap().count(), 0);
}
