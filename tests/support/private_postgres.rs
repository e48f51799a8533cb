//! A PostgreSQL server for one test, to configure, to crash and to start again.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::wait_for;
use super::raw_sql::RawSql;
use super::unique;

/// Stopped and removed when dropped.
pub struct PrivatePostgres {
    folder: TempDir,
    url: String,
}

impl PrivatePostgres {
    /// Starts a server. Takes a second or two.
    pub fn start() -> Self {
        let folder = folder();
        let url = last_line(&script(&["start"], folder.path()));
        Self { folder, url }
    }

    /// Starts a hot standby of this server. It is asynchronous until [`Self::wait_for_standby`].
    pub fn standby(&self) -> Self {
        let (folder, primary) = (folder(), self.folder.path().to_str().unwrap());
        let url = last_line(&script(&["standby", primary], folder.path()));
        Self { folder, url }
    }

    /// From now on, every commit of this server waits for its standby, which must be running.
    pub async fn wait_for_standby(&self) {
        let raw = self.raw().await;
        raw.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'").await;
        raw.execute("SELECT pg_reload_conf()").await;
        let synchronous = "count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        wait_for("the standby", async || (raw.number(synchronous).await > 0).then_some(())).await;
    }

    /// Promotes a standby to a primary.
    pub fn promote(&self) {
        script(&["promote"], self.folder.path());
    }

    /// The URL of its database `postgres`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// SQL in that database.
    pub async fn raw(&self) -> RawSql {
        RawSql::postgres(&self.url.parse().unwrap()).await
    }

    /// Writes a file in its data folder, which only the server's user can read. A file that the
    /// server reads when it starts counts from the next start on.
    pub fn write_file(&self, name: &str, content: &str) {
        let data = self.folder.path().join("data");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(data.join(name))
            .unwrap();
        let owner = data.metadata().unwrap();
        fchown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        file.write_all(content.as_bytes()).unwrap();
    }

    /// Removes a file of its data folder.
    pub fn remove_file(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join("data").join(name)).unwrap();
    }

    /// Starts it again, with these settings added.
    pub fn restart_with(&self, settings: &str) {
        self.write_file("postgresql.auto.conf", settings);
        self.stop();
        self.restart();
    }

    /// Stops it as abruptly as a power failure.
    pub fn crash(&self) {
        script(&["stop", "immediate"], self.folder.path());
    }

    /// Stops it in order, and closes open connections.
    pub fn stop(&self) {
        script(&["stop", "fast"], self.folder.path());
    }

    /// Starts it again on the same port.
    pub fn restart(&self) {
        let url = last_line(&script(&["restart"], self.folder.path()));
        assert_eq!(url, self.url, "the same address as before");
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return self.crash();
        }
        // A second panic would hide the first.
        let _ = std::panic::catch_unwind(|| script(&["stop", "immediate"], self.folder.path()));
    }
}

/// Under `make test`, the folder is where that command finds and stops the server if this process
/// is killed.
fn folder() -> TempDir {
    let parent =
        std::env::var_os("TEST_POSTGRES_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new().prefix(&format!("private-{}-", unique())).tempdir_in(parent).unwrap()
}

/// Runs `throwaway-postgres ACTION FOLDER [REST]` and returns what it printed.
fn script(arguments: &[&str], folder: &Path) -> String {
    let (action, rest) = arguments.split_first().unwrap();
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/throwaway-postgres"))
        .arg(action)
        .arg(folder)
        .args(rest)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "throwaway-postgres {action} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn last_line(output: &str) -> String {
    output.lines().last().unwrap_or_default().to_owned()
}
