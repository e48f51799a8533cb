//! Dumps: one transaction that reads every table as it was when it began, on a connection of its
//! own. It holds back no claim; only what VACUUM may remove meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::sql_types::Text;
use diesel::{QueryDsl as _, QueryResult, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::StreamExt;
use tokio::time::sleep;

use super::connection::errors::{InFlight, Trouble};
use super::schema::history;
use super::{PostgresStore, applied, health};
use crate::storage::dump::{self, Dump, Feed, Gathering, PAGE, Pace};
use crate::storage::tables::{Column, Kind, TABLES, Table};
use crate::storage::{Fingerprints, Result, StoreError};

/// Rows come as fast as they are taken, and no statement or pause is too long. The transaction sees
/// what was committed before its first statement, which [`PostgresStore::dump`] waits for. Rows that
/// did not change come in the same order each time.
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL idle_in_transaction_session_timeout = 0;
    SET LOCAL synchronize_seqscans = off;
    SET LOCAL statement_timeout = 0";

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

impl PostgresStore {
    pub async fn dump(&self, pace: Pace) -> Result<Dump> {
        let connector = Arc::clone(&self.general);
        // The runtime of the store drives the connection. The caller may be on another one.
        let task = self.runtime.spawn(async move {
            let mut connection = connector.connect().await?;
            let failed = |error| Trouble::of(&error).into_error(InFlight::NoCommit);
            connection.batch_execute(BEGIN).await.map_err(failed)?;
            let all = applied::status(&mut connection).await.map_err(failed)?;
            let now = health::now(&mut connection).await.map_err(failed)?;
            let schema = dump::schema(&all)?;
            let generation = history::table.select(history::generation);
            let generation = generation.first(&mut connection).await.map_err(failed)?;
            Ok::<_, StoreError>((connection, schema, generation, now))
        });
        let (mut connection, schema, generation, now) = task.await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable(format!("the dump was given up: {error}")))
        })?;
        let (feed, dump) = dump::begin(schema, generation, now);
        let reading = async move {
            let read = read_all(&mut connection, &feed, pace).await;
            feed.end(read.map_err(|error| Trouble::of(&error).into_error(InFlight::NoCommit)))
                .await;
        };
        self.runtime.spawn(self.open.track_future(reading));
        Ok(dump)
    }
}

/// Returns early, and without an error, once the dump was dropped.
async fn read_all(c: &mut AsyncPgConnection, feed: &Feed, pace: Pace) -> QueryResult<()> {
    let fetch = format!("FETCH {PAGE} FROM dumped");
    for table in &TABLES {
        let mut gathering = Gathering::of(table);
        let declare = format!("DECLARE dumped NO SCROLL CURSOR FOR {}", select(table));
        c.batch_execute(&declare).await?;
        loop {
            let (began, mut read, mut waited) = (Instant::now(), 0, Duration::ZERO);
            let mut rows = sql_query(&fetch).load_stream::<Line>(c).await?;
            while let Some(row) = rows.next().await {
                read += 1;
                if let Some(chunk) = gathering.add(&row?.line) {
                    let full = Instant::now();
                    if feed.chunk(chunk).await.is_err() {
                        return Ok(());
                    }
                    waited += full.elapsed();
                }
            }
            drop(rows);
            if read < PAGE {
                break;
            }
            sleep(pace.pause(began.elapsed().saturating_sub(waited))).await;
        }
        c.batch_execute("CLOSE dumped").await?;
        if let Some(chunk) = gathering.rest()
            && feed.chunk(chunk).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

/// What every table holds, as this transaction sees it.
pub(super) async fn fingerprints(c: &mut AsyncPgConnection) -> QueryResult<Fingerprints> {
    let mut found = Fingerprints::default();
    for table in &TABLES {
        let mut rows = sql_query(select(table)).load_stream::<Line>(c).await?;
        while let Some(row) = rows.next().await {
            found.add(table, &row?.line);
        }
    }
    Ok(found)
}

/// Each row of the table as JSON.
fn select(table: &Table) -> String {
    let columns: Vec<_> = table.columns.iter().map(value).collect();
    let (columns, name) = (columns.join(", "), table.name);
    format!("SELECT row_to_json(r)::text AS line FROM (SELECT {columns} FROM {name}) AS r")
}

/// What [`Kind`] says of a column's value.
fn value(Column { name, kind }: &Column) -> String {
    let value = match kind {
        Kind::Text | Kind::Number | Kind::Bool | Kind::Json | Kind::Words => (*name).to_owned(),
        Kind::Bytes => format!("encode({name}, 'hex')"),
        Kind::Id => format!("encode(uuid_send({name}), 'hex')"),
        Kind::Ids => format!(
            "coalesce((SELECT encode(string_agg(uuid_send(id), '' ORDER BY place), 'hex') \
             FROM unnest({name}) WITH ORDINALITY AS ids (id, place)), '')"
        ),
        Kind::Time => format!("(extract(epoch FROM {name}) * 1000000)::bigint"),
        Kind::Address => format!("host({name})"),
    };
    format!("{value} AS {name}")
}
