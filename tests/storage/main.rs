//! The rules of the store, on every database: what is said of [`onceguard::storage::Store`]
//! is tested here, and whoever changes a store runs this.
//!
//! `scripts/throwaway-postgres run -- cargo test --test storage`

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
mod assumptions;
mod audit;
mod claim_batches;
mod claim_limits;
mod claim_races;
mod claim_repeats;
mod claims;
mod did_changes;
mod did_model;
mod did_readings;
mod dids;
mod dump;
mod durability;
mod event_retention;
mod events;
mod guard;
mod guard_marks;
mod guard_races;
mod instances;
mod leases;
mod metadata;
mod migrations;
mod model;
mod namespaces;
mod poolers;
mod publications;
mod purge;
mod quick_claims;
mod record_feed;
mod record_model;
mod record_quotas;
mod record_races;
mod record_removal;
mod records;
mod recovered_claims;
mod recovery;
mod recovery_ahead;
mod row_security;
mod sealing;
mod search;
mod session_batches;
mod session_ends;
mod session_lists;
mod sessions;
mod signer_session_races;
mod signer_sessions;
mod statistics;
mod tables;
mod tls;
mod tokens;
mod transfer;
mod unreadable_rows;
mod webhook_upkeep;
mod webhooks;
