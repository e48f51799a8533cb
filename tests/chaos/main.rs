//! The promises of the service under fire: killed processes, crashed databases, cut connections,
//! wrong clocks, full queues, several instances.
//!
//! `scripts/throwaway-postgres run -- cargo test --test chaos`
//!
//! Only `strangers` measures time, and compares it with a moment before. Every wait for an event
//! has a generous deadline, which only a failing test reaches.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::float_cmp, reason = "the metrics compared are counts")]
#![allow(unreachable_pub, reason = "a test crate is its own root")]

#[path = "../support/mod.rs"]
mod support;

mod load;
mod services;

mod backup;
mod clock;
mod contention;
mod cut_connection;
mod cuts;
mod cuts_under_load;
mod data_folder;
mod did_cache;
mod events;
mod failover;
mod full_disk;
mod graceful_stop;
mod instances;
mod killed;
mod locked_rows;
mod log_sink;
mod one_winner;
mod overload;
mod postgres_crash;
mod power_cut;
mod record_devices;
mod records;
mod revocation;
mod sealing;
mod session_lines;
mod standby;
mod strangers;
mod verdicts;
mod webhooks;
