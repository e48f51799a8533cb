//! Opens the database for a command, which may run beside a serving instance.

use std::sync::Arc;

use super::{Failure, out};
use crate::app;
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl, SqliteLocation};
use crate::data_dir::{self, DataDirLock};
use crate::metrics::Metrics;
use crate::storage::sqlite::DatabaseLock;
use crate::storage::{Store, migrations};

/// Opens the database without migrating it. It must exist, but may lack migrations.
pub(super) async fn open(config: &Config) -> Result<Store, Failure> {
    must_exist(config)?;
    open_or_create(config).await
}

/// Refuses a database that does not exist. Makes no file and no folder.
pub(super) fn must_exist(config: &Config) -> Result<(), Failure> {
    match &config.database.url {
        DatabaseUrl::Sqlite(SqliteLocation::File(path)) if !path.exists() => {
            Err(Failure::Refused(format!(
                "there is no database at {}; `onceguard serve` and `onceguard migrate up` make one",
                path.display()
            )))
        }
        DatabaseUrl::Sqlite(SqliteLocation::Memory) => Err(Failure::Refused(
            "sqlite::memory: lives and dies with one process; name a database that stays"
                .to_owned(),
        )),
        DatabaseUrl::Sqlite(SqliteLocation::File(_)) | DatabaseUrl::Postgres(_) => Ok(()),
    }
}

/// Opens the database. If an SQLite file does not exist, makes an empty one.
pub(super) async fn open_or_create(config: &Config) -> Result<Store, Failure> {
    let metrics = Metrics::new()?;
    Ok(app::open_store(config, &Arc::new(metrics), &Clock::system()).await?)
}

/// Keeps an SQLite database from being served: the locks of the data folder and the database show
/// whether it is. On PostgreSQL see [`nobody_serves`].
pub(super) fn lock(
    config: &Config,
) -> Result<Option<(DataDirLock, Option<DatabaseLock>)>, Failure> {
    if config.database.is_postgres() {
        return Ok(None);
    }
    let folder = data_dir::create(&config.data_dir).and_then(|()| data_dir::lock(&config.data_dir));
    Ok(Some((folder?, app::lock_database(config)?)))
}

/// Refuses while an instance serves; `nothing` says what was not done.
pub(super) async fn nobody_serves(store: &Store, nothing: &str) -> Result<(), Failure> {
    let serving = store.serving().await?;
    if serving.is_empty() {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "{nothing}: {} onceguard {} serving on this database, connected {}; stop {} first",
        serving.len(),
        if serving.len() == 1 { "instance is" } else { "instances are" },
        serving.join(", "),
        if serving.len() == 1 { "it" } else { "them" },
    )))
}

/// Opens the database, which must have every migration of this binary, and take changes.
pub(super) async fn open_migrated(config: &Config) -> Result<Store, Failure> {
    let store = open_complete(config).await?;
    let refused = match store.departure().await {
        Ok(None) => return Ok(store),
        Ok(Some(departure)) => Failure::Refused(departure.to_string()),
        Err(error) => error.into(),
    };
    store.close().await;
    Err(refused)
}

/// Opens the database, which must have every migration of this binary. It may have been moved.
pub(super) async fn open_complete(config: &Config) -> Result<Store, Failure> {
    let store = open(config).await?;
    let all = store.migrations().await?;
    let pending = all.iter().filter(|migration| !migration.applied).count();
    if pending > 0 {
        store.close().await;
        return Err(Failure::Refused(format!(
            "the database lacks {pending} migrations; `onceguard migrate up` applies them"
        )));
    }
    if let Some(newer) = migrations::unknown(&all) {
        out::note(format!(
            "warning: the database has migration {newer}, which this binary does not know; \
             is there a newer onceguard?"
        ));
    }
    Ok(store)
}
