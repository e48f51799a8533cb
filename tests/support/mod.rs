//! What all test crates share: databases to test on, data to put into them, and faults.
//!
//! A test without its database fails, and says how to provide one. It is never skipped.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test crate is its root, and uses a part of it"
)]

mod agent;
mod app;
mod authority;
mod builders;
mod chaos_proxy;
mod client;
mod databases;
mod private_postgres;
mod process;
mod raw_http;
mod raw_sql;
mod receiver;
mod upstream;

pub use agent::{Agent, Message};
pub use app::{TestApp, start_application};
pub use authority::{Authority, certificate};
pub use builders::*;
pub use chaos_proxy::{ChaosProxy, Cut};
pub use client::{Answer, CODES, Caller, Request, http_client, send_bytes};
pub use databases::{
    Database, Limits, PostgresDatabase, TestStore, database_config, database_url, store_at,
};
pub use private_postgres::PrivatePostgres;
pub use process::{DEADLINE, Finished, Home, Process, Running, SEALING_KEY, wait_for};
pub use raw_http::RawHttp;
pub use raw_sql::RawSql;
pub use receiver::{Answers, Got, Receiver};
pub use upstream::{Says, Upstream, an_upstream_did, document as upstream_document};
