//! Connections to SQLite: where the file is, how each connection is set up, which process may serve
//! it, and what its errors mean.

pub(super) mod errors;
pub(super) mod lock;
pub(super) mod target;
