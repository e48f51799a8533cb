//! A log that cannot be written loses only log lines, and those are counted.

use std::fs::OpenOptions;
use std::io::{PipeReader, Write as _};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::load::{caller, ops};
use crate::support::{Caller, Database, Home, Process, wait_for};

const DROPPED: &str = "onceguard_log_lines_dropped_total";

/// Claims so often, and is accepted each time.
async fn claims(caller: &Caller, times: usize) {
    let path = format!("/v1/sessions/{}/nonces", caller.session().await);
    for number in 0..times {
        caller.post(&path, &json!({ "nonce": number.to_string() })).await.is(201);
    }
}

async fn dropped(ops: &Caller, reason: &str) -> f64 {
    ops.metric(DROPPED, &[&format!("reason=\"{reason}\"")]).await
}

/// Serves with this as standard error.
async fn serve(home: &Home, stderr: impl Into<Stdio>) -> Process {
    let mut command = home.command(&["serve"]);
    command.stderr(stderr);
    home.start_as(command).await
}

/// Every request is answered, each lost line is counted, and the stop is orderly.
async fn loses_only_lines(home: Home, process: Process) {
    claims(&caller(&home, &process), 20).await;
    let ops = ops(&process);
    wait_for("the lost lines to be counted", async || {
        (dropped(&ops, "unwritable").await >= 20.0).then_some(())
    })
    .await;
    assert_eq!(dropped(&ops, "full").await, 0.0);
    assert_eq!(process.stop().await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_disk_fails_nothing() {
    let home = Home::on(Database::Sqlite).await;
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let process = serve(&home, full).await;
    loses_only_lines(home, process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_log_that_goes_fails_nothing() {
    let home = Home::on(Database::Sqlite).await;
    let (reader, writer) = std::io::pipe().unwrap();
    let process = serve(&home, writer).await;
    claims(&caller(&home, &process), 5).await;
    drop(reader);
    loses_only_lines(home, process).await;
}

/// When standard error is closed at the start, there is no log, and no line counts as lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_standard_error_fails_nothing() {
    let home = Home::on(Database::Sqlite).await;
    let mut command = Command::new("sh");
    home.equip(command.args(["-c", "exec \"$0\" serve 2>&-", env!("CARGO_BIN_EXE_onceguard")]));
    let process = home.start_as(command).await;
    claims(&caller(&home, &process), 20).await;
    assert_eq!(process.stop().await.code(), 0);
}

/// A full pipe that no process reads, and its reader, which keeps it open.
fn a_full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
    writer.write_all(&vec![b'.'; size]).unwrap();
    (reader, writer.into())
}

/// No process reads the log, and there is much of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_delays_nothing() {
    let home = Home::on(Database::Sqlite).await.set("log.filter", "trace");
    let (reader, full) = a_full_pipe();
    let process = serve(&home, full).await;
    let (caller, ops) = (caller(&home, &process), ops(&process));
    wait_for("there to be no room for lines", async || {
        claims(&caller, 100).await;
        (dropped(&ops, "full").await > 0.0).then_some(())
    })
    .await;
    claims(&caller, 20).await;
    assert_eq!(process.stop().await.code(), 0);
    drop(reader);
}

/// The announcement on standard output must not delay anything either.
#[tokio::test(flavor = "multi_thread")]
async fn a_standard_output_that_nobody_reads_delays_nothing() {
    let home = Home::on(Database::Sqlite).await;
    let (reader, full) = a_full_pipe();
    let mut command = home.command(&["serve"]);
    command.stdout(full);
    let process = home.start_as(command).await;
    claims(&caller(&home, &process), 20).await;
    assert_eq!(process.stop().await.code(), 0);
    drop(reader);
}

/// A start that fails says so. If no process reads that, it still fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_ends_though_nobody_reads_why() {
    let home = Home::on(Database::Sqlite).await;
    let serving = home.start().await;
    let (reader, full) = a_full_pipe();
    let mut second = home.command(&["serve"]);
    second.stderr(full);
    assert_eq!(crate::support::Running::start(second).finished().await.code(), 4);
    drop(reader);
    assert_eq!(serving.stop().await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_logged_last_is_written_before_the_end() {
    let home = Home::on(Database::Sqlite).await;
    for _ in 0..20 {
        let stopped = home.start().await.stop().await;
        assert_eq!(stopped.code(), 0);
        let last = stopped.stderr.lines().last().unwrap_or_default();
        assert!(last.contains("\"stopped\""), "{stopped:?}");
    }
}
