//! Signed requests through the library's public interface: the order of checks, the traps that
//! others fell into, published attack vectors, and properties of whatever we sign.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod messages;
mod order;
mod profiles;
mod properties;
mod traps;
mod vectors;
mod wycheproof;
