//! The purge of the log: it cuts off the beginning, up to a signed head.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bytea, Double};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::storage::Result;
use crate::storage::postgres::PostgresStore;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::count::Pair;
use crate::storage::postgres::events::{link_all, lock_chain, record};
use crate::storage::postgres::schema::{event_chain, event_heads};
use crate::storage::postgres::sessions::row::unsigned;
use crate::storage::purge::log_cut;

/// The first event that stays: it is younger than the retention (`$1`), or it is younger than `$2` and
/// a webhook is still to be sent it.
macro_rules! first_to_stay {
    () => {
        "least(
            (
                SELECT sequence FROM events
                WHERE sequence > (SELECT cut_sequence FROM event_chain)
                    AND at >= now() - make_interval(secs => $1)
                ORDER BY sequence LIMIT 1
            ),
            (
                SELECT sequence FROM events
                WHERE at >= now() - make_interval(secs => $2) AND sequence >= (
                    SELECT least(
                        (SELECT min(last_sequence) + 1 FROM webhooks),
                        (
                            SELECT min(sequence) FROM webhook_deliveries
                            WHERE state IN ('pending', 'dead')
                        )
                    )
                )
                ORDER BY sequence LIMIT 1
            ),
            9223372036854775807
        )"
    };
}

/// The newest head with nothing before it that stays.
const HEAD: &str = concat!(
    "SELECT sequence, hash FROM event_heads
    WHERE sequence > (SELECT cut_sequence FROM event_chain) AND sequence < ",
    first_to_stay!(),
    " ORDER BY sequence DESC LIMIT 1"
);

const DELETE: &str = "
    DELETE FROM events WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM events
        WHERE sequence <= (SELECT cut_sequence FROM event_chain)
        ORDER BY sequence LIMIT $1
    ))";

/// Up to where the purge would cut the log, and how many events it would delete.
const PREVIEW: &str = concat!(
    "WITH cut AS (
        SELECT greatest(
            (SELECT cut_sequence FROM event_chain),
            (SELECT max(sequence) FROM event_heads WHERE sequence < ",
    first_to_stay!(),
    ")
        ) AS sequence
    )
    SELECT (SELECT sequence FROM cut) AS first,
        (SELECT count(*) FROM events WHERE sequence <= (SELECT sequence FROM cut)) AS second"
);

#[derive(QueryableByName)]
struct Head {
    #[diesel(sql_type = BigInt)]
    sequence: i64,
    #[diesel(sql_type = Bytea)]
    hash: Vec<u8>,
}

impl PostgresStore {
    /// Deletes up to `limit` events of what is cut off.
    pub(super) async fn cut_events(
        &self,
        retention: Duration,
        undelivered: Duration,
        limit: u32,
    ) -> Result<u64> {
        self.transaction("cut_events", async |c| {
            move_cut(c, retention, undelivered).await?;
            let delete = sql_query(DELETE).bind::<BigInt, _>(i64::from(limit));
            unsigned(Prepared(delete).execute(c).await?)
        })
        .await
    }
}

/// Says up to where the log is cut, before anything is deleted: whenever this stops, the chain says
/// what may be missing.
async fn move_cut(
    c: &mut AsyncPgConnection,
    retention: Duration,
    undelivered: Duration,
) -> QueryResult<()> {
    let find = sql_query(HEAD)
        .bind::<Double, _>(retention.as_secs_f64())
        .bind::<Double, _>(undelivered.as_secs_f64());
    let head: Option<Head> = Prepared(find).get_result(c).await.optional()?;
    let Some(Head { sequence, hash }) = head else { return Ok(()) };
    let tip = lock_chain(c).await?;
    diesel::update(event_chain::table)
        .set((event_chain::cut_sequence.eq(sequence), event_chain::cut_hash.eq(&hash)))
        .execute(c)
        .await?;
    let older = event_heads::table.filter(event_heads::sequence.lt(sequence));
    diesel::delete(older).execute(c).await?;
    record(c, &log_cut(sequence, &hash)).await?;
    link_all(c, tip).await.map(drop)
}

/// How many events the purge would delete, and up to which place.
pub(super) async fn preview(
    c: &mut AsyncPgConnection,
    retention: Duration,
    undelivered: Duration,
) -> QueryResult<(u64, i64)> {
    let count = sql_query(PREVIEW)
        .bind::<Double, _>(retention.as_secs_f64())
        .bind::<Double, _>(undelivered.as_secs_f64());
    let Pair { first: cut, second: count } = Prepared(count).get_result(c).await?;
    Ok((unsigned(count)?, cut))
}
