//! Applies and reverts the embedded migrations. Instances that start at once take turns, by an
//! advisory lock that a connection of its own holds for the whole of it.

use std::collections::BTreeMap;

use diesel::sql_types::{BigInt, Text};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::MigrationHarness;

use super::PostgresStore;
use super::applied::{MIGRATIONS, embedded, status, version};
use super::connection::errors::{InFlight, Trouble};
use super::connection::operation::Operation;
use super::connection::statement::Prepared;
use super::dids::listen::SERVING;
use crate::storage::{MigrationStatus, Result, StoreError};

/// Any number that nobody else uses for an advisory lock in the same database.
const TAKE_TURNS: &str = "SELECT pg_advisory_lock(7164920183550214)";

/// Who holds the lock of those who serve.
const WHO_SERVES: &str = "
    SELECT CASE
            WHEN a.client_addr IS NULL THEN format('as process %s', l.pid)
            ELSE format('from %s:%s', host(a.client_addr), a.client_port)
        END AS place
    FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND ((l.classid::bigint << 32) | l.objid::bigint) = $1
    ORDER BY l.pid";

#[derive(QueryableByName)]
struct Serving {
    #[diesel(sql_type = Text)]
    place: String,
}

type Harness = AsyncMigrationHarness<AsyncPgConnection>;

impl PostgresStore {
    pub async fn migrations(&self) -> Result<Vec<MigrationStatus>> {
        self.read(Operation::even_if_cut("migrations"), async |c| status(c).await).await
    }

    pub async fn migrate_up(&self) -> Result<Vec<String>> {
        self.migrate(|harness| {
            let mut names = Vec::new();
            for migration in harness.pending_migrations(MIGRATIONS).map_err(failed)? {
                let name = migration.name().to_string();
                harness.run_migration(&migration).map_err(|error| failed_in(&name, &error))?;
                tracing::info!(migration = name, "applied");
                names.push(name);
            }
            Ok(names)
        })
        .await
    }

    pub async fn migrate_down(&self, count: Option<u32>) -> Result<Vec<String>> {
        self.migrate(move |harness| {
            let mut known: BTreeMap<_, _> =
                embedded().map_err(failed)?.into_iter().map(|m| (version(&m), m)).collect();
            let applied = harness.applied_migrations().map_err(failed)?;
            let count = count.map_or(applied.len(), |count| count as usize);
            let mut reverted = Vec::new();
            for version in applied.into_iter().take(count) {
                let migration = known.remove(&version).ok_or_else(|| {
                    StoreError::Migration(format!(
                        "migration {version} is of another version of onceguard: revert it with \
                         that one"
                    ))
                })?;
                reverted.push(migration);
            }
            let mut names = Vec::new();
            for migration in reverted {
                let name = migration.name().to_string();
                harness.revert_migration(&migration).map_err(|error| failed_in(&name, &error))?;
                tracing::info!(migration = name, "reverted");
                names.push(name);
            }
            Ok(names)
        })
        .await
    }

    /// Where the instances that serve are connected from, as far as this role may see that.
    pub async fn serving(&self) -> Result<Vec<String>> {
        self.read(Operation::even_if_cut("serving"), async |c| serving(c).await).await
    }

    async fn migrate<F>(&self, work: F) -> Result<Vec<String>>
    where
        F: FnOnce(&mut Harness) -> Result<Vec<String>> + Send + 'static,
    {
        let connector = self.general.patient();
        // The harness blocks its thread, which only threads of the store's runtime may do.
        let task = self.runtime.spawn(async move {
            let mut connection = connector.connect_to_change().await?;
            connection
                .batch_execute(TAKE_TURNS)
                .await
                .map_err(|error| Trouble::of(&error).into_error(InFlight::NoCommit))?;
            work(&mut Harness::new(connection))
        });
        task.await.unwrap_or_else(|error| Err(failed(error)))
    }
}

pub(super) async fn serving(c: &mut AsyncPgConnection) -> QueryResult<Vec<String>> {
    let found: Vec<Serving> =
        Prepared(sql_query(WHO_SERVES).bind::<BigInt, _>(SERVING)).load(c).await?;
    Ok(found.into_iter().map(|found| found.place).collect())
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Migration(format!("the migrations failed: {error}"))
}

fn failed_in(name: &str, error: &impl std::fmt::Display) -> StoreError {
    StoreError::Migration(format!("migration {name} failed and changed nothing: {error}"))
}
