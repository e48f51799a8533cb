//! Numbers of rows.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

#[derive(QueryableByName)]
pub(super) struct Count {
    #[diesel(sql_type = BigInt)]
    pub(super) count: i64,
}

/// Of two kinds.
#[derive(QueryableByName)]
pub(super) struct Pair {
    #[diesel(sql_type = BigInt)]
    pub(super) first: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) second: i64,
}
