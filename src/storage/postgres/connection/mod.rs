//! Connections to PostgreSQL: how one is opened and set up, the pool that lends them, how a
//! statement is run on one, and what its errors mean. Knows no table.

pub(super) mod assumptions;
pub(super) mod confirm;
pub(super) mod connect;
pub(super) mod errors;
pub(super) mod failure;
pub(super) mod operation;
pub(super) mod pool;
pub(super) mod run;
pub(super) mod statement;
pub(super) mod tls;
pub(super) mod work;
