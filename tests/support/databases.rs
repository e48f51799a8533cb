//! A fresh, migrated database of each kind, and what tests may do to it behind the store's back.
//!
//! PostgreSQL: a new database on the server that `TEST_POSTGRES_URL` names, copied from a template
//! that is migrated once. SQLite: a new file, or memory.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use onceguard::clock::Clock;
use onceguard::config;
use onceguard::config::{DatabaseUrl, PostgresOptions, SqliteLocation, SslMode};
use onceguard::domain::{ApiToken, Event, EventFilter, Head, HeadKey, SignedHead, TokenHash};
use onceguard::metrics::Metrics;
use onceguard::storage::{self, ClaimLimits, EventChain, Store, StoreError};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::hex;
use super::raw_sql::RawSql;

/// What a test runs on: `#[values(Sqlite, Memory, Postgres)] on: Database`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite,
    /// `sqlite::memory:`. Only the store can reach it, so a test cannot use raw SQL on it.
    Memory,
    Postgres,
}

/// The limits of a test's store.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub quota_per_signer: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { quota_per_signer: 1_000_000 }
    }
}

/// A store on a database of its own, which is removed when this is dropped.
pub struct TestStore {
    store: Store,
    clock: Clock,
    raw: Option<RawSql>,
    url: DatabaseUrl,
    limits: Limits,
    /// How far [`Self::pass`] moved the rows, but not the clock, into the past.
    aged: std::sync::Mutex<Duration>,
    home: Home,
}

/// What to remove at the end.
enum Home {
    Folder(TempDir),
    Nothing,
    Postgres(PostgresDatabase),
}

/// A new database on the tests' PostgreSQL, dropped with this.
pub struct PostgresDatabase {
    name: String,
}

impl PostgresDatabase {
    /// Makes a database, empty or with every migration.
    pub async fn create(migrated: bool) -> Self {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        let template = if migrated { template().await.to_owned() } else { "template0".to_owned() };
        let admin = connect(&server_url()).await;
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await.unwrap();
        Self { name }
    }

    /// A copy of it as it is now, under another name. Its connections are cut for that.
    async fn copy(&self) -> Self {
        let (source, name) = (&self.name, format!("test_{}", uuid::Uuid::now_v7().simple()));
        let admin = connect(&server_url()).await;
        for sql in [
            format!("ALTER DATABASE {source} WITH ALLOW_CONNECTIONS false"),
            format!(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE datname = '{source}'"
            ),
            format!("CREATE DATABASE {name} TEMPLATE {source}"),
            format!("ALTER DATABASE {source} WITH ALLOW_CONNECTIONS true"),
        ] {
            admin.batch_execute(&sql).await.unwrap();
        }
        Self { name }
    }

    /// Its URL, for `DATABASE_URL`.
    pub fn url(&self) -> String {
        let mut url = url::Url::parse(&server_url()).unwrap();
        url.set_path(&self.name);
        url.into()
    }
}

impl Database {
    /// A store on a fresh, migrated database.
    pub async fn store(self) -> TestStore {
        self.store_with(Limits::default()).await
    }

    pub async fn store_with(self, limits: Limits) -> TestStore {
        self.make(limits, true).await
    }

    /// A store on an empty database.
    pub async fn unmigrated(self) -> TestStore {
        self.make(Limits::default(), false).await
    }

    async fn make(self, limits: Limits, migrated: bool) -> TestStore {
        let (url, home) = match self {
            Self::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("test.db");
                (DatabaseUrl::Sqlite(SqliteLocation::File(file)), Home::Folder(folder))
            }
            Self::Memory => (DatabaseUrl::Sqlite(SqliteLocation::Memory), Home::Nothing),
            Self::Postgres => {
                let database = PostgresDatabase::create(migrated).await;
                (database_url(&database.url()), Home::Postgres(database))
            }
        };
        let store = TestStore::open(url, limits, Clock::system(), home).await;
        if migrated && self != Self::Postgres {
            store.migrate_up().await.unwrap();
        }
        store
    }
}

impl TestStore {
    /// The newest events, newest first, once every event is linked.
    pub async fn newest_events(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        while self.store.unlinked_for().await?.is_some() {
            self.store.link_events().await?;
        }
        let mut events = Vec::new();
        loop {
            let after = events.last().map_or(0, |event: &Event| event.sequence);
            let page = self.store.events(&EventFilter::default(), after, 1000).await?;
            if page.is_empty() {
                break;
            }
            events.extend(page);
        }
        Ok(events.into_iter().rev().take(limit).collect())
    }

    /// Links every event, and keeps a head of the log, signed with a key of the tests.
    pub async fn sign_head(&self) -> SignedHead {
        self.newest_events(0).await.unwrap();
        let EventChain { origin, sequence, hash, observed_at: at, .. } =
            self.store.event_chain().await.unwrap();
        let head = HeadKey::new(&[1; 32]).sign(Head { origin, sequence, hash, at });
        self.store.keep_event_head(head.clone()).await.unwrap();
        head
    }

    async fn open(url: DatabaseUrl, limits: Limits, clock: Clock, home: Home) -> Self {
        let store = open(&url, limits, &clock).await;
        let raw = match &url {
            DatabaseUrl::Sqlite(SqliteLocation::Memory) => None,
            DatabaseUrl::Sqlite(SqliteLocation::File(file)) => Some(RawSql::sqlite(file)),
            DatabaseUrl::Postgres(options) => Some(RawSql::postgres(&options.connection).await),
        };
        Self { store, clock, raw, url, limits, aged: Duration::ZERO.into(), home }
    }

    /// A copy of the database as it is now, such as an operator puts back later. On PostgreSQL this
    /// store and its raw SQL lose their connections: go on with [`Self::another`].
    pub async fn copy(&self) -> Self {
        let (url, home) = match &self.home {
            Home::Folder(_) => {
                let folder = tempfile::tempdir().unwrap();
                let file = folder.path().join("copy.db");
                self.raw().execute(&format!("VACUUM INTO '{}'", file.display())).await;
                (DatabaseUrl::Sqlite(SqliteLocation::File(file)), Home::Folder(folder))
            }
            Home::Postgres(database) => {
                let copy = database.copy().await;
                (database_url(&copy.url()), Home::Postgres(copy))
            }
            Home::Nothing => panic!("sqlite::memory: cannot be copied"),
        };
        Self::open(url, self.limits, self.clock.clone(), home).await
    }

    /// The same database, opened again as another instance would.
    pub async fn another(&self) -> Store {
        open(&self.url, self.limits, &self.clock).await
    }

    /// The token with this hash, valid or not.
    pub async fn token(&self, hash: &TokenHash) -> storage::Result<Option<ApiToken>> {
        let found = self.tokens(vec![*hash]).await?.pop();
        found.map(|(_, token)| token).transpose()
    }

    pub fn url(&self) -> &DatabaseUrl {
        &self.url
    }

    /// `DATABASE_URL` of a PostgreSQL store.
    pub fn postgres_url(&self) -> String {
        match &self.home {
            Home::Postgres(database) => database.url(),
            Home::Folder(_) | Home::Nothing => panic!("this store is not on PostgreSQL"),
        }
    }

    /// SQL behind the store's back.
    pub fn raw(&self) -> &RawSql {
        self.raw.as_ref().expect("sqlite::memory: has no raw SQL; run this test on files")
    }

    /// Makes everything in the database older by `time`. The database's clock decides, and
    /// PostgreSQL's cannot be moved, so there all rows move into the past instead.
    pub async fn pass(&self, time: Duration) {
        if self.store.backend() == "sqlite" {
            self.clock.pass(chrono::Duration::from_std(time).unwrap());
        } else {
            self.raw().age_all_rows(time).await;
            *self.aged.lock().unwrap() += time;
        }
    }

    /// A time read from the store now, in a form that compares with times read before a
    /// [`Self::pass`].
    pub fn steady(&self, time: onceguard::domain::Timestamp) -> onceguard::domain::Timestamp {
        time + *self.aged.lock().unwrap()
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // `drop` is synchronous, and a runtime cannot wait inside another runtime.
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
                async { connect(&server_url()).await.batch_execute(&sql).await.unwrap() },
            );
        })
        .join();
        let dropped = dropped.is_ok() || std::thread::panicking();
        assert!(dropped, "the test's database could not be dropped");
    }
}

/// Opens a store for tests.
pub async fn store_at(url: &DatabaseUrl) -> Store {
    open(url, Limits::default(), &Clock::system()).await
}

async fn open(url: &DatabaseUrl, limits: Limits, clock: &Clock) -> Store {
    let limits = ClaimLimits {
        quota_per_signer: limits.quota_per_signer,
        quota_per_namespace: limits.quota_per_signer,
    };
    let metrics = Arc::new(Metrics::new().unwrap());
    Store::open(&database_config(url.clone()), limits, metrics, clock.clone()).await.unwrap()
}

/// `[database]` for tests: small pools, real time-outs.
pub fn database_config(url: DatabaseUrl) -> config::Database {
    config::Database {
        url,
        migrate_on_start: false,
        allow_plaintext: false,
        statement_timeout: Duration::from_secs(30),
        claim_statement_timeout: Duration::from_secs(5),
        slow_statement: Duration::from_millis(100),
        pool: config::Pool {
            max: 4,
            min: 1,
            idle_timeout: Duration::from_mins(30),
            max_age: Duration::from_hours(1),
            acquire_timeout: Duration::from_secs(10),
        },
        sqlite_readers: 2,
    }
}

/// The URL of a database on a PostgreSQL server, as the configuration would read it.
pub fn database_url(url: &str) -> DatabaseUrl {
    postgres_url(url, None)
}

fn postgres_url(server: &str, database: Option<&str>) -> DatabaseUrl {
    let mut connection: tokio_postgres::Config = server.parse().unwrap();
    if let Some(name) = database {
        connection.dbname(name);
    }
    DatabaseUrl::Postgres(Box::new(PostgresOptions {
        connection,
        ssl_mode: SslMode::Disable,
        ssl_root_cert: None,
    }))
}

fn server_url() -> String {
    std::env::var("TEST_POSTGRES_URL").unwrap_or_else(|_| {
        panic!(
            "TEST_POSTGRES_URL is not set, and these tests need a PostgreSQL: run `make test`, \
             or `scripts/throwaway-postgres run -- cargo test …` for some of them"
        )
    })
}

pub(super) async fn connect(url: &str) -> Client {
    connect_with(&url.parse().unwrap()).await
}

pub(super) async fn connect_with(config: &tokio_postgres::Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The migrated database from which PostgreSQL's test databases are copied. Its name depends on the
/// migrations, so a template with other migrations is never used. The first process makes it.
async fn template() -> &'static str {
    static TEMPLATE: OnceCell<String> = OnceCell::const_new();
    TEMPLATE.get_or_init(make_template).await
}

async fn make_template() -> String {
    let name = format!("template_{}", migrations_digest());
    let admin = connect(&server_url()).await;
    admin.batch_execute("SELECT pg_advisory_lock(7211)").await.unwrap();
    let made = admin
        .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
        .await
        .unwrap()
        .is_some();
    if !made {
        let unfinished = format!("{name}_unfinished");
        for sql in [
            format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)"),
            format!("CREATE DATABASE {unfinished} TEMPLATE template0"),
        ] {
            admin.batch_execute(&sql).await.unwrap();
        }
        let url = postgres_url(&server_url(), Some(&unfinished));
        let migrate = async move {
            let store = store_at(&url).await;
            store.migrate_up().await.unwrap();
            store.close().await;
            // Copies of it are databases of their own.
            let DatabaseUrl::Postgres(options) = &url else { unreachable!() };
            RawSql::postgres(&options.connection).await.execute(FORGET_SERVER).await;
        };
        // Migrations block their thread, and the first test's runtime may have only one thread.
        let apart = || tokio::runtime::Runtime::new().unwrap().block_on(migrate);
        tokio::task::spawn_blocking(apart).await.unwrap();
        // PostgreSQL copies a database only while no connection to it is open.
        for sql in [
            format!("ALTER DATABASE {unfinished} WITH ALLOW_CONNECTIONS false"),
            format!(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                 WHERE datname = '{unfinished}'"
            ),
            format!("ALTER DATABASE {unfinished} RENAME TO {name}"),
        ] {
            admin.batch_execute(&sql).await.unwrap();
        }
    }
    // The lock ends with this connection.
    name
}

/// As in a database that no instance has served yet.
const FORGET_SERVER: &str = "UPDATE history SET system_identifier = NULL, timeline = NULL, \
                             database_oid = NULL, nonces_oid = NULL";

/// A digest of PostgreSQL's migrations, in 16 hexadecimal digits.
fn migrations_digest() -> String {
    fn add(digest: &mut Sha256, path: &Path) {
        if path.is_dir() {
            let mut entries: Vec<_> =
                std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
            entries.sort();
            for entry in entries {
                add(digest, &entry);
            }
        } else {
            digest.update(path.to_string_lossy().as_bytes());
            digest.update(std::fs::read(path).unwrap());
        }
    }
    let mut digest = Sha256::new();
    add(&mut digest, &Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres"));
    hex(&digest.finalize()[..8])
}
