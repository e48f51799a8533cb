//! A heartbeat, as the database takes it.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::known::{Beat, Heartbeat};
use super::seen::ServerRow;
use crate::domain::Timestamp;
use crate::storage::marks::Stage;
use crate::storage::postgres::connection::errors::unreadable;
use crate::storage::postgres::connection::statement::Prepared;
use crate::storage::postgres::sessions::row::unsigned;
use crate::storage::{Joining, Mark};

/// The answer is the heartbeats of every instance that lives, this one's included. The database has
/// theirs on disk when it has this one's: it comes later in the WAL. A mark that a transaction still
/// holds is left for the next heartbeat.
const HEARTBEAT: &str = "
    WITH beat AS (
        INSERT INTO instances (
            id, name, host, version, started_at, heartbeat_at, ended_at, state, counter, issued_until
        )
        VALUES (
            $1, $2, $3, $4, now(), now(), CASE WHEN $5 <> 'serving' THEN now() END, $5, 1, $7
        )
        ON CONFLICT (id) DO UPDATE
        SET heartbeat_at = excluded.heartbeat_at, ended_at = excluded.ended_at,
            state = excluded.state, counter = instances.counter + 1,
            issued_until = excluded.issued_until
        RETURNING id, counter
    ),
    forgotten AS (
        DELETE FROM marks WHERE id = ANY (ARRAY(
            SELECT id FROM marks WHERE id = ANY ($6) FOR UPDATE SKIP LOCKED
        ))
    )
    SELECT id, counter, now() AS at, (SELECT generation FROM history) AS generation,
        s.system_identifier, s.timeline, s.database_oid, s.nonces_oid,
        ARRAY(SELECT id FROM marks WHERE instance = $1 AND id <> ALL ($6)) AS marks
    FROM beat CROSS JOIN server_identity() AS s
    UNION ALL
    SELECT id, counter, now(), (SELECT generation FROM history), 0, 0, 0, 0, '{}' FROM instances
    WHERE id <> $1 AND state = 'serving' AND heartbeat_at > now() - interval '1 hour'";

#[derive(QueryableByName)]
struct BeatRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = BigInt)]
    counter: i64,
    #[diesel(sql_type = Timestamptz)]
    at: Timestamp,
    #[diesel(sql_type = SqlUuid)]
    generation: Uuid,
    #[diesel(embed)]
    server: ServerRow,
    #[diesel(sql_type = Array<SqlUuid>)]
    marks: Vec<Uuid>,
}

/// Sends a heartbeat, and returns what is to be remembered once it is acknowledged.
pub(super) async fn send(
    c: &mut AsyncPgConnection,
    instance: Uuid,
    joining: &Joining,
    issued_until: Option<Timestamp>,
    heartbeat: &Heartbeat,
    stage: Stage,
) -> QueryResult<(Mark, Beat)> {
    let beat = sql_query(HEARTBEAT)
        .bind::<SqlUuid, _>(instance)
        .bind::<Text, _>(&joining.name)
        .bind::<Text, _>(&joining.host)
        .bind::<Text, _>(env!("CARGO_PKG_VERSION"))
        .bind::<Text, _>(stage.as_str())
        .bind::<Array<SqlUuid>, _>(&heartbeat.forgotten)
        .bind::<Nullable<Timestamptz>, _>(issued_until);
    let beats: Vec<BeatRow> = Prepared(beat).load(c).await?;
    let heartbeats = beats.iter().map(|beat| (beat.id, beat.counter)).collect();
    let own = beats.into_iter().find(|beat| beat.id == instance);
    let BeatRow { counter, at, generation, server, marks, .. } =
        own.ok_or_else(|| unreadable("a heartbeat that was not counted"))?;
    let (counter, server) = (unsigned(counter)?, Some(server.into()));
    let mark = Mark { generation, instance, counter, at, issued_until, server };
    Ok((mark, Beat { generation, at, heartbeats, marks }))
}
