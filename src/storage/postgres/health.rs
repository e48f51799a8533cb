//! Whether the database answers and can be written, and what an operator should know of a server
//! before it is used, beyond what every connection makes sure of itself.

use std::time::Duration;

use diesel::sql_types::{Bool, Integer, Nullable, Timestamptz};
use diesel::{QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use tokio::time::timeout;

use super::PostgresStore;
use super::connection::confirm::confirm;
use super::connection::errors::{InFlight, Trouble};
use super::connection::operation::Operation;
use super::connection::statement::Prepared;
use super::grants::lacking;
use super::{applied, row_security};
use crate::domain::Timestamp;
use crate::storage::{Finding, PoolStatus, Result};

/// How long a connection may wait for another one's transaction, when it should not wait at all.
const PATIENCE: Duration = Duration::from_secs(2);

const LOOK: &str = "
    SELECT
        current_setting('fsync')::boolean AS fsync,
        current_setting('full_page_writes')::boolean AS full_page_writes,
        has_schema_privilege(current_schema(), 'CREATE') AS may_create";

#[derive(QueryableByName)]
struct Seen {
    #[diesel(sql_type = Bool)]
    fsync: bool,
    #[diesel(sql_type = Bool)]
    full_page_writes: bool,
    #[diesel(sql_type = Nullable<Bool>)]
    may_create: Option<bool>,
}

#[derive(QueryableByName)]
struct Process {
    #[diesel(sql_type = Integer)]
    pid: i32,
}

#[derive(QueryableByName)]
struct Now {
    #[diesel(sql_type = Timestamptz)]
    now: Timestamp,
}

impl PostgresStore {
    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        self.pools().map(|pools| pools.general.status()).unwrap_or_default()
    }

    pub async fn now(&self) -> Result<Timestamp> {
        self.read(Operation::even_if_cut("now"), async |c| now(c).await).await
    }

    /// As a change does it: to the disk, and to the synchronous standby where there is one.
    pub async fn prove_write(&self) -> Result<()> {
        self.write("prove_write", async |c| confirm(c).await).await
    }

    pub async fn takes_changes(&self) -> Result<()> {
        self.general.patient().connect_to_change().await?;
        Ok(())
    }

    pub async fn findings(&self) -> Result<Vec<Finding>> {
        let (mut one, mut other) = (self.general.connect().await?, self.general.connect().await?);
        let failed =
            |error: diesel::result::Error| Trouble::of(&error).into_error(InFlight::NoCommit);
        let pooled = takes_turns(&mut one, &mut other).await.map_err(failed)?;
        let seen: Seen = sql_query(LOOK).get_result(&mut one).await.map_err(failed)?;
        let pending = applied::pending(&mut one).await.map_err(failed)?;
        let mut findings = Vec::new();
        if pooled {
            findings.push(Finding::fatal(
                "a pooler in transaction mode is before the database, where neither the settings \
                 of a session nor LISTEN work: connect without it, or let it pool sessions",
            ));
        }
        if let Some(lacking) = lacking(&mut one).await.map_err(failed)? {
            findings.push(Finding::fatal(format!("the role lacks {lacking}: GRANT it")));
        }
        findings.extend(row_security::findings(&mut one).await.map_err(failed)?);
        if !pending.is_empty() && seen.may_create != Some(true) {
            findings.push(Finding::fatal(
                "the role may not create the tables that are missing: GRANT CREATE on the schema, \
                 or run `onceguard migrate up` as a role that may",
            ));
        }
        if !seen.fsync {
            findings.push(Finding::warning(
                "fsync is off: a power failure loses what was accepted, or the whole database; \
                 set fsync = on",
            ));
        }
        if !seen.full_page_writes {
            findings.push(Finding::warning(
                "full_page_writes is off: a power failure may damage the database; turn it on, \
                 unless the file system never writes a part of a page",
            ));
        }
        Ok(findings)
    }
}

/// When the transaction began, or the statement, if it has none.
pub(super) async fn now(c: &mut AsyncPgConnection) -> diesel::QueryResult<Timestamp> {
    let now: Now = Prepared(sql_query("SELECT now() AS now")).get_result(c).await?;
    Ok(now.now)
}

/// Whether two connections are served by the same process, in turns. While one is in a
/// transaction, the other is asked.
async fn takes_turns(
    one: &mut AsyncPgConnection,
    other: &mut AsyncPgConnection,
) -> diesel::QueryResult<bool> {
    async fn pid(c: &mut AsyncPgConnection) -> diesel::QueryResult<i32> {
        let process: Process = sql_query("SELECT pg_backend_pid() AS pid").get_result(c).await?;
        Ok(process.pid)
    }
    let before = pid(one).await?;
    other.batch_execute("BEGIN").await?;
    let meanwhile = pid(other).await?;
    // There may be no other process.
    let after = timeout(PATIENCE, pid(one)).await;
    other.batch_execute("ROLLBACK").await?;
    match after {
        Ok(after) => Ok(before == meanwhile || before != after?),
        Err(_) => Ok(true),
    }
}
