//! `onceguard serve`: the start-up contract.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::assert_failed;
use crate::support::{Database, Home};

#[tokio::test]
async fn a_first_start_prints_a_line_that_works_when_pasted() {
    let home = Home::on(Database::Sqlite).await;
    let serving = home.start().await;
    let line = crate::support::wait_for("the line to paste", async || {
        let output = serving.output();
        output.lines().find_map(|line| line.strip_prefix("  curl ").map(|_| line.to_owned()))
    })
    .await;
    let token = home.token();
    assert!(line.contains("$(cat ") && !line.contains(&token), "{line}");
    let pasted =
        Command::new("sh").args(["-c", &format!("{line} --fail --silent")]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&pasted.stdout).unwrap();
    assert_eq!(answer["sessions"]["active"], 0);

    let finished = serving.stop().await;
    assert!(finished.stdout.contains("admin token created in "), "{finished:?}");
    assert!(!finished.stdout.contains(&token) && !finished.stderr.contains(&token));
    finished.success();

    let second = home.start().await.stop().await.success();
    assert!(!second.contains("created"), "{second}");
    assert_eq!(home.token(), token);
}

#[tokio::test]
async fn serving_is_what_it_does_without_a_command() {
    let home = Home::on(Database::Sqlite).await;
    home.start_as(home.command(&[])).await.stop().await.success();
}

#[tokio::test]
async fn secrets_are_for_their_owner_alone() {
    let home = Home::on(Database::Sqlite).await;
    home.start().await.stop().await.success();
    for name in ["admin.token", "sealing.key", "onceguard.db"] {
        let mode = std::fs::metadata(home.folder().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_data_folder_is_served_once() {
    let home = Home::on(Database::Sqlite).await;
    let serving = home.start().await;
    let second = home.run(&["serve"]).await;
    assert_failed(&second, 4, &["another `onceguard serve` uses this data folder"]);
    assert_failed(&home.run(&["migrate", "redo", "--yes"]).await, 4, &["uses this data folder"]);
    serving.stop().await.success();
}

#[tokio::test]
async fn the_configured_admin_token_is_taken_and_not_written_down() {
    let token = "og_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let home = Home::on(Database::Sqlite).await.set("auth.admin_token", token);
    let serving = home.start().await;
    assert!(!home.folder().join("admin.token").exists());
    let finished = serving.stop().await;
    assert!(!format!("{finished:?}").contains(token), "{finished:?}");
    finished.success();
}

#[tokio::test]
async fn a_log_for_machines_is_a_json_object_a_line_in_utc() {
    let home = Home::on(Database::Sqlite).await;
    let finished = home.start().await.stop().await;
    let mut messages = Vec::new();
    for line in finished.stderr.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = event["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.parse::<chrono::DateTime<chrono::Utc>>().is_ok());
        messages.push(event["message"].as_str().unwrap().to_owned());
    }
    for message in ["serving", "stopping", "stopped"] {
        assert!(messages.iter().any(|found| found == message), "{messages:?}");
    }
}

#[tokio::test]
async fn a_log_filter_that_is_none_stops_the_start() {
    let home = Home::on(Database::Sqlite).await;
    let mut command = home.command(&["serve"]);
    command.env("RUST_LOG", "a=b=c");
    assert_failed(&home.spawn(command).finished().await, 2, &["RUST_LOG=a=b=c: "]);
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::on(Database::Sqlite).await;
    let finished = home.run(&["serve", "--listen", &address]).await;
    assert_failed(&finished, 1, &["server.listen: cannot listen on ", &address]);
}

#[tokio::test]
async fn a_closed_standard_output_does_not_keep_it_from_serving() {
    let home = Home::on(Database::Sqlite).await;
    let mut command = Command::new("sh");
    home.equip(command.args(["-c", "exec \"$0\" serve >&-", env!("CARGO_BIN_EXE_onceguard")]));
    home.start_as(command).await.stop().await.success();
}
