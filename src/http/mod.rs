//! The HTTP edge: bytes become domain values here, and outcomes become answers.
//!
//! `operations` is the table of what callers can do, and `routes` adds the pages. A request goes
//! `middleware` → `routes` → `call` (size, credential, scope, body) → the resource's handler → a
//! response or a `problem`. Nothing below this module knows HTTP, and nothing here decides whether a
//! nonce is fresh or changes a database but through the services.

pub mod middleware;
pub mod ops;
pub mod routes;

mod access_log;
mod auth;
mod body;
mod call;
mod caller;
mod claims;
mod code;
mod connection;
mod credentials;
mod dids;
mod entry;
mod erasure;
mod etag;
mod events;
mod example;
mod exchange;
mod fields;
mod forward_auth;
mod idempotency;
mod identifiers;
mod input;
mod instances;
mod namespaces;
mod node;
mod nonces;
mod openapi;
mod operations;
mod pages;
mod path;
mod peer;
mod problem;
mod records;
mod search;
mod sessions;
mod state;
mod stats;
mod strangers_lines;
mod target;
mod time;
mod values;
mod verify;
mod webhooks;
mod words;

pub use state::State;
pub use strangers_lines::StrangersLines;
