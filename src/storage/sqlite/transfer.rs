//! Transfers. What refuses changes of a drained database are triggers on every table, so that no
//! statement asks whether it is drained.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use uuid::Uuid;

use super::connection::errors::store_error;
use super::health::damage;
use super::restore::{empty, replace, take};
use super::schema::transfers;
use super::types::{optional_timestamp, timestamp, uuid};
use super::{SqliteStore, dump, events};
use crate::domain::Timestamp;
use crate::storage::restore::RestoreRows;
use crate::storage::tables::TABLES;
use crate::storage::transfer::{Agreement, Arrival, Taken, began, by_table, called_off, count_all};
use crate::storage::{Departure, Result};

const TO: &str = "to";
const FROM: &str = "from";

#[derive(Queryable, Selectable)]
#[diesel(table_name = transfers, check_for_backend(diesel::sqlite::Sqlite))]
struct DepartureRow {
    id: Vec<u8>,
    peer: String,
    began_at: i64,
    moved_at: Option<i64>,
    confirmed_at: Option<i64>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

impl DepartureRow {
    fn read(self) -> QueryResult<Departure> {
        Ok(Departure {
            id: uuid(&self.id)?,
            to: self.peer,
            began_at: timestamp(self.began_at)?,
            moved_at: optional_timestamp(self.moved_at)?,
            confirmed_at: optional_timestamp(self.confirmed_at)?,
        })
    }
}

impl SqliteStore {
    pub async fn drain(&self, to: &str) -> Result<Departure> {
        let to = to.to_owned();
        self.0.write("drain", move |conn, now| drain(conn, now, &to)).await
    }

    pub async fn departure(&self) -> Result<Option<Departure>> {
        self.0.read("departure", |conn, _| departure(conn)).await
    }

    pub async fn arrived_by(&self) -> Result<Option<Uuid>> {
        self.0.read("arrived_by", |conn, _| arrived_by(conn)).await
    }

    pub async fn hand_over(&self, id: Uuid) -> Result<bool> {
        self.0.write("hand_over", move |conn, now| hand_over(conn, now, id)).await
    }

    pub async fn confirm_transfer(&self, id: Uuid) -> Result<()> {
        let confirm = move |conn: &mut SqliteConnection, now: Timestamp| {
            let moved =
                transfers::table.find(TO).filter(transfers::id.eq(id.as_bytes().as_slice()));
            diesel::update(moved.filter(transfers::moved_at.is_not_null()))
                .set(transfers::confirmed_at.eq(now.timestamp_micros()))
                .execute(conn)
                .map(drop)
        };
        self.0.write("confirm_transfer", confirm).await
    }

    pub async fn release(&self, id: Uuid) -> Result<bool> {
        self.0.write("release", move |conn, now| release(conn, now, id)).await
    }

    pub async fn table_rows(&self) -> Result<Vec<(&'static str, u64)>> {
        self.0.read("table_rows", |conn, _| table_rows(conn)).await
    }
}

fn arrived_by(conn: &mut SqliteConnection) -> QueryResult<Option<Uuid>> {
    let found = transfers::table.find(FROM).select(transfers::id).first(conn);
    found.optional()?.map(|id: Vec<u8>| uuid(&id)).transpose()
}

fn table_rows(conn: &mut SqliteConnection) -> QueryResult<Vec<(&'static str, u64)>> {
    let counts: Vec<Count> = diesel::sql_query(count_all()).load(conn)?;
    let counts: Vec<_> = counts.into_iter().map(|count| (count.name, count.rows)).collect();
    Ok(by_table(&counts))
}

fn departure(conn: &mut SqliteConnection) -> QueryResult<Option<Departure>> {
    let row = transfers::table.find(TO).select(DepartureRow::as_select());
    row.first(conn).optional()?.map(DepartureRow::read).transpose()
}

fn drain(conn: &mut SqliteConnection, now: Timestamp, to: &str) -> QueryResult<Departure> {
    if let Some(departure) = departure(conn)? {
        return Ok(departure);
    }
    let id = Uuid::now_v7();
    events::write(conn, now, &began(id, to))?;
    diesel::insert_into(transfers::table)
        .values((
            transfers::direction.eq(TO),
            transfers::id.eq(id.as_bytes().as_slice()),
            transfers::peer.eq(to),
            transfers::began_at.eq(now.timestamp_micros()),
        ))
        .execute(conn)?;
    let refuse = triggers(|table, change, name| {
        format!(
            "CREATE TRIGGER {name} BEFORE {change} ON {table} BEGIN SELECT RAISE(ABORT, \
             'the database takes no changes, because onceguard transfer moves or moved it'); END;"
        )
    });
    conn.batch_execute(&refuse)?;
    Ok(Departure { id, to: to.to_owned(), began_at: now, moved_at: None, confirmed_at: None })
}

fn hand_over(conn: &mut SqliteConnection, now: Timestamp, id: Uuid) -> QueryResult<bool> {
    let Some(departure) = departure(conn)?.filter(|departure| departure.id == id) else {
        return Ok(false);
    };
    let moved_at = departure.moved_at.unwrap_or(now).timestamp_micros();
    diesel::update(transfers::table.find(TO))
        .set(transfers::moved_at.eq(moved_at))
        .execute(conn)?;
    Ok(true)
}

fn release(conn: &mut SqliteConnection, now: Timestamp, id: Uuid) -> QueryResult<bool> {
    let drained = transfers::table.find(TO).filter(transfers::id.eq(id.as_bytes().as_slice()));
    if diesel::delete(drained.filter(transfers::moved_at.is_null())).execute(conn)? == 0 {
        return Ok(false);
    }
    conn.batch_execute(&triggers(|_, _, name| format!("DROP TRIGGER {name};")))?;
    events::write(conn, now, &called_off(id))?;
    Ok(true)
}

/// A statement for each change of each table, from the table, the change and the trigger's name.
fn triggers(statement: impl Fn(&str, &str, &str) -> String) -> String {
    let mut all = String::new();
    for table in &TABLES {
        for change in ["INSERT", "UPDATE", "DELETE"] {
            let name = format!("moved_{}_{}", table.name, change.to_lowercase());
            all += &statement(dump::held_in(table), change, &name);
        }
    }
    all
}

/// Fills the database at this path with the rows of another one; blocks. It need not exist; what it
/// holds is dropped. No other process may use it: the caller holds its lock. What an earlier run of
/// the same transfer took before it was killed is not taken again: the source, which takes no changes,
/// gives the same chunks in the same order.
pub fn receive(
    path: &Path,
    rows: &mut RestoreRows,
    arrival: &Arrival,
    agreement: Agreement,
) -> Result<()> {
    let failed = |error: diesel::result::Error| store_error(&error);
    let goes_on = |conn: &mut SqliteConnection| {
        // A power cut may have left anything.
        matches!(arrived_by(conn), Ok(Some(id)) if id == arrival.id)
            && matches!(damage(conn), Ok(None))
    };
    let fill = |conn: &mut SqliteConnection| {
        if arrived_by(conn).map_err(failed)? != Some(arrival.id) {
            conn.immediate_transaction(|conn| begin_arrival(conn, arrival)).map_err(failed)?;
        }
        let mut taken = Taken::of(table_rows(conn).map_err(failed)?);
        while let Some(chunk) = rows.next_blocking()? {
            if !taken.has(&chunk)? {
                take(conn, chunk)?;
            }
        }
        dump::fingerprints(conn).map_err(failed)
    };
    replace(path, goes_on, fill, |found| agreement.ask_blocking(found))
}

fn begin_arrival(conn: &mut SqliteConnection, arrival: &Arrival) -> QueryResult<()> {
    empty(conn)?;
    diesel::insert_into(transfers::table)
        .values((
            transfers::direction.eq(FROM),
            transfers::id.eq(arrival.id.as_bytes().as_slice()),
            transfers::peer.eq(&arrival.from),
            transfers::began_at.eq(arrival.at.timestamp_micros()),
        ))
        .execute(conn)
        .map(drop)
}
