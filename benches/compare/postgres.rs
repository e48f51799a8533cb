//! The throw-away PostgreSQL that `scripts/throwaway-postgres` started: databases on it, SQL, and
//! the processor time of its processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::NoTls;
use url::Url;

use crate::Result;
use crate::process::{children, cpu_time};

/// A server that has run for a while reuses its WAL files. A new server makes and syncs a file
/// whenever one is full, and claims wait for that.
const FILL_WAL: &str = "
    DO $$ BEGIN
        FOR file IN 1 .. (SELECT setting::int / 16 FROM pg_settings WHERE name = 'min_wal_size')
        LOOP
            PERFORM pg_logical_emit_message(false, 'bench', 'filled');
            PERFORM pg_switch_wal();
        END LOOP;
    END $$";

pub struct Postgres {
    url: Url,
    folder: PathBuf,
    runtime: Runtime,
}

impl Postgres {
    /// Takes the server from the environment.
    pub fn from_environment() -> Result<Self> {
        let variable = |name| {
            std::env::var(name).map_err(|_| format!("{name} is not set: run this by `make bench`"))
        };
        let url = variable("TEST_POSTGRES_URL")?.parse()?;
        let folder = PathBuf::from(variable("TEST_POSTGRES_DIR")?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let postgres = Self { url, folder, runtime };
        postgres.execute(&postgres.url, FILL_WAL)?;
        Ok(postgres)
    }

    /// Everything in this folder is removed at the end.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An empty database, after a checkpoint. So the writes of earlier rows are on disk, and do not
    /// disturb the next one.
    pub fn database(&self) -> Result<Database<'_>> {
        let name = format!("bench_{}", uuid::Uuid::new_v4().simple());
        self.execute(&self.url, "CHECKPOINT")?;
        self.execute(&self.url, &format!("CREATE DATABASE {name}"))?;
        let mut url = self.url.clone();
        url.set_path(&name);
        Ok(Database { postgres: self, url, name })
    }

    /// Its version, and the settings that differ from its package.
    pub fn description(&self) -> Result<String> {
        let version = self.value(&self.url, "SHOW server_version")?;
        let buffers = self.value(&self.url, "SHOW shared_buffers")?;
        let wal = self.value(&self.url, "SHOW max_wal_size")?;
        Ok(format!("{version}, shared_buffers = {buffers}, max_wal_size = {wal}"))
    }

    /// The processor time of all its processes so far.
    pub fn cpu_time(&self) -> Option<Duration> {
        let pid = fs::read_to_string(self.folder.join("main/data/postmaster.pid")).ok()?;
        let postmaster: u32 = pid.lines().next()?.trim().parse().ok()?;
        let own = cpu_time(postmaster)?;
        Some(children(postmaster).into_iter().filter_map(cpu_time).sum::<Duration>() + own)
    }

    fn execute(&self, url: &Url, sql: &str) -> Result<()> {
        self.runtime.block_on(async {
            Ok(connect(url).await?.batch_execute(sql).await.map_err(|e| explain(sql, &e))?)
        })
    }

    fn value(&self, url: &Url, sql: &str) -> Result<String> {
        self.values(url, sql)?.pop().ok_or_else(|| format!("nothing: {sql}").into())
    }

    /// The first column of every row, as text.
    fn values(&self, url: &Url, sql: &str) -> Result<Vec<String>> {
        self.runtime.block_on(async {
            let messages =
                connect(url).await?.simple_query(sql).await.map_err(|e| explain(sql, &e))?;
            let value = |message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            };
            Ok(messages.into_iter().filter_map(value).collect())
        })
    }
}

fn explain(sql: &str, error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error} {cause} in {}", sql.trim().lines().next().unwrap_or_default())
}

async fn connect(url: &Url) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url.as_str(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A database that is dropped with this.
pub struct Database<'p> {
    pub postgres: &'p Postgres,
    pub url: Url,
    name: String,
}

impl Database<'_> {
    pub fn run(&self, sql: &str) -> Result<()> {
        self.postgres.execute(&self.url, sql)
    }

    pub fn value(&self, sql: &str) -> Result<String> {
        self.postgres.value(&self.url, sql)
    }

    pub fn values(&self, sql: &str) -> Result<Vec<String>> {
        self.postgres.values(&self.url, sql)
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        if let Err(error) = self.postgres.execute(&self.postgres.url, &sql) {
            eprintln!("{error}");
        }
    }
}
