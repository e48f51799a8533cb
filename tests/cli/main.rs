//! The binary as operators and scripts see it: what it prints, where, and its exit codes.

#![allow(clippy::float_cmp, reason = "the metrics compared are counts")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod arrivals;
mod audit;
mod audit_log;
mod backup;
mod config;
mod doctor;
mod doctor_records;
mod doctor_webhooks;
mod encryption;
mod instances;
mod key;
mod logs;
mod migrate;
mod papers;
mod purge;
mod records;
mod recover;
mod restore;
mod revocations;
mod running;
mod sealing;
mod seed;
mod serve;
mod sign;
mod stats;
mod token;
mod transfer;
mod verify;
mod webhooks;

use serde_json::Value;
use support::{Database, Finished, Home};

/// A data folder with a database that has every table and no row.
async fn migrated(on: Database) -> Home {
    let home = Home::on(on).await;
    if on == Database::Sqlite {
        home.run(&["migrate", "up"]).await.success();
    }
    home
}

/// What a successful command printed for a machine.
fn json(finished: Finished) -> Value {
    serde_json::from_str(&finished.success()).unwrap()
}

/// What `onceguard stats` tells.
async fn stats(home: &Home) -> Value {
    // PostgreSQL estimates nonces from its planner's statistics.
    home.raw().await.execute("ANALYZE").await;
    json(home.run(&["stats", "--json"]).await)
}

/// Asserts how a command failed: with this code, nothing on standard output, and these words.
fn assert_failed(finished: &Finished, code: i32, words: &[&str]) {
    assert_eq!(finished.code(), code, "{finished:?}");
    assert_eq!(finished.stdout, "", "{finished:?}");
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?} is not in {finished:?}");
    }
}
