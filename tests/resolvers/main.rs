//! Where DIDs live: the resolvers against hosts on this machine, honest and hostile ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod service;
mod site;
mod universal;
mod web;
