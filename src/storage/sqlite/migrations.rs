//! The schema's migrations, embedded in the binary. Each runs in a transaction that first takes the
//! write lock, and then looks which are pending. So two processes take turns.

use std::collections::BTreeMap;

use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::SqliteStore;
use super::connection::errors::store_error;
use crate::storage::{MigrationStatus, Result, StoreError};

impl SqliteStore {
    pub async fn migrations(&self) -> Result<Vec<MigrationStatus>> {
        self.0.read("migrations", |conn, _| Ok(status(conn))).await?
    }

    pub async fn migrate_up(&self) -> Result<Vec<String>> {
        self.0.alone("migrate_up", up).await
    }

    pub async fn migrate_down(&self, count: Option<u32>) -> Result<Vec<String>> {
        self.0.alone("migrate_down", move |conn| down(conn, count)).await
    }
}

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

#[derive(QueryableByName)]
struct Tables {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Reads without changing anything, even when no migration has ever run.
fn applied(conn: &mut SqliteConnection) -> QueryResult<Vec<String>> {
    let tables: Tables = diesel::sql_query(
        "SELECT count(*) AS count FROM sqlite_schema WHERE name = '__diesel_schema_migrations'",
    )
    .get_result(conn)?;
    if tables.count == 0 {
        return Ok(Vec::new());
    }
    let versions: Vec<Version> =
        diesel::sql_query("SELECT version FROM __diesel_schema_migrations").load(conn)?;
    Ok(versions.into_iter().map(|row| row.version).collect())
}

fn known() -> Result<Vec<Box<dyn Migration<Sqlite>>>> {
    let mut known = MigrationSource::<Sqlite>::migrations(&MIGRATIONS).map_err(failed)?;
    known.sort_unstable_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(known)
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Migration(format!("a migration failed, and was undone: {error}"))
}

/// An error of a migration's transaction.
enum Failure {
    Database(diesel::result::Error),
    Migration(BoxedError),
    Unknown(String),
}

impl From<diesel::result::Error> for Failure {
    fn from(error: diesel::result::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => store_error(&error),
            Failure::Migration(error) => failed(error),
            Failure::Unknown(version) => Self::Migration(format!(
                "migration {version} was applied by a newer onceguard; revert it with that one"
            )),
        }
    }
}

/// Every migration that this binary knows or the database has, oldest first.
pub(super) fn status(conn: &mut SqliteConnection) -> Result<Vec<MigrationStatus>> {
    let applied = applied(conn).map_err(|e| store_error(&e))?;
    let mut all: BTreeMap<String, MigrationStatus> = applied
        .into_iter()
        .map(|version| {
            let status = MigrationStatus { name: version.clone(), applied: true, known: false };
            (version, status)
        })
        .collect();
    for migration in known()? {
        let version = migration.name().version().to_string();
        let applied = all.contains_key(&version);
        let name = migration.name().to_string();
        all.insert(version, MigrationStatus { name, applied, known: true });
    }
    Ok(all.into_values().collect())
}

/// Applies all pending migrations, and returns their names.
pub(super) fn up(conn: &mut SqliteConnection) -> Result<Vec<String>> {
    let mut names = Vec::new();
    while let Some(name) = conn.immediate_transaction(next_up)? {
        names.push(name);
    }
    Ok(names)
}

fn next_up(conn: &mut SqliteConnection) -> std::result::Result<Option<String>, Failure> {
    let pending = conn.pending_migrations(MIGRATIONS).map_err(Failure::Migration)?;
    let Some(next) = pending.first() else { return Ok(None) };
    conn.run_migration(next).map_err(Failure::Migration)?;
    Ok(Some(next.name().to_string()))
}

/// Reverts the newest `count` migrations, or all, and returns their names.
fn down(conn: &mut SqliteConnection, count: Option<u32>) -> Result<Vec<String>> {
    let known = known()?;
    let mut names = Vec::new();
    while count.is_none_or(|count| names.len() < usize::try_from(count).unwrap_or(usize::MAX)) {
        let reverted = conn.immediate_transaction(|conn| next_down(conn, &known))?;
        let Some(name) = reverted else { break };
        names.push(name);
    }
    Ok(names)
}

fn next_down(
    conn: &mut SqliteConnection,
    known: &[Box<dyn Migration<Sqlite>>],
) -> std::result::Result<Option<String>, Failure> {
    let Some(newest) = applied(conn)?.into_iter().max() else { return Ok(None) };
    let newest = MigrationVersion::from(newest);
    let migration = known
        .iter()
        .find(|migration| migration.name().version() == newest)
        .ok_or_else(|| Failure::Unknown(newest.to_string()))?;
    conn.revert_migration(migration).map_err(Failure::Migration)?;
    Ok(Some(migration.name().to_string()))
}
