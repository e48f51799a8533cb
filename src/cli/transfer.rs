//! `onceguard transfer`: moves a database, whole, into another one of either kind.

use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use super::progress::Shown;
use super::{Failure, database, out, quiet};
use crate::app;
use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl, Need, Sources, SqliteLocation};
use crate::metrics::Metrics;
use crate::storage::sqlite::DatabaseLock;
use crate::storage::{
    Agree, Arrival, Departure, Dump, Fingerprints, Pace, RestoreFeed, Store, StoreError,
    TransferTarget, agreement, holds_nothing, migrations, place, restore_rows,
};

#[derive(Debug, Args)]
#[command(
    after_help = "No instance may serve on either database. From the beginning of the transfer, the \
        source takes no changes. At its end it is moved for ever: `onceguard serve` on it says \
        where to. Nothing is lost, so sessions live on; give the instances that use the target the \
        same sealing key. If the command is killed, run it again, which finishes it, or run it \
        with --cancel, which has the source take changes again.\n\n\
        Examples:\n  \
        onceguard transfer --from sqlite://data/onceguard.db --to postgres://onceguard@db/onceguard\n  \
        onceguard transfer --from sqlite://data/onceguard.db --cancel"
)]
pub(super) struct Transfer {
    /// The database to move
    #[arg(long, value_name = "URL")]
    from: String,
    /// Where to: an SQLite file that need not exist, or a PostgreSQL database that holds nothing
    #[arg(long, value_name = "URL", required_unless_present = "cancel")]
    to: Option<String>,
    /// Have the source take changes again, unless it was moved already
    #[arg(long, conflicts_with = "to")]
    cancel: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Transfer {
    pub(super) async fn run(self, sources: &Sources) -> Result<(), Failure> {
        let config = quiet(&at(sources, "--from", &self.from), Need::Database)?;
        database::must_exist(&config)?;
        let source = End::take(config)?;
        let store = database::open_complete(&source.config).await?;
        let done = self.act(sources, &source, &store).await;
        store.close().await;
        done
    }

    async fn act(&self, sources: &Sources, source: &End, from: &Store) -> Result<(), Failure> {
        let Some(to) = &self.to else { return self.cancel(from).await };
        let config = at(sources, "--to", to).load(Need::Database)?.config;
        if place(&config.database.url) == source.place {
            return Err(Failure::Usage("--from and --to name the same database".to_owned()));
        }
        let target = End::take(config)?;
        if let Some(departure) = from.departure().await? {
            check_course(&departure, &target)?;
        }
        database::nobody_serves(from, "nothing was moved").await?;
        let metrics = Arc::new(Metrics::new()?);
        let taking = TransferTarget::open(&target.config.database, metrics, &source.place).await?;
        let moved = match target.look(&taking, from).await? {
            Look::HasAll => None,
            Look::Ready => {
                out::confirm(&question(from, source, &target).await?, self.yes)?;
                Some(carry(from, source, &target, taking).await?)
            }
        };
        // The target serves from now on, whether or not the source can be told so.
        if let Some(departure) = from.departure().await? {
            from.confirm_transfer(departure.id).await?;
        }
        self.print(source, &target, moved.as_ref())
    }

    async fn cancel(&self, from: &Store) -> Result<(), Failure> {
        let Some(departure) = from.departure().await? else {
            return Err(Failure::Refused("no transfer of this database has begun".to_owned()));
        };
        if !from.release(departure.id).await? {
            let now = from.departure().await?.unwrap_or(departure);
            return Err(Failure::Refused(now.to_string()));
        }
        if self.json {
            return out::json(&json!({ "cancelled": departure.id }));
        }
        out::line(format!(
            "the transfer to {} is called off: this database takes changes again",
            departure.to
        ))
    }

    fn print(
        &self,
        source: &End,
        target: &End,
        moved: Option<&Fingerprints>,
    ) -> Result<(), Failure> {
        if self.json {
            let tables = moved.map(|moved| {
                moved
                    .tables()
                    .map(|(name, found)| json!({ "name": name, "rows": found.rows, "sum": found.sum() }))
                    .collect::<Vec<_>>()
            });
            return out::json(&json!({
                "from": source.place,
                "to": target.place,
                "rows": moved.map(Fingerprints::rows),
                "tables": tables,
            }));
        }
        match moved {
            Some(moved) => out::line(format!(
                "{} rows are moved to {}, and are the same there",
                moved.rows(),
                target.place
            ))?,
            None => out::line(format!("an earlier run has moved everything to {}", target.place))?,
        }
        out::note(
            "Configure the instances to use that database (database.url), with the same sealing \
             key, and start them.",
        );
        Ok(())
    }
}

/// One of the two databases, which no instance can take as long as this lives.
struct End {
    config: Config,
    /// In words, without user and password.
    place: String,
    _lock: Option<DatabaseLock>,
}

/// What is in the target.
enum Look {
    /// Nothing, or a part of the rows of a transfer that has not ended.
    Ready,
    /// All rows of this very transfer: an earlier run was killed when that was done.
    HasAll,
}

/// The configuration with this database in it.
fn at(sources: &Sources, flag: &'static str, url: &str) -> Sources {
    sources.clone().flag(flag, "database.url", Some(url.to_owned()))
}

impl End {
    fn take(config: Config) -> Result<Self, Failure> {
        if matches!(config.database.url, DatabaseUrl::Sqlite(SqliteLocation::Memory)) {
            return Err(Failure::Usage(
                "sqlite::memory: lives and dies with one process; name a database that stays"
                    .to_owned(),
            ));
        }
        let lock = app::lock_database(&config)?;
        Ok(Self { place: place(&config.database.url), config, _lock: lock })
    }

    fn file(&self) -> Option<&std::path::Path> {
        match &self.config.database.url {
            DatabaseUrl::Sqlite(SqliteLocation::File(path)) => Some(path),
            DatabaseUrl::Sqlite(SqliteLocation::Memory) | DatabaseUrl::Postgres(_) => None,
        }
    }

    /// Gives a PostgreSQL database every table. A file is made with them.
    async fn make_tables(&self) -> Result<(), Failure> {
        if self.file().is_some() {
            return Ok(());
        }
        let store = database::open_or_create(&self.config).await?;
        let made = store.migrate_up().await;
        store.close().await;
        Ok(made.map(drop)?)
    }

    /// Refuses a target that holds data, unless it is what `from` was moved to.
    async fn look(&self, taking: &TransferTarget, from: &Store) -> Result<Look, Failure> {
        if taking.is_begun() || self.file().is_some_and(|path| !path.exists()) {
            return Ok(Look::Ready);
        }
        let store = database::open_or_create(&self.config).await?;
        let look = self.look_at(&store, from).await;
        store.close().await;
        look
    }

    async fn look_at(&self, store: &Store, from: &Store) -> Result<Look, Failure> {
        database::nobody_serves(store, "nothing was moved").await?;
        let all = store.migrations().await?;
        if let Some(newer) = migrations::unknown(&all) {
            return Err(Failure::Refused(format!(
                "the target has migration {newer}, which this onceguard does not know: use the \
                 newer one"
            )));
        }
        let pending = all.iter().filter(|migration| !migration.applied).count();
        if pending == all.len() {
            return Ok(Look::Ready);
        }
        let course = from.departure().await?;
        // An earlier run may have been killed while it made the tables.
        if pending > 0 && course.is_some() {
            return Ok(Look::Ready);
        }
        if pending > 0 {
            return Err(Failure::Refused(format!(
                "the target lacks {pending} migrations; `onceguard migrate up` applies them"
            )));
        }
        if let Some(departure) = store.departure().await? {
            return Err(Failure::Refused(format!("the target cannot be used: {departure}")));
        }
        let arrived = store.arrived_by().await?;
        if arrived.is_some() && arrived == course.map(|course| course.id) {
            return Ok(Look::HasAll);
        }
        let rows = store.table_rows().await?;
        if holds_nothing(&rows) {
            return Ok(Look::Ready);
        }
        let rows: Vec<_> = rows.iter().filter(|(_, rows)| *rows > 0).collect();
        let rows: Vec<_> = rows.iter().map(|(name, rows)| format!("{rows} {name}")).collect();
        Err(Failure::Refused(format!(
            "the target holds data ({}), and a transfer drops nothing: name an empty database",
            rows.join(", ")
        )))
    }
}

/// A source that is on its way goes nowhere else.
fn check_course(departure: &Departure, target: &End) -> Result<(), Failure> {
    if departure.confirmed_at.is_some() {
        return Err(Failure::Refused(departure.to_string()));
    }
    if departure.to != target.place {
        return Err(Failure::Refused(format!("--to names {}, but {departure}", target.place)));
    }
    Ok(())
}

async fn question(from: &Store, source: &End, target: &End) -> Result<String, Failure> {
    let rows = from.table_rows().await?;
    let rows: Vec<_> = rows.iter().map(|(name, rows)| format!("{rows} {name}")).collect();
    Ok(format!(
        "This moves {} ({}) to {}.\n\
         From now on the source takes no changes, and at the end it is moved for ever.",
        source.place,
        rows.join(", "),
        target.place
    ))
}

/// Moves everything. If that fails before the source is moved for ever, the source takes changes
/// again.
async fn carry(
    from: &Store,
    source: &End,
    target: &End,
    taking: TransferTarget,
) -> Result<Fingerprints, Failure> {
    let departure = from.drain(&target.place).await?;
    check_course(&departure, target)?;
    let carried = carry_drained(from, source, target, taking, &departure).await;
    if carried.is_err() {
        match from.release(departure.id).await {
            Ok(true) => out::note("the source takes changes again"),
            Ok(false) => out::note("the source is moved already: run this again to finish it"),
            Err(error) => out::note(format!(
                "warning: the source takes no changes, and could not be told otherwise ({error}): \
                 run this again, or with --cancel"
            )),
        }
    }
    carried
}

async fn carry_drained(
    from: &Store,
    source: &End,
    target: &End,
    taking: TransferTarget,
    departure: &Departure,
) -> Result<Fingerprints, Failure> {
    if !taking.is_begun() {
        target.make_tables().await?;
    }
    let total = from.table_rows().await?.iter().map(|(_, rows)| rows).sum();
    let (feed, rows) = restore_rows();
    let (agreement, agree) = agreement();
    let reading = give(from.dump(Pace::Alone).await?, feed, total);
    let arrival =
        Arrival { id: departure.id, from: source.place.clone(), at: Clock::system().now() };
    let (sent, given) = oneshot::channel();
    let receiving = async { taking.receive(rows, arrival, agreement).await.map_err(Failure::from) };
    let agreeing = agree_once(from, departure, agree, given);
    let giving = async {
        // What went wrong while reading says more than that the rows ended.
        let read = reading.await.map_err(|error| Failure::Failed(error.to_string()))?;
        if let Ok(found) = &read {
            let _ = sent.send(found.clone());
        }
        read.map_err(Failure::from)
    };
    let (given, agreed, received) = tokio::join!(giving, agreeing, receiving);
    let given: Option<Fingerprints> = given?;
    agreed?;
    received?;
    given.ok_or_else(|| Failure::Failed("the target did not take every row".to_owned()))
}

/// Moves the source for ever, if the target has what it gave.
async fn agree_once(
    from: &Store,
    departure: &Departure,
    agree: Agree,
    given: oneshot::Receiver<Option<Fingerprints>>,
) -> Result<(), Failure> {
    // When either is missing, the other side tells why.
    let Some((found, answer)) = agree.found().await else { return Ok(()) };
    let Ok(Some(given)) = given.await else { return Ok(()) };
    if let Some(table) = given.difference(&found) {
        return Err(Failure::Failed(format!(
            "the rows of {table} are not the same in the target: nothing was moved"
        )));
    }
    if !from.hand_over(departure.id).await? {
        return Err(Failure::Refused(
            "the transfer was called off meanwhile: nothing was moved".to_owned(),
        ));
    }
    let _ = answer.send(());
    Ok(())
}

/// Reads the source, and gives its rows to the target. `None` if that did not take them.
fn give(
    mut dump: Dump,
    feed: RestoreFeed,
    total: u64,
) -> JoinHandle<Result<Option<Fingerprints>, StoreError>> {
    let runtime = Handle::current();
    spawn_blocking(move || {
        let (mut shown, mut found) = (Shown::of(total), Fingerprints::default());
        while let Some(chunk) = runtime.block_on(dump.next())? {
            found.add_chunk(&chunk);
            shown.update(chunk.table, found.rows());
            if !feed.chunk(chunk.table, chunk.lines) {
                return Ok(None);
            }
        }
        feed.whole();
        Ok(Some(found))
    })
}
