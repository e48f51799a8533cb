//! The migrations that this binary has, and which of them a database has.

use std::collections::BTreeMap;

use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Text};
use diesel::{QueryResult, QueryableByName, sql_query};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::connection::statement::Prepared;
use crate::storage::MigrationStatus;

pub(super) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

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

pub(super) fn embedded() -> diesel::migration::Result<Vec<Box<dyn Migration<Pg>>>> {
    MIGRATIONS.migrations()
}

pub(super) fn version(migration: &dyn Migration<Pg>) -> MigrationVersion<'static> {
    migration.name().version().as_owned()
}
