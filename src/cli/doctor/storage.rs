//! What serving needs of the database: that it answers, has all migrations, agrees about the time,
//! was sealed with the configured keys, did not go back in time, has records that add up, and sends to
//! its webhooks.

use std::time::Instant;

use super::check::Check;
use super::webhooks;
use crate::app;
use crate::cli::{database, format};
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl, SqliteLocation};
use crate::jobs::heartbeat;
use crate::services::{Sealer, SealingKeys, check_keys};
use crate::storage::migrations::unknown;
use crate::storage::{Compared, Finding, Store};

/// Clocks further apart than this are a warning.
const SKEW_WARNING_SECONDS: i64 = 2;
/// Clocks further apart than this are a failure: signatures and tokens would be refused.
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
            if let Some(why) = app::lost_database(config) {
                return vec![Check::fail(NAME, why)];
            }
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
    let mut checks = vec![answers(&store).await];
    checks.extend(server(&store).await);
    checks.extend(file(&store).await);
    match store.departure().await {
        Ok(None) => {}
        Ok(Some(departure)) => checks.push(Check::fail(NAME, departure.to_string())),
        Err(error) => checks.push(Check::fail(NAME, error.to_string())),
    }
    let (migrations, complete) = migrations(&store, config).await;
    checks.push(migrations);
    checks.push(clock(&store, complete).await);
    if complete {
        checks.push(sealing(&store, config).await);
        checks.push(past(&store, config).await);
        checks.extend(records(&store).await);
        checks.extend(webhooks::checks(&store, config).await);
    }
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

/// One check for each finding. What every connection needs was checked when it was opened.
async fn server(store: &Store) -> Vec<Check> {
    const NAME: &str = "server";
    if matches!(store, Store::Sqlite(_)) {
        return Vec::new();
    }
    let mut findings = match store.findings().await {
        Ok(findings) => findings,
        Err(error) => return vec![Check::fail(NAME, error.to_string())],
    };
    if let Err(error) = store.takes_changes().await {
        findings.push(Finding { fatal: true, what: error.to_string() });
    }
    let ok = "takes writes, makes them durable, and is no pooler in transaction mode";
    each(NAME, findings, ok)
}

/// One check for each kind of fault.
async fn records(store: &Store) -> Vec<Check> {
    const NAME: &str = "records";
    match store.record_findings().await {
        Ok(findings) => each(NAME, findings, "contents, sizes and counts add up"),
        Err(error) => vec![Check::fail(NAME, error.to_string())],
    }
}

fn each(name: &'static str, findings: Vec<Finding>, ok: &str) -> Vec<Check> {
    if findings.is_empty() {
        return vec![Check::ok(name, ok)];
    }
    let check = |Finding { fatal, what }| {
        if fatal { Check::fail(name, what) } else { Check::warn(name, what) }
    };
    findings.into_iter().map(check).collect()
}

/// The pages of SQLite's file. `None` when there is nothing to say.
async fn file(store: &Store) -> Option<Check> {
    const NAME: &str = "database file";
    let damage = match store.damage().await {
        Ok(damage) => damage?,
        Err(error) => error.to_string(),
    };
    let advice = "stop the service, and restore a backup";
    Some(Check::fail(NAME, format!("it is damaged ({damage}); {advice}")))
}

/// Also returns whether every table is there, because the other checks need them. Pending
/// migrations are only a warning, so that `doctor` can run before `onceguard migrate up`.
async fn migrations(store: &Store, config: &Config) -> (Check, bool) {
    const NAME: &str = "migrations";
    let migrations = match store.migrations().await {
        Ok(migrations) => migrations,
        Err(error) => return (Check::fail(NAME, error.to_string()), false),
    };
    let pending = migrations.iter().filter(|migration| !migration.applied).count();
    let check = if let Some(newer) = unknown(&migrations) {
        Check::fail(
            NAME,
            format!("{newer} is a migration of a newer onceguard; install that version"),
        )
    } else if pending == 0 {
        Check::ok(NAME, format!("all {} applied", migrations.len()))
    } else if !config.database.is_postgres() || config.database.migrate_on_start {
        Check::ok(NAME, format!("{pending} pending; the next start applies them"))
    } else {
        let advice = "run `onceguard migrate up` before `onceguard serve`, then run `doctor` again";
        Check::warn(NAME, format!("{pending} pending; {advice}"))
    };
    (check, pending == 0)
}

/// SQLite's clock is the machine's, so there is nothing to compare it with; but a purge may have
/// shown that it was wrong. PostgreSQL's clock is compared with the machine's time in the middle of
/// the query.
async fn clock(store: &Store, complete: bool) -> Check {
    const NAME: &str = "clock";
    let history = if complete { store.history().await.map(Some) } else { Ok(None) };
    let purged_until = match history {
        Ok(history) => history.and_then(|history| history.purged_until),
        Err(error) => return Check::fail(NAME, error.to_string()),
    };
    let own = Clock::system();
    let before = own.now();
    let database = match store.now().await {
        Ok(database) => database,
        Err(error) => return Check::fail(NAME, error.to_string()),
    };
    if let Some(until) = purged_until.filter(|until| *until > database) {
        return Check::warn(
            NAME,
            format!(
                "while a clock was ahead, a purge removed nonces that expire up to {until}; claims by \
                 signers that expire by then are refused until then, and others are not. Keep the clock \
                 right by NTP. If that is too long, stop every instance, and run \
                 `onceguard recover --clock-was-ahead`",
                until = format::time(until)
            ),
        );
    }
    if let Store::Sqlite(_) = store {
        return Check::ok(
            NAME,
            format!("{}, the machine's: keep it right by NTP", format::time(database)),
        );
    }
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

/// Whether the database has what it had when it was last served, as far as that is known.
async fn past(store: &Store, config: &Config) -> Check {
    const NAME: &str = "past";
    let mark = match heartbeat::remembered(config) {
        Ok(mark) => mark,
        Err(error) => return Check::fail(NAME, error.to_string()),
    };
    let compared = match &mark {
        Some(mark) => store.compare(mark).await,
        None => Ok(Compared::Holds),
    };
    let found = match compared {
        Ok(compared) => store.is_elsewhere().await.map(|elsewhere| (compared, elsewhere)),
        Err(error) => Err(error),
    };
    let advice = if config.database.is_postgres() {
        "if another server has it, as after a fail-over, set database.url to that one; if nothing was \
         lost, run `onceguard recover --nothing-lost`, else `onceguard recover`"
    } else {
        "if nothing was lost, run `onceguard recover --nothing-lost`, else `onceguard recover`"
    };
    match found {
        Ok((Compared::OldPrimary, _)) => Check::fail(
            NAME,
            "the database is on an old primary: set database.url to the server that was promoted in \
             its place, and fence this one",
        ),
        Err(error) => Check::fail(NAME, error.to_string()),
        Ok((Compared::Holds, false)) => Check::ok(NAME, "nothing is known to be missing"),
        Ok((Compared::Holds | Compared::Behind, true)) => Check::warn(
            NAME,
            format!(
                "the database is on another server than before, and may lack commits; {advice}"
            ),
        ),
        Ok((Compared::Behind, false)) => {
            Check::fail(NAME, format!("the database was put back to an earlier state; {advice}"))
        }
        Ok((Compared::Foreign, _)) => Check::fail(
            NAME,
            format!(
                "the database is not the one that {} remembers; {advice}",
                config.recovery.mark_file.display()
            ),
        ),
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
