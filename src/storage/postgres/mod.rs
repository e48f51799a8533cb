//! The PostgreSQL store, by diesel-async. Each subject has a file or folder beside this one, which holds
//! its SQL.
//!
//! Every operation runs through `connection::run`. Nothing here decides a time: the
//! database's clock does, in SQL.

mod applied;
mod arrival;
mod arriving;
mod claims;
mod connection;
mod count;
mod dids;
mod dump;
mod erasure;
mod events;
mod grants;
mod guard;
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
mod row_security;
mod schema;
mod sealing;
mod search;
mod sessions;
mod statistics;
mod store;
mod tokens;
mod transfer;
mod webhooks;

pub use arrival::PostgresTarget;
use connection::errors::{of_its_row, unreadable};
pub use store::PostgresStore;
