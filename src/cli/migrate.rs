//! `onceguard migrate`: applies or reverts migrations of the database.

use clap::Subcommand;
use serde_json::json;

use super::{Failure, database, out};
use crate::config::Config;
use crate::jobs::heartbeat;
use crate::storage::{MigrationStatus, Store, migrations};

#[derive(Debug, Subcommand)]
pub(super) enum Migrate {
    /// Apply every pending migration; an SQLite database that does not exist is made
    #[command(after_help = "Example:\n  \
                            DATABASE_URL=postgres://onceguard@db/onceguard onceguard migrate up")]
    Up,
    /// Revert the newest migrations; says what data that deletes, and asks first
    #[command(
        after_help = "Examples:\n  onceguard migrate down\n  onceguard migrate down 2 --yes\n  \
                            onceguard migrate down --all --yes"
    )]
    Down {
        /// How many migrations to revert
        #[arg(default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
        /// Revert all migrations; the database is empty afterwards
        #[arg(long, conflicts_with = "count")]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List the migrations, and whether the database has them
    #[command(after_help = "Example:\n  onceguard migrate status --json")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let a PostgreSQL role see the rows of one DID at a time, and no others; the service goes on
    #[command(after_help = "Examples:\n  onceguard migrate rls\n  onceguard migrate rls --reader \
                            reports\n  onceguard migrate rls --drop")]
    Rls {
        /// The role, which is made if it does not exist; earlier ones see nothing any more
        #[arg(long, value_name = "ROLE", default_value = "onceguard_reader")]
        reader: String,
        /// Take row-level security away
        #[arg(long, conflicts_with = "reader")]
        drop: bool,
    },
    /// Revert the newest migration and apply it again; says what data that deletes, and asks first
    #[command(after_help = "Example:\n  onceguard migrate redo --yes")]
    Redo {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

impl Migrate {
    pub(super) async fn run(self, config: Config) -> Result<(), Failure> {
        match self {
            Self::Up => {
                let _lock = database::lock(&config)?;
                let store = database::open_or_create(&config).await?;
                let result = up(&store, &config).await;
                store.close().await;
                result
            }
            Self::Down { count, all, yes } => {
                database::must_exist(&config)?;
                let _lock = database::lock(&config)?;
                let store = database::open(&config).await?;
                let result = down(&store, if all { None } else { Some(count) }, yes).await;
                store.close().await;
                result
            }
            Self::Status { json } => {
                let store = database::open(&config).await?;
                let migrations = store.migrations().await;
                store.close().await;
                if json { print_json(&migrations?) } else { print_table(&migrations?) }
            }
            Self::Rls { reader, drop } => {
                let store = database::open_migrated(&config).await?;
                let result = rls(&store, (!drop).then_some(&reader)).await;
                store.close().await;
                result
            }
            Self::Redo { yes } => {
                database::must_exist(&config)?;
                let _lock = database::lock(&config)?;
                let store = database::open(&config).await?;
                let result = match down(&store, Some(1), yes).await {
                    Ok(()) => up(&store, &config).await,
                    Err(failure) => Err(failure),
                };
                store.close().await;
                result
            }
        }
    }
}

async fn up(store: &Store, config: &Config) -> Result<(), Failure> {
    let all = store.migrations().await?;
    // The newer version may have dropped or changed what is pending here.
    if let Some(unknown) = migrations::unknown(&all) {
        return Err(Failure::Refused(format!(
            "nothing was applied: the database has migration {unknown}, which this version of \
             onceguard does not know; use a newer version"
        )));
    }
    let applied = store.migrate_up().await?;
    for name in &applied {
        out::line(format!("applied {name}"))?;
    }
    if applied.len() == all.len() {
        // An empty database is begun on purpose: it need not follow an earlier one.
        heartbeat::forget(config)?;
    }
    if applied.is_empty() {
        out::note("nothing to apply: the database is up to date");
    }
    Ok(())
}

async fn down(store: &Store, count: Option<u32>, yes: bool) -> Result<(), Failure> {
    let migrations = store.migrations().await?;
    let newest = migrations.iter().rev().filter(|migration| migration.applied);
    let count_or_all =
        count.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX));
    let names: Vec<_> = newest.take(count_or_all).map(|m| m.name.as_str()).collect();
    if names.is_empty() {
        out::note("nothing to revert: the database has no migration");
        return Ok(());
    }
    // It would take changes again.
    if let Some(departure) = store.departure().await? {
        return Err(Failure::Refused(format!("nothing was reverted: {departure}")));
    }
    // Running instances use the tables and functions that reverting removes.
    database::nobody_serves(store, "nothing was reverted").await?;
    let lost: Vec<_> =
        names.iter().filter_map(|name| migrations::lost_by_reverting(name)).collect();
    let lost = match lost.as_slice() {
        [] => "No data is deleted.".to_owned(),
        lost => format!("This deletes {}.", lost.join("; ")),
    };
    let question = format!("This reverts {}. {lost}", names.join(", "));
    out::confirm(&question, yes)?;
    for name in store.migrate_down(count).await? {
        out::line(format!("reverted {name}"))?;
    }
    Ok(())
}

async fn rls(store: &Store, reader: Option<&str>) -> Result<(), Failure> {
    if let Some(reader) = reader {
        store.secure_rows(reader).await?;
        return out::line(format!(
            "the role {reader} now sees the rows of the DID that it sets as onceguard.did, and no others"
        ));
    }
    let readers = store.open_rows().await?;
    if readers.is_empty() {
        out::note("nothing to drop: there was no row-level security");
    }
    for reader in readers {
        out::line(format!(
            "row-level security is gone; the role {reader} stays, and may read nothing"
        ))?;
    }
    Ok(())
}

fn state(migration: &MigrationStatus) -> &'static str {
    match (migration.applied, migration.known) {
        (true, true) => "applied",
        (true, false) => "applied by a newer onceguard",
        (false, _) => "pending",
    }
}

fn print_table(migrations: &[MigrationStatus]) -> Result<(), Failure> {
    let rows: Vec<_> = migrations.iter().map(|m| [m.name.clone(), state(m).to_owned()]).collect();
    out::table(["MIGRATION", "STATE"], &rows)
}

fn print_json(migrations: &[MigrationStatus]) -> Result<(), Failure> {
    let items: Vec<_> = migrations
        .iter()
        .map(|m| json!({ "name": m.name, "applied": m.applied, "known": m.known }))
        .collect();
    let pending = migrations.iter().filter(|m| !m.applied).count();
    out::json(&json!({ "migrations": items, "pending": pending }))
}
