//! A power cut undoes what was not synced: a file's content, and its name in the folder. A test
//! cannot cut the power, so it checks the order in which the process syncs and uses the files that
//! it makes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Database, Home};

/// What writes down the steps of a process that is started by this command: `sync PATH` and `link PATH`.
struct Syncs {
    folder: tempfile::TempDir,
}

impl Syncs {
    fn of(command: &mut Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("syncs.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/power_cut.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compile.status().unwrap().success(), "cc, which SQLite is built with, failed");
        command.env("LD_PRELOAD", &library).env("SYNCS", folder.path().join("syncs"));
        Self { folder }
    }

    fn lines(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("syncs")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

/// The steps of this home's `onceguard` from its start to its stop.
async fn syncs(home: &Home, data_dir: &Path) -> Vec<String> {
    let mut command = home.command(&["serve", "--data-dir"]);
    let database = format!("sqlite://{}", data_dir.join("onceguard.db").display());
    command.arg(data_dir).args(["--database-url", &database]);
    let syncs = Syncs::of(&mut command);
    let _ = std::fs::remove_file(data_dir.join("ops.addr"));
    let running = home.spawn(command);
    crate::support::wait_for("the process to serve", async || {
        data_dir.join("ops.addr").exists().then_some(())
    })
    .await;
    running.signal("TERM");
    running.finished().await.success();
    syncs.lines()
}

/// Asserts that after `first`, and before the next `then`, this was synced.
#[track_caller]
fn assert_between(syncs: &[String], first: &str, synced: &Path, then: &Path) {
    let begin = syncs.iter().position(|line| line == first);
    let begin = begin.unwrap_or_else(|| panic!("no {first:?} in {syncs:#?}"));
    let then = format!("sync {}", then.display());
    let between: Vec<_> = syncs[begin..].iter().take_while(|line| **line != then).collect();
    let synced = format!("sync {}", synced.display());
    assert!(between.iter().any(|line| **line == synced), "no {synced:?} in {between:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_first_start_makes_outlives_a_power_cut_before_it_is_used() {
    let home = Home::on(Database::Sqlite).await;
    let root = home.folder().canonicalize().unwrap();
    let folder = root.join("made/by/the start");
    let first = syncs(&home, &folder).await;
    // The database's first commit is used, and so is a key or token whose digest it holds.
    let wal: PathBuf = folder.join("onceguard.db-wal");
    for made in ["sealing.key", "admin.token"] {
        let linked = format!("link {}", folder.join(made).display());
        assert_between(&first, &linked, &folder, &wal);
        let draft = folder.join(made).with_extension("draft");
        let drafted = first.iter().position(|line| *line == format!("sync {}", draft.display()));
        let linked = first.iter().position(|line| *line == linked);
        assert!(drafted.is_some() && drafted < linked, "{first:#?}");
    }
    let begin = first.first().unwrap().clone();
    for synced in [&root, &root.join("made"), &root.join("made/by"), &folder] {
        assert_between(&first, &begin, synced, &wal);
    }

    // A start that was killed between making a file and syncing its name has not synced it.
    let second = syncs(&home, &folder).await;
    for kept in ["sealing.key", "admin.token"] {
        let kept = format!("sync {}", folder.join(kept).display());
        let at = second.iter().position(|line| *line == kept).unwrap_or_else(|| {
            panic!("no {kept:?} in {second:#?}");
        });
        let name = format!("sync {}", folder.display());
        assert!(second[at + 1..].iter().take(2).any(|line| *line == name), "{second:#?}");
    }
}

/// A name without its content would be taken for a backup, and the content is known by no other name.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_on_the_disk_before_it_has_its_name() {
    let home = Home::on(Database::Sqlite).await;
    home.run(&["migrate", "up"]).await.success();
    let root = home.folder().canonicalize().unwrap();
    let archive = root.join("backup.tar.zst");
    let mut command = home.command(&["backup", "--output"]);
    command.arg(&archive);
    let syncs = Syncs::of(&mut command);
    home.spawn(command).finished().await.success();
    let steps = syncs.lines();
    let find = |what: &str| {
        let found = steps.iter().position(|line| line.starts_with(what));
        found.unwrap_or_else(|| panic!("no {what:?} in {steps:#?}"))
    };
    let content = find(&format!("sync {}.", archive.display()));
    let name = find(&format!("link {}", archive.display()));
    assert!(content < name, "{steps:#?}");
    let folder = format!("sync {}", root.display());
    assert!(steps[name..].contains(&folder), "{steps:#?}");
}

/// It says what the database had: a power cut must not bring an older one back.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_on_the_disk_with_its_name_before_the_next() {
    let home = Home::on(Database::Sqlite).await;
    let folder = home.folder().canonicalize().unwrap().join("data");
    let mut steps = syncs(&home, &folder).await;
    // Others may be synced meanwhile.
    let others = ["onceguard.db", "heads"].map(|name| folder.join(name).display().to_string());
    steps.retain(|line| !others.iter().any(|other| line.contains(other)));
    let content = format!("sync {}", folder.join("mark.draft").display());
    let name = format!("sync {}", folder.display());
    let mut marks = steps.split(|line| *line == content).skip(1).peekable();
    assert!(marks.peek().is_some(), "no {content:?} in {steps:#?}");
    assert!(marks.all(|after| after.first() == Some(&name)), "{steps:#?}");
}
