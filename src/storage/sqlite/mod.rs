//! The SQLite store: one file, one writing thread that commits groups, and a few reading threads.
//!
//! Each subject has a file or folder beside this one. It holds the subject's SQL, and says of each
//! call whether it reads or writes. Every write is in a transaction that first took the write lock,
//! and is on disk when its call returns.
//!
//! A row that is found by its key is loaded by `get_result`, not by `first`: that binds a `LIMIT`, and
//! SQLite compiles a statement anew whenever a parameter of its `LIMIT` is bound. That took half of
//! the time of a reading.

mod claims;
mod connection;
mod dids;
mod dump;
mod erasure;
mod events;
mod health;
mod history;
mod instances;
mod leases;
mod migrations;
mod publications;
mod purge;
mod records;
mod recovery;
mod restore;
mod schema;
mod sealing;
mod search;
mod serving;
mod sessions;
mod statistics;
mod store;
mod threads;
mod tokens;
mod transfer;
mod types;
mod webhooks;
mod words;

pub use connection::lock::{DatabaseLock, DatabaseLockError};
pub use restore::restore;
pub use store::SqliteStore;
pub use transfer::receive;
