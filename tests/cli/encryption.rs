//! Encrypted archives, by the real program `age`: only the secret key opens them, and nothing that
//! is not encrypted touches the disk.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rstest::rstest;

use crate::backup::{many_nonces, place};
use crate::restore::held;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Home, Running};
use crate::{assert_failed, json, migrated};

/// A new secret key in a file, and its public key.
fn a_key(home: &Home, name: &str) -> (String, String) {
    let (path, file) = place(home, name);
    let made = Command::new("age-keygen").args(["-o", &file]).stderr(Stdio::null()).status();
    let made = made.expect("age is missing, and these tests need it: `apt-get install age`");
    assert!(made.success());
    let text = fs::read_to_string(path).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    (file, public.to_owned())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_archive_needs_its_key(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let (key, public) = a_key(&home, "one.key");
    let (other, _) = a_key(&home, "other.key");
    let (_, second) = a_key(&home, "second.key");
    let (path, file) = place(&home, "one.tar.zst.age");
    let backup =
        ["backup", "--output", &file, "--recipient", &public, "--recipient", &second, "--json"];
    let made = json(home.run(&backup).await);
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"age-encryption.org/v1"));
    assert_eq!(made["bytes"], bytes.len());

    for look in [&["backup", "verify", &file][..], &["backup", "show", &file]] {
        assert_failed(&home.run(look).await, 4, &["is encrypted", "--identity"]);
        home.run(&[look, &["--identity", &key]].concat()).await.success();
        let refused = home.run(&[look, &["--identity", &other]].concat()).await;
        assert_failed(&refused, 1, &["cannot be decrypted", "no identity matched"]);
    }
    let (_, nowhere) = place(&home, "nowhere.key");
    let refused = home.run(&["backup", "verify", &file, "--identity", &nowhere]).await;
    assert_failed(&refused, 1, &["cannot be decrypted", "nowhere.key"]);

    let there = migrated(Sqlite).await;
    let restore = ["restore", &file, "--yes", "--tokens", "keep"];
    assert_failed(&there.run(&restore).await, 4, &["is encrypted"]);
    there.run(&[&restore[..], &["--identity", &key]].concat()).await.success();
    assert_eq!(held(&there).await["nonces"].len(), 3);

    // One changed byte anywhere, and any length but the whole.
    let before = there.raw().await.data().await;
    for part in 0..20 {
        let mut changed = bytes.clone();
        changed[bytes.len() * part / 20] ^= 1;
        fs::write(&path, changed).unwrap();
        assert_eq!(home.run(&["backup", "verify", &file, "--identity", &key]).await.code(), 1);
    }
    for length in [bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        let refused = there.run(&[&restore[..], &["--identity", &key]].concat()).await;
        assert_failed(&refused, 1, &[&file]);
    }
    assert_eq!(there.raw().await.data().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_has_the_service_encrypt() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::on(Sqlite).await;
    let (key, public) = a_key(&home, "one.key");
    let home = home
        .set("backup.interval_hours", 1)
        .set("backup.folder", folder.path().display())
        .set("backup.recipients", &public);
    let process = home.start().await;
    let made = "count(*) FROM events WHERE type = 'onceguard.backup.made'";
    let raw = home.raw().await;
    crate::support::wait_for("a backup", async || (raw.number(made).await > 0).then_some(())).await;
    assert_eq!(process.stop().await.code(), 0);
    // By a command, in the same second or not, there are as many names as files.
    for _ in 0..3 {
        let mut command = home.command(&["backup"]);
        command.current_dir(folder.path());
        Running::start(command).finished().await.success();
    }
    let names = names(folder.path());
    assert_eq!(names.len(), 4, "{names:?}");
    for name in names {
        assert!(name.ends_with(".tar.zst.age"), "{name}");
        let file = folder.path().join(name).display().to_string();
        home.run(&["backup", "verify", &file, "--identity", &key]).await.success();
    }
    let (_, plain) = place(&home, "out");
    let mut command = home.command(&["backup", "--output", "-"]);
    command.stdout(Stdio::from(fs::File::create(&plain).unwrap()));
    Running::start(command).finished().await.success();
    home.run(&["backup", "verify", &plain, "--identity", &key]).await.success();
}

/// Killed in the middle, it leaves only what is encrypted.
#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_encrypted_too() {
    let home = migrated(Sqlite).await;
    many_nonces(&home, Sqlite).await;
    let (_, public) = a_key(&home, "one.key");
    let (path, file) = place(&home, "one.age");
    let backup = ["backup", "--output", &file, "--recipient", &public];
    let mut running = Running::start(home.command(&backup));
    let draft = crate::support::wait_for("a draft with something in it", async || {
        let drafts = names(home.folder()).into_iter().filter(|name| name.contains(".draft"));
        let mut paths = drafts.map(|name| home.folder().join(name));
        let found = paths.find(|draft| draft.metadata().is_ok_and(|file| file.len() > 100_000));
        found.or_else(|| path.exists().then(|| path.clone()))
    });
    let draft = draft.await;
    running.kill();
    drop(running.finished().await);
    assert!(fs::read(draft).unwrap().starts_with(b"age-encryption.org/v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_encrypted_is_not_written() {
    let home = migrated(Sqlite).await;
    let (_, public) = a_key(&home, "one.key");
    let (path, file) = place(&home, "one.age");
    let backup = |recipient| ["backup", "--output", &file, "--recipient", recipient];

    let wrong = format!("{public}x");
    assert_failed(&home.run(&backup(&wrong)).await, 1, &["cannot write", "age could not encrypt"]);
    let secret = home.run(&backup("AGE-SECRET-KEY-1QQ")).await;
    assert_failed(&secret, 2, &["is a secret key"]);
    assert_failed(&home.run(&backup("me")).await, 2, &["public keys of age"]);
    let configured = migrated(Sqlite).await.set("backup.recipients", "AGE-SECRET-KEY-1QQ");
    let refused = configured.run(&["backup"]).await;
    assert_failed(&refused, 2, &["backup.recipients", "is a secret key"]);

    let mut command = home.command(&backup(&public));
    command.env("PATH", "/nowhere");
    let missing = Running::start(command).finished().await;
    assert_failed(&missing, 1, &["age is missing", "install it"]);
    assert!(!path.exists() && !names(home.folder()).iter().any(|name| name.contains(".draft")));
}
