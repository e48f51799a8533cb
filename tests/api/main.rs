//! The HTTP contract, row by row, over HTTP and on both databases: what is answered, how it is
//! refused, and that a refusal changes nothing.
//!
//! `scripts/throwaway-postgres run -- cargo test --test api`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::float_cmp, reason = "the metrics compared are counts")]

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod audit;
mod batches;
mod bodies;
mod bound_tokens;
mod did_paths;
mod dids;
mod document_keys;
mod documents;
mod erasure;
mod etags;
mod events;
mod forward_auth;
mod hosts;
mod idempotency;
mod identifiers;
mod identifiers_public;
mod identifiers_refused;
mod instances;
mod namespaces;
mod nonces;
mod operations;
mod profiles;
mod record_access;
mod record_batches;
mod records;
mod recovery;
mod replays;
mod resolution;
mod revocation;
mod routing;
mod row_security;
mod scopes;
mod search;
mod secrets;
mod session_ends;
mod session_keys;
mod session_lists;
mod sessions;
mod starts;
mod strangers;
mod tls;
mod tokens;
mod verify;
mod verify_sessions;
mod webhook_endpoints;
mod webhook_sending;
mod webhook_tls;
mod webhooks;
