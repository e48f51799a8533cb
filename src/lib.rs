//! onceguard: the trust-state service for agents.

pub mod clock;
pub mod config;
pub mod domain;
pub mod metrics;
pub mod storage;
