//! What handlers work with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::strangers_lines::StrangersLines;
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
