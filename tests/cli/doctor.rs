//! `onceguard doctor` and `onceguard health`.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{Database::Sqlite, Home};
use crate::{assert_failed, json, migrated};

fn verdict<'a>(report: &'a Value, check: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|item| item["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {report}"));
    (found["verdict"].as_str().unwrap(), found["detail"].as_str().unwrap())
}

#[tokio::test]
async fn a_fresh_folder_is_ready_for_its_first_start() {
    let home = Home::on(Sqlite).await;
    let report = json(home.run(&["doctor", "--json"]).await);
    for item in report["checks"].as_array().unwrap() {
        assert_eq!(item["verdict"], "ok", "{item}");
    }
    assert_eq!(std::fs::read_dir(home.folder()).unwrap().count(), 0, "it changes nothing");
}

#[tokio::test]
async fn every_part_has_its_line() {
    let home = migrated(Sqlite).await;
    home.run(&["seed"]).await.success();
    let printed = home.run(&["doctor"]).await.success();
    let names: Vec<_> = printed.lines().map(|line| line[6..19].trim()).collect();
    let expected = [
        "configuration",
        "data folder",
        "disk space",
        "database",
        "migrations",
        "clock",
        "sealing key",
        "API port",
        "ops port",
    ];
    assert_eq!(names, expected, "{printed}");
    assert!(printed.lines().all(|line| line.starts_with("ok    ")), "{printed}");
}

#[tokio::test]
async fn what_is_wrong_fails_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let home = migrated(Sqlite).await.set("server.listen", address);
    home.run(&["seed"]).await.success();
    let wrong = home.run(&["sealing", "generate"]).await.success();
    let key = home.folder().join("sealing.key");
    std::fs::write(&key, wrong).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();

    let finished = home.run(&["doctor", "--json"]).await;
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stderr.contains("3 of 9 checks failed"), "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let (folder, what) = verdict(&report, "data folder");
    assert!(folder == "fail" && what.contains("chmod 600"), "{what}");
    let (sealing, what) = verdict(&report, "sealing key");
    assert!(sealing == "fail" && what.contains("sealing.old_keys"), "{what}");
    let (port, what) = verdict(&report, "API port");
    assert!(port == "fail" && what.contains("another program"), "{what}");
    assert_eq!(verdict(&report, "migrations").0, "ok");
}

#[tokio::test]
async fn a_wrong_configuration_is_a_failed_check() {
    let home = Home::on(Sqlite).await;
    let home = home.set("server.workers", "many").set("claims.queue", "none");
    let finished = home.run(&["doctor"]).await;
    assert_eq!(finished.code(), 1, "{finished:?}");
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{finished:?}");
    assert!(lines[0].starts_with("fail  configuration  server.workers = \"many\""), "{lines:?}");
    assert!(lines[1].starts_with("fail  configuration  claims.queue = \"none\""), "{lines:?}");
}

#[tokio::test]
async fn a_database_that_does_not_answer_fails() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home =
        Home::at(&format!("postgres://onceguard:hunter2@{closed}/onceguard?sslmode=disable"));
    let finished = home.run(&["doctor", "--json"]).await;
    assert_eq!(finished.code(), 1, "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(verdict(&report, "database").0, "fail");
    assert!(!format!("{finished:?}").contains("hunter2"), "{finished:?}");

    assert_failed(&home.run(&["stats"]).await, 3, &["not available"]);
}

#[tokio::test]
async fn health_fails_when_nothing_runs_and_passes_when_it_serves() {
    let home = Home::on(Sqlite).await;
    std::fs::write(home.folder().join("ops.addr"), "127.0.0.1:1\n").unwrap();
    assert_failed(&home.run(&["health"]).await, 1, &["nothing answers", "/readyz"]);

    let serving = home.start().await;
    assert_eq!(home.run(&["health"]).await.success(), "ready\n");
    serving.stop().await.success();
}
