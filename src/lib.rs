//! onceguard: the trust-state service for agents.

pub mod clock;
pub mod config;
pub mod data_dir;
pub mod domain;
pub mod jobs;
pub mod metrics;
pub mod resolvers;
pub mod services;
pub mod storage;
