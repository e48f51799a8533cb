//! Arrivals: the rows of another database come in chunks, and each chunk is a commit, so that a
//! transfer that was killed goes on. Until the last commit, the database is of no use to anything else:
//!
//! - It has no row in `history`, which every connection looks at when it is opened, and which every
//!   transaction that decides compares with ([`guard`](super::guard)). A connection that finds none is
//!   told why.
//! - Triggers refuse every change by another connection. That stops what decides nothing, too, such as
//!   a heartbeat, and an older onceguard, and SQL by hand.

use std::sync::Arc;
use std::time::Duration;

use diesel::dsl::now;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::time::sleep;
use uuid::Uuid;

use super::arriving::{FROM, arriving};
use super::connection::assumptions::Assumptions;
use super::connection::connect::Connector;
use super::connection::errors::{InFlight, Trouble};
use super::connection::tls::Tls;
use super::guard::ADOPT;
use super::restore::{Failure, LOCK_TIMEOUT, TELL_AGAIN, TELL_NOT, insert};
use super::schema::transfers;
use super::transfer::table_rows;
use super::{applied, dump, migrations};
use crate::config::{Database, PostgresOptions};
use crate::metrics::Metrics;
use crate::storage::arriving::Arriving;
use crate::storage::dump::schema as schema_of;
use crate::storage::restore::{RestoreChunk, RestoreRows};
use crate::storage::tables::TABLES;
use crate::storage::transfer::{Agreement, Arrival, Taken, holds_nothing, holds_something};
use crate::storage::{Fingerprints, Result, StoreError};

/// The table whose row comes last.
const LAST: &str = "history";
/// Held by the connection that fills the database. Any number that nothing else uses for an advisory
/// lock in the same database.
const FILLING: i64 = 7_164_920_183_550_216;
/// How often the lock is tried, and the wait between two tries: the server may still be at the last
/// statement of a transfer that was killed.
const TRIES: usize = 100;
const WAIT: Duration = Duration::from_millis(100);
/// A machine that vanished loses the lock after about a minute.
const NOTICE_SILENCE: &str = "
    SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3";

/// No run goes on with what is there.
const DISOWN: &str = "UPDATE transfers SET id = gen_random_uuid() WHERE direction = 'from'";

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = Bool)]
    locked: bool,
}

/// A database that takes the rows of another one. While this lives, no other transfer goes there.
pub struct PostgresTarget {
    connection: AsyncPgConnection,
    /// What an earlier transfer left, which has not ended.
    begun: Option<Arriving>,
}

impl PostgresTarget {
    /// Opens the database for a transfer from this place. Refuses if another transfer goes there now,
    /// or if what an earlier one left must stay.
    pub async fn open(
        options: &PostgresOptions,
        config: &Database,
        metrics: Arc<Metrics>,
        from: &str,
    ) -> Result<Self> {
        let tls = Tls::new(options, config.allow_plaintext)?;
        let assumptions = Assumptions::new(Uuid::now_v7(), config.statement_timeout, &[]);
        let (patience, no_guard) = (config.pool.acquire_timeout, Arc::default());
        let connector = Connector::new(options, tls, assumptions, no_guard, patience, metrics);
        let mut connection = connector.filling().connect_to_change().await?;
        lock(&mut connection).await?;
        let begun = arriving(&mut connection).await.map_err(|error| failed(&error))?;
        if let Some(begun) = &begun {
            let known = applied::status(&mut connection).await.map_err(|error| failed(&error))?;
            if schema_of(&known).is_err() {
                return Err(begun.of_another_version());
            }
            begun.must_yield_to(from)?;
        }
        Ok(Self { connection, begun })
    }

    /// See [`TransferTarget::is_begun`](crate::storage::TransferTarget::is_begun).
    #[must_use]
    pub const fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Takes the rows of another database. What an earlier run of the same transfer took before it was
    /// killed is not taken again: the source, which takes no changes, gives the same chunks in the same
    /// order. What another transfer left, which did not end, is dropped.
    pub async fn receive(
        self,
        mut rows: RestoreRows,
        arrival: &Arrival,
        agreement: Agreement,
    ) -> Result<()> {
        let Self { connection: mut c, begun } = self;
        if begun.as_ref().is_none_or(|begun| begun.id != arrival.id) {
            c.transaction(async |c| begin(c, begun.is_some(), arrival).await)
                .await
                .map_err(Failure::into_error)?;
        }
        let received = fill(&mut c, &mut rows, arrival.id, agreement).await;
        if received.is_err() {
            // It was not killed. What it took may be why, so the next run begins anew. If that cannot be
            // written, the connection is lost, and the next run goes on.
            let _ = c.batch_execute(DISOWN).await;
        }
        received
    }
}

async fn fill(
    c: &mut AsyncPgConnection,
    rows: &mut RestoreRows,
    id: Uuid,
    agreement: Agreement,
) -> Result<()> {
    let pass = format!("SET onceguard.arrival = '{id}'");
    c.batch_execute(&pass).await.map_err(|error| failed(&error))?;
    let last = take(c, rows).await?;
    all_came(c).await.map_err(|error| failed(&error))?;
    let completed = c.transaction(async move |c| {
        let found = complete(c, last).await?;
        // Nothing may fail from here on but the commit.
        agreement.ask(found).await?;
        Ok(())
    });
    completed.await.map_err(Failure::into_error)
}

/// Nothing is lost with a chunk whose answer was lost: whether it is there is seen the next time.
fn failed(error: &diesel::result::Error) -> StoreError {
    Trouble::of(error).into_error(InFlight::NoCommit)
}

async fn lock(c: &mut AsyncPgConnection) -> Result<()> {
    c.batch_execute(NOTICE_SILENCE).await.map_err(|error| failed(&error))?;
    for _ in 0..TRIES {
        let locking = sql_query("SELECT pg_try_advisory_lock($1) AS locked");
        let found: QueryResult<Locked> =
            locking.bind::<BigInt, _>(FILLING).get_result(&mut *c).await;
        if found.map_err(|error| failed(&error))?.locked {
            return Ok(());
        }
        sleep(WAIT).await;
    }
    let why = "another `onceguard transfer` goes to this database now: wait until it has ended";
    Err(StoreError::Unsuitable(why.to_owned()))
}

/// Empties every table, and has the database take nothing but this arrival.
async fn begin(
    c: &mut AsyncPgConnection,
    is_begun: bool,
    arrival: &Arrival,
) -> std::result::Result<(), Failure> {
    let names = TABLES.map(|table| table.name).join(", ");
    c.batch_execute(&format!("{LOCK_TIMEOUT}; LOCK TABLE {names}")).await?;
    // From here on, an instance that starts waits for the tables.
    if !migrations::serving(c).await?.is_empty() {
        let why = "an instance serves on the target; stop it first";
        return Err(StoreError::Unsuitable(why.to_owned()).into());
    }
    schema_of(&applied::status(c).await?)?;
    if is_begun {
        c.batch_execute(&admit_others()).await?;
    } else if !holds_nothing(&table_rows(c).await?) {
        return Err(holds_something().into());
    }
    c.batch_execute(&format!("TRUNCATE {names}; {TELL_NOT}")).await?;
    diesel::delete(transfers::table.find(FROM)).execute(c).await?;
    let row = (
        transfers::direction.eq(FROM),
        transfers::id.eq(arrival.id),
        transfers::peer.eq(&arrival.from),
        transfers::began_at.eq(now),
    );
    diesel::insert_into(transfers::table).values(row).execute(c).await?;
    c.batch_execute(&refuse_others(arrival.id)).await?;
    Ok(())
}

/// Only a connection that names the arrival changes anything.
fn refuse_others(id: Uuid) -> String {
    let refuse = TABLES.map(|table| {
        format!(
            "CREATE TRIGGER arriving BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} \
             FOR EACH STATEMENT \
             WHEN (current_setting('onceguard.arrival', true) IS DISTINCT FROM '{id}') \
             EXECUTE FUNCTION refuse_changes();",
            table.name
        )
    });
    refuse.concat()
}

fn admit_others() -> String {
    TABLES.map(|table| format!("DROP TRIGGER arriving ON {};", table.name)).concat()
}

/// Takes every chunk that is not there yet, each in a commit, but for the one that comes last.
async fn take(c: &mut AsyncPgConnection, rows: &mut RestoreRows) -> Result<RestoreChunk> {
    let mut taken = Taken::of(table_rows(c).await.map_err(|error| failed(&error))?);
    let mut last = None;
    while let Some(chunk) = rows.next().await? {
        if chunk.table.name == LAST {
            last = Some(chunk);
        } else if !taken.has(&chunk)? {
            put(c, chunk).await.map_err(|error| failed(&error))?;
        }
    }
    last.ok_or_else(|| StoreError::Unexpected(format!("the source gave no {LAST}")))
}

async fn put(c: &mut AsyncPgConnection, chunk: RestoreChunk) -> QueryResult<()> {
    sql_query(insert(&chunk)).bind::<Text, _>(chunk.rows).execute(c).await.map(drop)
}

/// From now on, the source may be moved for ever.
async fn all_came(c: &mut AsyncPgConnection) -> QueryResult<()> {
    let arrival = diesel::update(transfers::table.find(FROM));
    arrival.set(transfers::moved_at.eq(now)).execute(c).await.map(drop)
}

/// Makes a database of what came. Returns what that holds.
async fn complete(
    c: &mut AsyncPgConnection,
    last: RestoreChunk,
) -> std::result::Result<Fingerprints, Failure> {
    c.batch_execute(LOCK_TIMEOUT).await?;
    put(c, last).await?;
    // The generation came along, and now it is on this server.
    sql_query(ADOPT).execute(c).await?;
    let found = dump::fingerprints(c).await?;
    let arrival = diesel::update(transfers::table.find(FROM));
    arrival.set(transfers::confirmed_at.eq(now)).execute(c).await?;
    // Others that look at the database wait from here on.
    c.batch_execute(&format!("{}{TELL_AGAIN}", admit_others())).await?;
    Ok(found)
}
