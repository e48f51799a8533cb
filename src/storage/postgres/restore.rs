//! Restores: one transaction that empties every table, fills it, and recovers the database. Until
//! it commits, everything else sees the old rows or waits.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};

use super::connection::errors::{InFlight, Trouble};
use super::recovery::recover_in;
use super::schema::{api_tokens, leases, sealing_keys};
use super::{PostgresStore, applied, migrations};
use crate::storage::restore::{Restore, RestoreChunk, RestoreRows};
use crate::storage::tables::{Column, Kind, TABLES};
use crate::storage::{BACKUP_LEASE, Recovered, Result, StoreError, dump};

/// A restore waits for other work only so long.
pub(super) const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '10s'";
/// It pauses as long as its rows do not come.
const PATIENCE: &str = "SET LOCAL idle_in_transaction_session_timeout = 0";
/// The trigger that tells of each new DID. The one that tells of the emptied table says enough.
pub(super) const TELL_NOT: &str = "ALTER TABLE dids DISABLE TRIGGER dids_come_and_go";
pub(super) const TELL_AGAIN: &str = "ALTER TABLE dids ENABLE TRIGGER dids_come_and_go";

/// Why the transaction does not commit.
pub(super) enum Failure {
    Database(diesel::result::Error),
    Store(StoreError),
}

impl Failure {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Database(error) => Trouble::of(&error).into_error(InFlight::Commit),
            Self::Store(error) => error,
        }
    }
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl PostgresStore {
    pub async fn restore(&self, mut rows: RestoreRows, restore: Restore) -> Result<Recovered> {
        let connector = self.general.patient();
        let task = self.runtime.spawn(async move {
            let mut connection = connector.connect_to_change().await?;
            connection
                .transaction(async |c| replace(c, &mut rows, &restore).await)
                .await
                .map_err(Failure::into_error)
        });
        let aborted = |error| StoreError::OutcomeUnknown(format!("the restore stopped: {error}"));
        task.await.unwrap_or_else(|error| Err(aborted(error)))
    }
}

async fn replace(
    c: &mut AsyncPgConnection,
    rows: &mut RestoreRows,
    restore: &Restore,
) -> std::result::Result<Recovered, Failure> {
    fill(c, rows).await?;
    let recovered = recover_in(c, &restore.recovery).await?;
    // No session has a key any more: any sealing key will do from now on.
    diesel::delete(sealing_keys::table).execute(c).await?;
    if restore.revoke_tokens {
        diesel::update(api_tokens::table.filter(api_tokens::revoked_at.is_null()))
            .set(api_tokens::revoked_at.eq(recovered.at))
            .execute(c)
            .await?;
    }
    let at = restore.taken_at;
    diesel::insert_into(leases::table)
        .values((
            leases::name.eq(BACKUP_LEASE),
            leases::holder.eq("restore"),
            leases::taken_at.eq(at),
            leases::until.eq(at),
            leases::finished_at.eq(at),
        ))
        .on_conflict(leases::name)
        .do_update()
        .set((leases::until.eq(at), leases::finished_at.eq(at)))
        .execute(c)
        .await?;
    c.batch_execute(TELL_AGAIN).await?;
    Ok(recovered)
}

/// Empties every table, and fills it.
async fn fill(
    c: &mut AsyncPgConnection,
    rows: &mut RestoreRows,
) -> std::result::Result<(), Failure> {
    let names = TABLES.map(|table| table.name).join(", ");
    let begin = format!("{LOCK_TIMEOUT}; {PATIENCE}; TRUNCATE {names}; {TELL_NOT}");
    c.batch_execute(&begin).await?;
    // From here on, an instance that starts waits for the tables.
    if !migrations::serving(c).await?.is_empty() {
        let why = "an instance serves on this database; stop it first";
        return Err(StoreError::Unsuitable(why.to_owned()).into());
    }
    dump::schema(&applied::status(c).await?)?;
    while let Some(chunk) = rows.next().await? {
        sql_query(insert(&chunk)).bind::<Text, _>(chunk.rows).execute(c).await?;
    }
    Ok(())
}

/// Inserts rows that come as one JSON array.
pub(super) fn insert(RestoreChunk { table, columns, .. }: &RestoreChunk) -> String {
    let list = |text: fn(&Column) -> String| {
        columns.iter().map(|column| text(column)).collect::<Vec<_>>().join(", ")
    };
    let (name, names) = (table.name, list(|column| column.name.to_owned()));
    let types = list(|column| format!("{} {}", column.name, json_type(column.kind)));
    format!(
        "INSERT INTO {name} ({names}) SELECT {} FROM json_to_recordset($1::json) AS rows ({types})",
        list(value)
    )
}

/// As what JSON's value is read.
const fn json_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Bytes | Kind::Id | Kind::Ids => "text",
        Kind::Number | Kind::Time => "bigint",
        Kind::Bool => "boolean",
        Kind::Json => "jsonb",
        Kind::Words => "text[]",
        Kind::Address => "inet",
    }
}

/// The column's value, from what [`Kind`] says.
fn value(Column { name, kind }: &Column) -> String {
    match kind {
        Kind::Text | Kind::Number | Kind::Bool | Kind::Json | Kind::Words | Kind::Address => {
            (*name).to_owned()
        }
        Kind::Bytes => format!("decode({name}, 'hex')"),
        Kind::Id => format!("{name}::uuid"),
        Kind::Ids => format!(
            "ARRAY(SELECT substr({name}, place, 32)::uuid \
             FROM generate_series(1, length({name}), 32) AS place ORDER BY place)"
        ),
        Kind::Time => format!("timestamptz 'epoch' + {name} * interval '1 microsecond'"),
    }
}
