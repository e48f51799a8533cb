//! The real binary as a separate process: to kill, to stop, to run twice.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use tempfile::TempDir;

use super::databases::{Database, PostgresDatabase};
use super::raw_sql::RawSql;

/// How long a test waits for something that must happen. Only a failing test waits that long.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// A sealing key for instances that share a database: 32 bytes in base64.
pub const SEALING_KEY: &str = "c2VhbGluZyBrZXkgb2YgdGhlIGNoYW9zIHRlc3RzISE=";

/// The surroundings of a process: its data folder, its database, its configuration.
pub struct Home {
    folder: TempDir,
    /// `None` means the default, an SQLite file in the folder.
    url: Option<String>,
    database: Option<Arc<PostgresDatabase>>,
    settings: Vec<(String, String)>,
}

impl Home {
    /// With a fresh database. PostgreSQL's is migrated.
    pub async fn on(database: Database) -> Self {
        match database {
            Database::Sqlite => Self::new(None),
            Database::Memory => Self::new(Some("sqlite::memory:".to_owned())),
            Database::Postgres => Self::with(PostgresDatabase::create(true).await),
        }
    }

    /// With this PostgreSQL database.
    pub fn with(database: PostgresDatabase) -> Self {
        Self { database: Some(Arc::new(database)), ..Self::new(None) }
    }

    /// With the database of this URL.
    pub fn at(url: &str) -> Self {
        Self::new(Some(url.to_owned()))
    }

    fn new(url: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, url, database: None, settings: Vec::new() }
            .set("server.listen", "127.0.0.1:0")
            .set("ops.listen", "127.0.0.1:0")
            .set("database.pool.max", "6")
            .set("database.pool.min", "1")
            .set("log.format", "json")
    }

    /// Another data folder with the same PostgreSQL database and the same configuration.
    pub fn another(&self) -> Self {
        let (url, database) = (self.url.clone(), self.database.clone());
        Self {
            url,
            database,
            settings: self.settings.clone(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Configures one key, by its environment variable.
    #[allow(clippy::needless_pass_by_value, reason = "numbers and texts, as they come")]
    pub fn set(self, key: &str, value: impl ToString) -> Self {
        let mut home = self.unset(key);
        home.settings.push((key.to_owned(), value.to_string()));
        home
    }

    /// Resets one key to its default.
    pub fn unset(mut self, key: &str) -> Self {
        self.settings.retain(|(set, _)| set != key);
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The database's URL.
    pub fn url(&self) -> String {
        match (&self.url, &self.database) {
            (Some(url), _) => url.clone(),
            (None, Some(database)) => database.url(),
            (None, None) => format!("sqlite://{}", self.file().display()),
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("onceguard.db")
    }

    /// SQL behind the service's back. An SQLite file must exist already.
    pub async fn raw(&self) -> RawSql {
        let url = self.url();
        if url.starts_with("postgres:") {
            RawSql::postgres(&url.parse().unwrap()).await
        } else {
            RawSql::sqlite(&self.file())
        }
    }

    /// The admin token that the first start left in the folder.
    pub fn token(&self) -> String {
        let file = self.folder.path().join("admin.token");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// `onceguard` with these arguments and only this home's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onceguard"));
        self.equip(command.args(arguments));
        command
    }

    /// Gives a command this home's environment, and captures its output.
    pub fn equip(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("ONCEGUARD_DATA_DIR", self.folder.path())
            .env("DATABASE_URL", self.url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.url().starts_with("postgres:") {
            command.env("ONCEGUARD_SEALING__KEY", SEALING_KEY);
        }
        for (key, value) in &self.settings {
            let name = format!("ONCEGUARD_{}", key.to_uppercase().replace('.', "__"));
            command.env(name, value);
        }
    }

    /// Starts `onceguard serve`, and waits until it serves.
    pub async fn start(&self) -> Process {
        self.start_as(self.command(&["serve"])).await
    }

    /// Starts this command, which must run `onceguard serve`.
    pub async fn start_as(&self, command: Command) -> Process {
        let mut running = self.spawn(command);
        let api = self.address(&mut running, "listen.addr").await;
        let ops = self.address(&mut running, "ops.addr").await;
        Process { running, api, ops }
    }

    /// Starts a command. First removes the addresses that an earlier run left behind.
    pub fn spawn(&self, command: Command) -> Running {
        for file in ["listen.addr", "ops.addr"] {
            let _ = std::fs::remove_file(self.folder.path().join(file));
        }
        Running::start(command)
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Finished {
        Running::start(self.command(arguments)).finished().await
    }

    /// Whether a process has listened since the last start.
    pub fn has_listened(&self) -> bool {
        self.folder.path().join("listen.addr").exists()
    }

    async fn address(&self, running: &mut Running, file: &str) -> SocketAddr {
        let file = self.folder.path().join(file);
        let told = wait_for("the process to listen", async || {
            if let Some(status) = running.child.try_wait().unwrap() {
                panic!("onceguard ended instead of serving: {status}\n{}", running.output());
            }
            // A line without its last character is not complete yet.
            std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'))
        });
        told.await.trim().parse().unwrap()
    }
}

/// Repeats the question until there is an answer.
pub async fn wait_for<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asked)
        .await
        .unwrap_or_else(|_| panic!("waited {} s for {what}", DEADLINE.as_secs()))
}

/// A serving process. Killed when dropped.
pub struct Process {
    running: Running,
    pub api: SocketAddr,
    pub ops: SocketAddr,
}

impl Process {
    /// Kills it, as the kernel does when it runs out of memory.
    pub async fn kill(mut self) {
        self.running.kill();
        self.running.finished().await;
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    /// Freezes it until it gets `CONT`, and returns when no thread of it runs any more: one that is
    /// told to stop may still finish what it was at.
    pub async fn freeze(&self) {
        self.signal("STOP");
        let pid = Pid::from_raw(self.pid().cast_signed());
        let options = WaitOptions::UNTRACED | WaitOptions::NOHANG;
        wait_for("the process to freeze", async || {
            let (_, status) = waitpid(pid, options).unwrap()?;
            status.stopped().then_some(())
        })
        .await;
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(self) -> Finished {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Finished {
        self.running.finished().await
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        self.running.output()
    }

    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }
}

/// A started command. Killed when dropped.
pub struct Running {
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

/// How a command ended, and what it wrote.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit code of a process that no signal ended.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// What a successful command wrote to standard output.
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}\n{}", self.status, self.stderr);
        self.stdout
    }
}

impl Running {
    /// Starts a command, and captures its output through pipes.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = Captured::of(child.stdout.take());
        let stderr = Captured::of(child.stderr.take());
        Self { child, stdout, stderr }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(status.success(), "kill -s {name}");
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for its end.
    pub async fn finished(mut self) -> Finished {
        let child = &mut self.child;
        let status = wait_for("the process to end", async || child.try_wait().unwrap()).await;
        let (stdout, stderr) = (self.stdout.whole(), self.stderr.whole());
        Finished { status, stdout, stderr }
    }

    /// What it has written so far, to standard output and then to standard error.
    pub fn output(&self) -> String {
        self.stdout.so_far() + &self.stderr.so_far()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The output that came through a pipe so far.
struct Captured {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    /// `None` means that the output goes elsewhere.
    fn of(pipe: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        let reader = pipe.map(|mut pipe| {
            std::thread::spawn(move || {
                let mut part = [0; 8192];
                while let Ok(length @ 1..) = pipe.read(&mut part) {
                    kept.lock().unwrap().extend_from_slice(&part[..length]);
                }
            })
        });
        Self { text, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    /// The whole output of a process that has ended.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.so_far()
    }
}
