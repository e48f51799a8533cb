//! `onceguard backup`, `backup verify` and `backup show`, and the backups that the service makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Home, Running, http_client, wait_for};
use crate::{assert_failed, json, migrated};

/// The files of a folder, by name.
fn names(folder: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<_> = files.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

fn is_draft(name: &str) -> bool {
    name.strip_suffix(".draft").is_some()
}

pub(crate) fn place(home: &Home, name: &str) -> (PathBuf, String) {
    let path = home.folder().join(name);
    let text = path.display().to_string();
    (path, text)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_checked_and_shown(#[values(Sqlite, Postgres)] on: Database) {
    use std::os::unix::fs::PermissionsExt as _;
    let home = migrated(on).await;
    home.run(&["seed", "staging"]).await.success();
    let (path, file) = place(&home, "one.tar.zst");

    let made = json(home.run(&["backup", "--output", &file, "--json"]).await);
    assert_eq!(made["file"], file);
    assert_eq!(made["bytes"], path.metadata().unwrap().len());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!names(home.folder()).iter().any(|name| is_draft(name)));

    let checked = home.run(&["backup", "verify", &file]).await.success();
    assert_eq!(checked, format!("{file}: whole, {} rows\n", made["rows"]));
    let checked = json(home.run(&["backup", "verify", &file, "--json"]).await);
    assert_eq!(checked, json!({ "whole": true, "rows": made["rows"] }));

    let manifest = json(home.run(&["backup", "show", &file, "--json"]).await);
    let kind = if on == Postgres { "postgresql" } else { "sqlite" };
    assert_eq!((&manifest["format"], &manifest["source"]), (&json!(1), &json!(kind)));
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        manifest["taken_at"].as_str().unwrap()[..16],
        made["taken_at"].as_str().unwrap()[..16]
    );
    let tables = manifest["tables"].as_array().unwrap();
    let nonces = tables.iter().find(|table| table["name"] == "nonces").unwrap();
    assert_eq!(nonces["rows"], 1800);
    let shown = home.run(&["backup", "show", &file]).await.success();
    let nonces = |line: &str| line.split_whitespace().eq(["nonces", "1800"]);
    assert!(shown.lines().any(nonces), "{shown}");
    assert!(shown.contains(kind), "{shown}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_and_stats_tell_of_a_backup(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    assert!(last_backup(&home).await.ends_with(" never"));
    assert_eq!(json(home.run(&["stats", "--json"]).await)["last_backup_at"], json!(null));
    let (_, file) = place(&home, "one.tar.zst");
    home.run(&["backup", "--output", &file]).await.success();
    let raw = home.raw().await;
    let events = "actor || ' ' || subject FROM events WHERE type = 'onceguard.backup.made'";
    assert_eq!(raw.text(events).await, format!("operator {file}"));
    let stats = json(home.run(&["stats", "--json"]).await);
    assert!(stats["last_backup_at"].is_string(), "{stats}");
    let told = last_backup(&home).await;
    assert!(!told.contains("never"), "{told}");
}

/// What `onceguard stats` says of the last backup.
async fn last_backup(home: &Home) -> String {
    let stats = home.run(&["stats"]).await.success();
    stats.lines().find(|line| line.starts_with("last backup")).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_a_backup_has_the_time_for_one() {
    let home = migrated(Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = home.command(&["backup"]);
    command.current_dir(folder.path());
    let printed = Running::start(command).finished().await.success();
    let [name] = names(folder.path()).try_into().unwrap();
    assert!(printed.starts_with(&format!("{name}: ")), "{printed}");
    let digits = name.strip_prefix("onceguard_backup_").unwrap().strip_suffix(".tar.zst").unwrap();
    assert!(digits.len() == 15 && digits.as_bytes()[8] == b'_', "{name}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_to_standard_output(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let (path, file) = place(&home, "piped.tar.zst");
    let mut command = home.command(&["backup", "--output", "-"]);
    // A busy machine has slow statements, of which the log would warn.
    command.env("RUST_LOG", "error");
    command.stdout(Stdio::from(fs::File::create(&path).unwrap()));
    let finished = Running::start(command).finished().await;
    assert_eq!(finished.stderr, "", "progress is for terminals");
    finished.success();
    home.run(&["backup", "verify", &file]).await.success();
    let refused = home.run(&["backup", "--output", "-", "--json"]).await;
    assert_failed(&refused, 2, &["--json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_into_a_pipe_that_closes_has_failed() {
    let home = migrated(Sqlite).await;
    home.run(&["seed", "staging"]).await.success();
    let mut command = home.command(&["backup", "--output", "-"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.stdout(Stdio::from(writer));
    let finished = Running::start(command).finished().await;
    assert_eq!(finished.code(), 1, "{finished:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_never_overwritten(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let (path, file) = place(&home, "precious");
    fs::write(&path, "precious").unwrap();
    assert_failed(&home.run(&["backup", "--output", &file]).await, 4, &["precious exists"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let (_, nowhere) = place(&home, "no/such/folder/file");
    assert_failed(&home.run(&["backup", "--output", &nowhere]).await, 1, &["cannot write"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_archive_is_refused_by_name() {
    let home = migrated(Sqlite).await;
    home.run(&["seed"]).await.success();
    let (path, file) = place(&home, "one.tar.zst");
    home.run(&["backup", "--output", &file]).await.success();
    let bytes = fs::read(&path).unwrap();
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    for (bytes, words) in [
        (&changed[..], "is damaged in"),
        (&bytes[..bytes.len() / 2], "is truncated"),
        (b"nothing of that kind", "is no archive"),
    ] {
        fs::write(&path, bytes).unwrap();
        for look in ["verify", "show"] {
            assert_failed(&home.run(&["backup", look, &file]).await, 1, &[&file, words]);
        }
    }
    fs::remove_file(&path).unwrap();
    assert_failed(&home.run(&["backup", "verify", &file]).await, 1, &["cannot be read"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_missing_or_newer_is_refused() {
    let home = Home::on(Sqlite).await;
    let (path, file) = place(&home, "one.tar.zst");
    assert_failed(&home.run(&["backup", "--output", &file]).await, 4, &["there is no database"]);
    home.run(&["migrate", "up"]).await.success();
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000001')";
    home.raw().await.execute(newer).await;
    assert_failed(&home.run(&["backup", "--output", &file]).await, 4, &["99991231000001"]);
    assert!(!path.exists());
}

/// Many nonces, so that a backup takes long enough to be met in the middle.
pub(crate) async fn many_nonces(home: &Home, on: Database) {
    let fill = match on {
        Postgres => {
            "INSERT INTO signer_nonces (signer, nonce, used_at, expires_at) \
             SELECT decode(md5('x'), 'hex'), md5(i::text), now(), now() + interval '1 h' \
             FROM generate_series(1, 50000) AS i"
        }
        _ => {
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) \
             INSERT INTO signer_nonces (signer, nonce, used_at, expires_at) \
             SELECT x'00112233445566778899aabbccddeeff', hex(randomblob(16)) || i, 1, 2 FROM n"
        }
    };
    home.raw().await.execute(fill).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backup_leaves_no_file_of_its_name(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    many_nonces(&home, on).await;
    let (path, file) = place(&home, "one.tar.zst");
    let mut met = 0;
    for part in 0..12_u64 {
        let mut running = Running::start(home.command(&["backup", "--output", &file]));
        // Some bytes further each time.
        wait_for("a draft, or the end", async || {
            let written =
                |name: &String| home.folder().join(name).metadata().map(|file| file.len());
            let drafts = names(home.folder()).into_iter().filter(|name| is_draft(name));
            let enough = drafts.map(|name| written(&name).unwrap_or(0)).any(|n| n >= part * 90_000);
            (enough || path.exists()).then_some(())
        })
        .await;
        running.kill();
        drop(running.finished().await);
        if path.exists() {
            // It was whole before it was killed.
            home.run(&["backup", "verify", &file]).await.success();
            fs::remove_file(&path).unwrap();
        } else {
            met += 1;
        }
        for name in names(home.folder()).into_iter().filter(|name| is_draft(name)) {
            fs::remove_file(home.folder().join(name)).unwrap();
        }
    }
    assert!(met >= 3, "killed in the middle {met} times only");
    home.run(&["backup", "--output", &file]).await.success();
}

/// Of two instances with one PostgreSQL, one makes it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_service_makes_backups_and_keeps_the_newest(#[values(Sqlite, Postgres)] on: Database) {
    let backups = tempfile::tempdir().unwrap();
    let home = Home::on(on)
        .await
        .set("backup.interval_hours", 1)
        .set("backup.folder", backups.path().join("deep/inside").display())
        .set("backup.keep", 2)
        .set("jobs.sample_interval_seconds", 1);
    let folder = backups.path().join("deep/inside");
    fs::create_dir_all(&folder).unwrap();
    for time in ["20200101_000000", "20200102_000000"] {
        fs::write(folder.join(format!("onceguard_backup_{time}.tar.zst")), "old").unwrap();
    }
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    let process = home.start().await;
    let second = if on == Postgres { Some(home.another().start().await) } else { None };
    let raw = home.raw().await;
    let made = "count(*) FROM events WHERE type = 'onceguard.backup.made' AND actor = 'job:backup'";
    wait_for("a backup", async || (raw.number(made).await > 0).then_some(())).await;
    wait_for("the metric", async || {
        let url = format!("http://{}/metrics", process.ops);
        let client = http_client().build().unwrap();
        let text = client.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|l| l.starts_with("onceguard_last_backup_timestamp_seconds"));
        (!line?.ends_with(" 0")).then_some(())
    })
    .await;
    assert_eq!(process.stop().await.code(), 0);
    if let Some(second) = second {
        assert_eq!(second.stop().await.code(), 0);
    }
    let [notes, old, new] = names(&folder).try_into().unwrap();
    assert_eq!(
        (notes.as_str(), old.as_str()),
        ("notes.txt", "onceguard_backup_20200102_000000.tar.zst")
    );
    let new = folder.join(new).display().to_string();
    home.run(&["backup", "verify", &new]).await.success();

    // It is not due again, and a start does not make it so.
    let process = home.start().await;
    let runs = "count(*) FROM leases WHERE name = 'backup' AND taken_at > finished_at";
    wait_for("the job to look", async || (raw.number(runs).await > 0).then_some(())).await;
    assert_eq!(process.stop().await.code(), 0);
    assert_eq!(raw.number(made).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_of_a_second_have_two_names() {
    let home = migrated(Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let backups = (0..6).map(|_| {
        let mut command = home.command(&["backup"]);
        command.current_dir(folder.path());
        Running::start(command)
    });
    let backups: Vec<_> = backups.collect();
    for backup in backups {
        backup.finished().await.success();
    }
    let names = names(folder.path());
    assert_eq!(names.len(), 6, "{names:?}");
    for name in names {
        let file = folder.path().join(name).display().to_string();
        home.run(&["backup", "verify", &file]).await.success();
    }
}

/// What was added, and what is something else, is not called truncated.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_said_what_a_file_is() {
    let home = migrated(Sqlite).await;
    let (path, file) = place(&home, "one.tar.zst");
    home.run(&["backup", "--output", &file]).await.success();
    let bytes = fs::read(&path).unwrap();
    let text = zstd::encode_all(&b"a short text"[..], 1).unwrap();
    for (bytes, words) in [
        ([&bytes[..], b"more"].concat(), "something was added after it"),
        ([&bytes[..], &bytes[..]].concat(), "something was added after it"),
        (text, "is no archive of onceguard"),
        (bytes[..bytes.len() - 3].to_vec(), "is truncated"),
    ] {
        fs::write(&path, bytes).unwrap();
        assert_failed(&home.run(&["backup", "verify", &file]).await, 1, &[words]);
    }
}
