//! Whether the database is being filled.

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::applied;
use super::schema::{history, transfers};
use crate::domain::Timestamp;
use crate::storage::arriving::{Arriving, can_depart};

/// The direction of the transfer that fills, or filled, this database.
pub(super) const FROM: &str = "from";

#[derive(Queryable, Selectable)]
#[diesel(table_name = transfers, check_for_backend(diesel::pg::Pg))]
struct ArrivingRow {
    id: Uuid,
    peer: String,
    began_at: Timestamp,
    moved_at: Option<Timestamp>,
}

/// What a database says of itself that a transfer has begun to fill, and has not ended; `None` for
/// every other.
pub(super) async fn arriving(c: &mut AsyncPgConnection) -> QueryResult<Option<Arriving>> {
    if !can_depart(&applied::status(c).await?) {
        return Ok(None);
    }
    let ended = exists(history::table.select(history::generation));
    let unfinished = transfers::table.find(FROM).filter(not(ended));
    let found: Option<ArrivingRow> =
        unfinished.select(ArrivingRow::as_select()).first(c).await.optional()?;
    Ok(found.map(|ArrivingRow { id, peer: from, began_at, moved_at }| Arriving {
        id,
        from,
        began_at,
        has_all: moved_at.is_some(),
    }))
}
