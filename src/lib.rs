//! onceguard is the trust-state service for agents: it keeps sessions between DIDs, accepts every
//! nonce at most once (durably, across instances), and caches DID keys and revocations.
//!
//! The modules, from the edge inwards; dependencies point down only (`scripts/check-layers` says
//! which module may name which):
//!
//! - [`cli`] is the command line, and [`telemetry`] its logs;
//! - [`app`] builds everything from a configuration, once;
//! - [`http`] is the edge: routes, credentials, problems;
//! - [`jobs`] does what nobody calls for;
//! - [`services`] are the use cases: sessions, claims, DIDs, tokens, sealing;
//! - [`storage`] is the one interface to a database, and its two stores;
//! - [`archive`] is the form of backups;
//! - [`resolvers`] read DIDs from where they live;
//! - [`signatures`] reads, checks and makes signed requests: no I/O, no clock;
//! - [`domain`] holds the types and the rules: no I/O, no clock;
//! - [`budget`] bounds what callers cost;
//! - [`clock`], [`data_dir`], [`metrics`], [`origin`] and `authorities` serve all of them.
//!
//! [`signatures`] and [`domain`] are the crate `onceguard-core`, which depends on nothing of the
//! service. Code of the service names them as modules of its own.

pub mod app;
pub mod archive;
mod authorities;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod http;
pub mod jobs;
pub mod metrics;
pub mod origin;
mod priority;
pub mod resolvers;
mod server;
pub mod services;
pub mod storage;
pub mod telemetry;
pub mod tls;

pub use onceguard_core::{domain, signatures};
