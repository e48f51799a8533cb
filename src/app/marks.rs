//! What the data folder remembers of the database: the mark that an earlier process left, and the
//! journal. A start never serves a database that lacks what the mark remembers, unless it recovers it.

use std::net::SocketAddr;

use rustix::system::uname;

use super::start_error::StartError;
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl, OnCut, Replication, SqliteLocation};
use crate::jobs::heartbeat;
use crate::services::{self, ADMIN_TOKEN_FILE, KEY_FILE};
use crate::storage::{Compared, Joining, Mark, Memory, Store};

/// Reports that this data folder has served before, but its SQLite database is gone. An empty
/// database in its place would accept again every nonce that the lost one had accepted.
#[must_use]
pub fn lost_database(config: &Config) -> Option<String> {
    match &config.database.url {
        DatabaseUrl::Sqlite(SqliteLocation::File(path)) if !path.exists() => {
            Some(format!("{} does not exist, {}", path.display(), served_before(config)?))
        }
        _ => None,
    }
}

/// How this data folder shows that it has served before, and what to do about its database.
pub(super) fn served_before(config: &Config) -> Option<String> {
    let files = [KEY_FILE, ADMIN_TOKEN_FILE].map(|name| config.data_dir.join(name));
    let file = files.iter().chain([&config.recovery.mark_file]).find(|file| file.exists())?;
    Some(format!(
        "but {} is of an earlier start; put the database back, or set database.url to where it is \
         now. To begin with an empty one, which accepts again what the other had accepted, run \
         `onceguard migrate up`",
        file.display()
    ))
}

/// Refuses a database that lacks what an earlier process of this data folder knew of, unless the start
/// will recover it for another reason. Changes nothing.
pub(super) async fn compare(store: &Store, mark: &Mark, config: &Config) -> Result<(), StartError> {
    // An empty one is refused with its schema.
    let is_shared = matches!(store, Store::Postgres(_));
    if is_shared && store.migrations().await?.iter().all(|migration| !migration.applied) {
        return Ok(());
    }
    let what = match store.compare(mark).await? {
        Compared::Holds => return Ok(()),
        Compared::Behind => {
            let recovers = config.recovery.on_cut == OnCut::Recover
                && config.recovery.replication == Replication::Asynchronous;
            if recovers && store.is_elsewhere().await? {
                return Ok(());
            }
            "lacks commits that it had acknowledged: it was put back to an earlier state"
        }
        Compared::OldPrimary => {
            return Err(StartError::WentBack(format!(
                "the database is on an old primary: another server was promoted in its place, and \
                 the file {} is of that one. Set database.url to the new primary, and fence this \
                 one. Only if the new one is lost for good, run `onceguard recover`",
                config.recovery.mark_file.display()
            )));
        }
        Compared::Foreign => "is another one, or was put back to a state before its last recovery",
    };
    let elsewhere = if is_shared {
        " If another server has it, as after a fail-over, set database.url to that one."
    } else {
        ""
    };
    Err(StartError::WentBack(format!(
        "the database {what}. The file {} remembers what was there.{elsewhere} To make the database \
         safe to use, run `onceguard recover`; if nothing was lost, as after a move that followed a \
         clean stop, run `onceguard recover --nothing-lost`",
        config.recovery.mark_file.display()
    )))
}

/// What the instance tells the store, and what the store asks of the data folder.
pub(super) fn joining(
    api: SocketAddr,
    mark: Option<&Mark>,
    config: &Config,
    clock: &Clock,
) -> Joining {
    Joining {
        name: api.to_string(),
        host: uname().nodename().to_string_lossy().into_owned(),
        replication: config.recovery.replication,
        on_cut: config.recovery.on_cut,
        skew: config.signatures.skew().to_std().unwrap_or_default(),
        known_until: mark.map(|mark| mark.at),
        issued_until: mark.and_then(|mark| mark.issued_until),
        clock: clock.clone(),
        memory: memory(config),
        marks: heartbeat::marks(config),
    }
}

/// What a recovery does again: what the journal of the data folder has.
fn memory(config: &Config) -> Memory {
    let folder = config.data_dir.clone();
    Memory::new(move || match services::remembered(&folder) {
        Ok((remembered, _)) => remembered,
        Err(error) => {
            tracing::error!(%error, "the journal of revocations cannot be read: revoke again by hand");
            Vec::new()
        }
    })
}
