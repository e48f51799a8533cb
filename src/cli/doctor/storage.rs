//! What serving needs of the database: that it answers, has the tables, agrees about the time,
//! and was sealed with the configured keys.

use std::time::Instant;

use super::Check;
use crate::cli::database;
use crate::clock::Clock;
use crate::config::Config;
use crate::services::{Sealer, SealingKeys, check_keys};
use crate::storage::{DatabaseUrl, SqliteLocation, Store};

/// Clocks further apart than this are worth a look.
const SKEW_WARNING_SECONDS: i64 = 2;
/// Clocks further apart than this will have signatures and tokens refused.
const SKEW_FAILURE_SECONDS: i64 = 30;

pub(super) async fn checks(config: &Config) -> Vec<Check> {
    const NAME: &str = "database";
    match &config.database.url {
        DatabaseUrl::Sqlite(SqliteLocation::Memory) => {
            return vec![Check::warn(
                NAME,
                "sqlite::memory: forgets every nonce when the process ends; name a file",
            )];
        }
        DatabaseUrl::Sqlite(SqliteLocation::File(path)) if !path.exists() => {
            let path = path.display();
            return vec![Check::ok(
                NAME,
                format!("{path} does not exist; the first start makes it"),
            )];
        }
        DatabaseUrl::Sqlite(_) | DatabaseUrl::Postgres(_) => {}
    }
    let store = match database::open(config).await {
        Ok(store) => store,
        Err(failure) => return vec![Check::fail(NAME, failure.to_string())],
    };
    let checks = vec![
        answers(&store).await,
        migrations(&store, config).await,
        clock(&store).await,
        sealing(&store, config).await,
    ];
    store.close().await;
    checks
}

async fn answers(store: &Store) -> Check {
    const NAME: &str = "database";
    let started = Instant::now();
    match store.now().await {
        Ok(_) => {
            let took = started.elapsed().as_secs_f64() * 1000.0;
            Check::ok(NAME, format!("{} answers in {took:.1} ms", store.backend()))
        }
        Err(error) => Check::fail(NAME, error.to_string()),
    }
}

async fn migrations(store: &Store, config: &Config) -> Check {
    const NAME: &str = "migrations";
    let migrations = match store.migrations().await {
        Ok(migrations) => migrations,
        Err(error) => return Check::fail(NAME, error.to_string()),
    };
    if let Some(newer) = migrations.iter().find(|migration| !migration.known) {
        let name = &newer.name;
        return Check::fail(NAME, format!("{name} is of a newer onceguard; install that"));
    }
    let pending = migrations.iter().filter(|migration| !migration.applied).count();
    if pending == 0 {
        Check::ok(NAME, format!("all {} applied", migrations.len()))
    } else if !config.database.is_postgres() || config.database.migrate_on_start {
        Check::ok(NAME, format!("{pending} pending; the next start applies them"))
    } else {
        Check::fail(NAME, format!("{pending} pending; run `onceguard migrate up`"))
    }
}

/// Compares the two clocks, halfway through the question.
async fn clock(store: &Store) -> Check {
    const NAME: &str = "clock";
    let own = Clock::system();
    let before = own.now();
    let database = match store.now().await {
        Ok(database) => database,
        Err(error) => return Check::fail(NAME, error.to_string()),
    };
    let middle = before + (own.now() - before) / 2;
    let skew = (database - middle).abs();
    let detail = format!("{} ms from the database's", skew.num_milliseconds());
    if skew.num_seconds() >= SKEW_FAILURE_SECONDS {
        Check::fail(NAME, format!("{detail}; set both by NTP"))
    } else if skew.num_seconds() >= SKEW_WARNING_SECONDS {
        Check::warn(NAME, format!("{detail}; set both by NTP"))
    } else {
        Check::ok(NAME, detail)
    }
}

async fn sealing(store: &Store, config: &Config) -> Check {
    const NAME: &str = "sealing key";
    let known = match store.sealing_keys().await {
        Ok(known) => known,
        Err(error) => return Check::fail(NAME, error.to_string()),
    };
    let keys = match SealingKeys::load(&config.sealing, &config.data_dir, false) {
        Ok(keys) => keys,
        Err(_) if known.is_empty() && !config.database.is_postgres() => {
            return Check::ok(NAME, "there is none yet; the first start makes it");
        }
        Err(error) => return Check::fail(NAME, error.to_string()),
    };
    let sealer = Sealer::new(&keys);
    match check_keys(&sealer, &known) {
        Ok(()) => Check::ok(NAME, format!("{} seals", sealer.key_id())),
        Err(error) => Check::fail(NAME, error.to_string()),
    }
}
