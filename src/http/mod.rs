//! The HTTP edge: bytes become domain values here, and outcomes become answers.
//!
//! `operations` is the table of what callers can do, and `routes` adds the pages. A request goes
//! `middleware` → `routes` → `call` (size, credential, scope, body) → the resource's handler → a
//! response or a `problem`. Nothing below this module knows HTTP, and nothing here decides whether a
//! nonce is fresh or changes a database but through the services.

pub mod access_log;
pub mod middleware;
pub mod ops;
pub mod routes;

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
mod stats;
mod target;
mod time;
mod values;
mod verify;
mod webhooks;
mod words;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::access_log::StrangersLines;
use crate::budget::Shares;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::Timestamp;
use crate::metrics::Metrics;
use crate::services::{
    Agents, Claims, Dids, Erasure, Events, Evidence, Instances, Readiness, Records, Searches,
    Sessions, Statistics, Tokens, Verdicts, Webhooks,
};

/// What handlers work with. Both listeners get it as `web::Data<State>`.
pub struct State {
    pub agents: Agents,
    pub sessions: Sessions,
    pub claims: Claims,
    pub dids: Dids,
    pub records: Records,
    pub erasure: Erasure,
    pub events: Events,
    pub evidence: Evidence,
    pub tokens: Tokens,
    pub verdicts: Verdicts,
    pub readiness: Readiness,
    pub statistics: Statistics,
    pub instances: Instances,
    pub webhooks: Webhooks,
    pub searches: Searches,
    /// The room that bodies share while they arrive.
    pub bodies: Shares,
    pub metrics: Arc<Metrics>,
    pub strangers_lines: Arc<StrangersLines>,
    pub clock: Clock,
    pub config: Arc<Config>,
    pub started_at: Timestamp,
    /// Set when the service stops: `/readyz` turns 503, requests are still served.
    pub draining: Arc<AtomicBool>,
}
