//! What a connection finds behind it: which server that is, what the database says of its past, and
//! whether it has what this instance remembers. Decides nothing.

use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::remembered::Remembered;
use crate::domain::Timestamp;
use crate::storage::Server;

const PRESENT: &str = "SELECT to_regprocedure('server_identity()') IS NOT NULL AS present";

/// In one statement, so that all of it is of one moment and one server.
const LOOK: &str = "
    SELECT h.generation, h.ancestors, h.recovered_at, h.not_before, h.ahead_until, h.skew_seconds,
        now() AS at,
        h.system_identifier, h.timeline, h.database_oid, h.nonces_oid,
        s.system_identifier AS system_identifier_here, s.timeline AS timeline_here,
        s.database_oid AS database_oid_here, s.nonces_oid AS nonces_oid_here,
        (
            SELECT count(*) FROM unnest($1, $2) AS known (id, value)
            WHERE NOT EXISTS (
                SELECT FROM marks m WHERE m.id = known.id AND m.value >= known.value
            )
        ) + (
            SELECT count(*) FROM unnest($3, $4) AS known (id, counter)
            WHERE NOT EXISTS (
                SELECT FROM instances i WHERE i.id = known.id AND i.counter >= known.counter
            )
        ) AS lost
    FROM history h CROSS JOIN server_identity() s";

const HERE: &str = "
    SELECT system_identifier, timeline, database_oid, nonces_oid FROM server_identity()";

/// What `server_identity()` answers.
#[derive(QueryableByName)]
pub(super) struct ServerRow {
    #[diesel(sql_type = BigInt)]
    system_identifier: i64,
    #[diesel(sql_type = Integer)]
    timeline: i32,
    #[diesel(sql_type = BigInt)]
    database_oid: i64,
    #[diesel(sql_type = BigInt)]
    nonces_oid: i64,
}

impl From<ServerRow> for Server {
    fn from(row: ServerRow) -> Self {
        let ServerRow { system_identifier, timeline, database_oid, nonces_oid } = row;
        Self { system_identifier, timeline, database_oid, nonces_oid }
    }
}

#[derive(QueryableByName)]
struct Present {
    #[diesel(sql_type = Bool)]
    present: bool,
}

#[derive(QueryableByName)]
pub(super) struct Seen {
    #[diesel(sql_type = SqlUuid)]
    pub(super) generation: Uuid,
    #[diesel(sql_type = Array<SqlUuid>)]
    pub(super) ancestors: Vec<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(super) recovered_at: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(super) not_before: Option<Timestamp>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(super) ahead_until: Option<Timestamp>,
    #[diesel(sql_type = Integer)]
    pub(super) skew_seconds: i32,
    #[diesel(sql_type = Timestamptz)]
    pub(super) at: Timestamp,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) system_identifier: Option<i64>,
    #[diesel(sql_type = Nullable<Integer>)]
    pub(super) timeline: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) database_oid: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) nonces_oid: Option<i64>,
    #[diesel(sql_type = BigInt)]
    pub(super) system_identifier_here: i64,
    #[diesel(sql_type = Integer)]
    pub(super) timeline_here: i32,
    #[diesel(sql_type = BigInt)]
    pub(super) database_oid_here: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) nonces_oid_here: i64,
    /// How many of the things are missing that this instance remembers.
    #[diesel(sql_type = BigInt)]
    pub(super) lost: i64,
}

impl Seen {
    /// The server that the history says the database is on; `None` before any served it.
    pub(super) fn recorded(&self) -> Option<Server> {
        Some(Server {
            system_identifier: self.system_identifier?,
            timeline: self.timeline?,
            database_oid: self.database_oid?,
            nonces_oid: self.nonces_oid?,
        })
    }

    /// The server that answers.
    pub(super) const fn here(&self) -> Server {
        Server {
            system_identifier: self.system_identifier_here,
            timeline: self.timeline_here,
            database_oid: self.database_oid_here,
            nonces_oid: self.nonces_oid_here,
        }
    }
}

/// The server that answers.
pub(in crate::storage::postgres) async fn here(c: &mut AsyncPgConnection) -> QueryResult<Server> {
    let row: ServerRow = sql_query(HERE).get_result(c).await?;
    Ok(row.into())
}

/// Whether the schema has what the check needs. Without it, there is nothing to check.
pub(super) async fn is_present(c: &mut AsyncPgConnection) -> QueryResult<bool> {
    let found: Present = sql_query(PRESENT).get_result(c).await?;
    Ok(found.present)
}

pub(super) async fn look(c: &mut AsyncPgConnection, remembered: &Remembered) -> QueryResult<Seen> {
    sql_query(LOOK)
        .bind::<Array<SqlUuid>, _>(&remembered.connections.0)
        .bind::<Array<BigInt>, _>(&remembered.connections.1)
        .bind::<Array<SqlUuid>, _>(&remembered.instances.0)
        .bind::<Array<BigInt>, _>(&remembered.instances.1)
        .get_result(c)
        .await
}

#[cfg(test)]
impl Seen {
    /// A database of this generation on its server, with everything that was looked for.
    pub(super) fn whole(generation: Uuid) -> Self {
        let server = Some(1);
        Self {
            generation,
            ancestors: Vec::new(),
            recovered_at: None,
            not_before: None,
            ahead_until: None,
            skew_seconds: 60,
            at: chrono::DateTime::UNIX_EPOCH,
            system_identifier: server,
            timeline: Some(1),
            database_oid: server,
            nonces_oid: server,
            system_identifier_here: 1,
            timeline_here: 1,
            database_oid_here: 1,
            nonces_oid_here: 1,
            lost: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_timeline_of_the_same_database_was_promoted() {
        let server = Server { system_identifier: 1, timeline: 3, database_oid: 5, nonces_oid: 7 };
        let later = Server { timeline: 4, ..server };
        assert!(later.was_promoted_from(server));
        assert!(!server.was_promoted_from(later));
        assert!(!server.was_promoted_from(server));
        for other in [
            Server { system_identifier: 2, ..later },
            Server { database_oid: 6, ..later },
            Server { nonces_oid: 8, ..later },
        ] {
            assert!(!other.was_promoted_from(server), "{other:?}");
        }
    }
}
