//! Applies and reverts the embedded migrations. Instances that start at once take turns, by an
//! advisory lock that a connection of its own holds for the whole of it.

use std::collections::BTreeMap;

use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::PostgresStore;
use super::connection::errors::{InFlight, Trouble};
use super::connection::run::Operation;
use super::connection::statement::Prepared;
use super::dids::listen::SERVING;
use crate::storage::{MigrationStatus, Result, StoreError};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Any number that nobody else uses for an advisory lock in the same database.
const TAKE_TURNS: &str = "SELECT pg_advisory_lock(7164920183550214)";

#[derive(QueryableByName)]
struct Present {
    #[diesel(sql_type = Bool)]
    present: bool,
}

#[derive(QueryableByName)]
struct Applied {
    #[diesel(sql_type = Text)]
    version: String,
}

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
            let mut connection = connector.connect().await?;
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

/// The names of this binary's migrations that the database lacks.
pub(super) async fn pending(connection: &mut AsyncPgConnection) -> QueryResult<Vec<String>> {
    let status = status(connection).await?;
    Ok(status.into_iter().filter(|m| !m.applied).map(|m| m.name).collect())
}

/// Both the migrations of this binary and those of the database, oldest first.
pub(super) async fn status(
    connection: &mut AsyncPgConnection,
) -> QueryResult<Vec<MigrationStatus>> {
    let present: Present = Prepared(sql_query(
        "SELECT to_regclass('__diesel_schema_migrations') IS NOT NULL AS present",
    ))
    .get_result(connection)
    .await?;
    let applied: Vec<Applied> = if present.present {
        Prepared(sql_query("SELECT version::text FROM __diesel_schema_migrations"))
            .load(connection)
            .await?
    } else {
        Vec::new()
    };
    let mut all: BTreeMap<String, MigrationStatus> = applied
        .into_iter()
        .map(|Applied { version }| {
            let status = MigrationStatus { name: version.clone(), applied: true, known: false };
            (version, status)
        })
        .collect();
    for migration in embedded().map_err(diesel::result::Error::DeserializationError)? {
        let status = all.entry(version(&migration).to_string()).or_insert(MigrationStatus {
            name: String::new(),
            applied: false,
            known: true,
        });
        status.name = migration.name().to_string();
        status.known = true;
    }
    Ok(all.into_values().collect())
}

fn embedded() -> diesel::migration::Result<Vec<Box<dyn Migration<Pg>>>> {
    MIGRATIONS.migrations()
}

fn version(migration: &dyn Migration<Pg>) -> MigrationVersion<'static> {
    migration.name().version().as_owned()
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Migration(format!("the migrations failed: {error}"))
}

fn failed_in(name: &str, error: &impl std::fmt::Display) -> StoreError {
    StoreError::Migration(format!("migration {name} failed and changed nothing: {error}"))
}
