//! A number of rows.

use diesel::prelude::*;
use diesel::sql_types::BigInt;

#[derive(QueryableByName)]
pub(super) struct Count {
    #[diesel(sql_type = BigInt)]
    pub(super) count: i64,
}
