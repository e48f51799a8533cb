//! `onceguard restore`: what comes back, what is refused, and that it is all or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use onceguard::archive::{self, InvalidArchive, Manifest, Origin, Writer};
use onceguard::clock::Clock;
use onceguard::storage::tables::OLDEST_ARCHIVE;
use rstest::rstest;
use serde_json::{Value, json};

use crate::backup::{many_nonces, place};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, Home, Running, http_client};
use crate::{assert_failed, json, migrated};

pub(crate) type Rows = BTreeMap<String, Vec<Value>>;

pub(crate) fn read(file: &Path) -> (Manifest, Rows) {
    let mut rows = Rows::new();
    let manifest = archive::read::<InvalidArchive>(file, None, |table, lines| {
        let lines = String::from_utf8(lines).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap());
        rows.entry(table.to_owned()).or_default().extend(lines);
        Ok(())
    });
    (manifest.unwrap(), rows)
}

/// The rows of a table, in any order, without these columns.
pub(crate) fn without(rows: &Rows, table: &str, columns: &[&str]) -> BTreeSet<String> {
    let rows = rows.get(table).map_or(&[][..], Vec::as_slice);
    let mut kept = BTreeSet::new();
    for row in rows {
        let mut row = row.as_object().unwrap().clone();
        for column in columns {
            row.remove(*column).unwrap();
        }
        kept.insert(serde_json::to_string(&row).unwrap());
    }
    assert_eq!(kept.len(), rows.len());
    kept
}

/// What the database holds, by a backup of its own.
pub(crate) async fn held(home: &Home) -> Rows {
    let (path, file) = place(home, "held.tar.zst");
    home.run(&["backup", "--output", &file]).await.success();
    let (_, rows) = read(&path);
    fs::remove_file(&path).unwrap();
    rows
}

/// A database with something of everything, and its archive.
async fn source(on: Database) -> (Home, String) {
    let home = migrated(on).await;
    home.run(&["seed", "staging"]).await.success();
    home.run(&["token", "create", "--name", "one", "--scope", "admin"]).await.success();
    let (_, file) = place(&home, "source.tar.zst");
    home.run(&["backup", "--output", &file]).await.success();
    (home, file)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_either_database_restores_into_either(
    #[values(Sqlite, Postgres)] from: Database,
    #[values(Sqlite, Postgres)] to: Database,
) {
    let (_source, file) = source(from).await;
    let (manifest, before) = read(Path::new(&file));
    let home = migrated(to).await;
    home.run(&["seed"]).await.success();
    let restore = ["restore", &file, "--yes", "--tokens", "keep", "--json"];
    let told = json(home.run(&restore).await);
    assert_eq!(told["rows"], manifest.rows());
    assert_eq!(told["sessions_ended"], 180);

    let after = held(&home).await;
    for table in ["nonces", "signer_nonces", "signers", "api_tokens"] {
        assert_eq!(without(&after, table, &[]), without(&before, table, &[]), "{table}");
    }
    let stale = ["stale_at", "updated_at"];
    assert_eq!(without(&after, "dids", &stale), without(&before, "dids", &stale));
    let ended = ["ended_at", "end_reason", "session_key", "key_id", "version"];
    assert_eq!(without(&after, "sessions", &ended), without(&before, "sessions", &ended));
    for session in &after["sessions"] {
        assert!(!session["ended_at"].is_null() && session["session_key"].is_null(), "{session}");
    }
    let links = ["sequence", "salt", "commitment", "hash"];
    let events = without(&after, "events", &links);
    assert!(events.is_superset(&without(&before, "events", &links)));
    let acts: BTreeSet<_> =
        after["events"].iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(acts.contains("onceguard.database.recovered"), "{acts:?}");
    assert!(!after.contains_key("sealing_keys"));
    let history = &after["history"][0];
    assert_eq!(history["generation"], told["generation"].as_str().unwrap().replace('-', ""));
    assert_eq!(history["ancestors"], before["history"][0]["generation"]);
    assert!(!history["not_before"].is_null());

    // With a sealing key that the source never had.
    let process = home.start().await;
    assert_eq!(process.stop().await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_restores_where_no_database_is_and_through_a_link() {
    let (_source, file) = source(Sqlite).await;
    let home = Home::on(Sqlite).await;
    let restore = ["restore", &file, "--yes", "--tokens", "keep"];
    let printed = home.run(&restore).await.success();
    assert!(printed.contains("180 sessions ended"), "{printed}");

    let (database, moved) = (home.folder().join("onceguard.db"), home.folder().join("moved.db"));
    fs::rename(&database, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &database).unwrap();
    home.run(&restore).await.success();
    assert!(database.is_symlink());
    let names: Vec<_> = fs::read_dir(home.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("restoring") || name.ends_with("-wal"))
        .collect();
    assert!(names.is_empty(), "{names:?}");
    assert_eq!(held(&home).await["nonces"].len(), 1800);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wal_of_a_file_that_is_gone_is_not_taken_for_the_new_ones() {
    let (_source, file) = source(Sqlite).await;
    let home = Home::on(Sqlite).await;
    let process = home.start().await;
    let (http, base) = (http_client().build().unwrap(), format!("http://{}", process.api));
    Caller::new(http, base, Some(&home.token())).session().await;
    process.kill().await;
    let wal = home.folder().join("onceguard.db-wal");
    assert!(fs::metadata(&wal).unwrap().len() > 0);
    fs::remove_file(home.folder().join("onceguard.db")).unwrap();
    home.run(&["restore", &file, "--yes", "--tokens", "keep"]).await.success();
    assert!(!wal.exists());
    assert_eq!(held(&home).await["nonces"].len(), 1800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_is_replaced() {
    let (_source, file) = source(Sqlite).await;
    let home = migrated(Sqlite).await;
    home.run(&["seed"]).await.success();
    let database = home.folder().join("onceguard.db");
    let whole = fs::read(&database).unwrap();
    let mut holes = whole.clone();
    for page in holes.chunks_mut(4096).skip(1) {
        page[..8].fill(0xff);
    }
    let cases = [("foreign", vec![7; 100_000]), ("empty", Vec::new()), ("holes", holes)];
    for (case, bytes) in cases {
        fs::write(&database, bytes).unwrap();
        fs::write(home.folder().join("onceguard.db-wal"), &whole).unwrap();
        home.run(&["restore", &file, "--yes", "--tokens", "keep"]).await.success();
        assert_eq!(held(&home).await["nonces"].len(), 1800, "{case}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_kept_or_revoked(#[values(Sqlite, Postgres)] on: Database) {
    let (_source, file) = source(on).await;
    let home = migrated(on).await;
    for (tokens, valid) in [("keep", true), ("revoke", false)] {
        home.run(&["restore", &file, "--yes", "--tokens", tokens]).await.success();
        let listed = json(home.run(&["token", "list", "--json"]).await);
        let listed = listed["items"].as_array().unwrap();
        assert!(!listed.is_empty());
        assert!(listed.iter().all(|token| token["valid"] == valid), "{listed:?}");
    }
    assert_failed(&home.run(&["restore", &file, "--yes"]).await, 2, &["--tokens"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_is_dropped_and_asks(#[values(Sqlite, Postgres)] on: Database) {
    let (_source, file) = source(on).await;
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let before = home.raw().await.data().await;
    let refused = home.run(&["restore", &file, "--tokens", "keep"]).await;
    let words = ["holds 3 sessions, 3 nonces and 4 DIDs", "1800 nonces", "pass --yes"];
    assert_failed(&refused, 4, &words);
    assert_eq!(home.raw().await.data().await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_restored_while_an_instance_serves(#[values(Sqlite, Postgres)] on: Database) {
    let (_source, file) = source(on).await;
    let home = Home::on(on).await;
    let process = home.start().await;
    // On PostgreSQL also an instance that has another data folder.
    let others = if on == Postgres { vec![home.another()] } else { Vec::new() };
    for home in others.iter().chain([&home]) {
        let refused = home.run(&["restore", &file, "--yes", "--tokens", "keep"]).await;
        assert_failed(&refused, 4, &["stop"]);
    }
    let caller = Caller::new(
        http_client().build().unwrap(),
        format!("http://{}", process.api),
        Some(&home.token()),
    );
    caller.session().await;
    assert_eq!(process.stop().await.code(), 0);
    assert_eq!(home.raw().await.number("count(*) FROM sessions").await, 1);
}

/// Writes an archive of these rows.
fn forge(file: &str, schema: &str, rows: &[(&str, Value)]) {
    let origin = Origin {
        source: "sqlite".to_owned(),
        schema: schema.to_owned(),
        generation: uuid::Uuid::now_v7(),
        taken_at: Clock::system().now(),
    };
    let mut writer = Writer::new(fs::File::create(file).unwrap(), origin).unwrap();
    for (table, row) in rows {
        writer.chunk(table, 1, format!("{row}\n").as_bytes()).unwrap();
    }
    writer.finish().unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_changes_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let (_source, file) = source(on).await;
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let before = home.raw().await.data().await;
    let schema = read(Path::new(&file)).0.origin.schema;
    let bytes = fs::read(&file).unwrap();
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    let history = json!({ "generation": "00112233445566778899aabbccddeeff", "ancestors": "",
        "purged_until": null, "recovered_at": null, "not_before": null, "ahead_until": null,
        "skew_seconds": 60 });
    let no_did = json!({ "signer": "00112233445566778899aabbccddeeff", "did": null, "live": 1 });
    let (_, forged) = place(&home, "forged");
    for (code, words, make) in [
        (1, "damaged", &(|| fs::write(&forged, &changed).unwrap()) as &dyn Fn()),
        (1, "truncated", &|| fs::write(&forged, &bytes[..bytes.len() - 500]).unwrap()),
        (1, "colours", &|| forge(&forged, &schema, &[("colours", json!({}))])),
        (1, "", &|| {
            forge(&forged, &schema, &[("history", history.clone()), ("signers", no_did.clone())]);
        }),
        (1, "", &|| forge(&forged, &schema, &[])),
        (4, "9999-01-01-000001_new", &|| forge(&forged, "9999-01-01-000001_new", &[])),
        (4, "2026-11-20-000001_old", &|| forge(&forged, "2026-11-20-000001_old", &[])),
        (1, "lacks the table", &|| {
            forge(&forged, &schema, &[("history", history.clone())]);
        }),
        (1, "a row of signers is none: its live", &|| {
            forge(
                &forged,
                &schema,
                &[("signers", json!({ "signer": "00", "did": "x", "live": "1" }))],
            );
        }),
    ] {
        make();
        let refused = home.run(&["restore", &forged, "--yes", "--tokens", "keep"]).await;
        assert_failed(&refused, code, &[words]);
        assert_eq!(home.raw().await.data().await, before, "{words}");
    }
    home.run(&["restore", &file, "--yes", "--tokens", "keep"]).await.success();
}

/// Old data or new, never a mixture, and the new never without its recovery.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_it_leaves_the_old_or_the_new(#[values(Sqlite, Postgres)] on: Database) {
    let source = migrated(on).await;
    source.run(&["seed", "staging"]).await.success();
    many_nonces(&source, on).await;
    let (_, new) = place(&source, "new.tar.zst");
    source.run(&["backup", "--output", &new]).await.success();
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let (_, old) = place(&home, "old.tar.zst");
    home.run(&["backup", "--output", &old]).await.success();

    let restore = ["restore", &new, "--yes", "--tokens", "keep"];
    let began = Instant::now();
    home.run(&restore).await.success();
    let whole = began.elapsed();
    let back = ["restore", &old, "--yes", "--tokens", "keep"];
    let (mut kept, mut restored, mut is_new) = (0, 0, true);
    for round in 0..12_u32 {
        if is_new {
            home.run(&back).await.success();
        }
        let before = json!(held(&home).await["history"]);
        let mut running = Running::start(home.command(&restore));
        // From the start to past the end; most near the end, where the commit is. The last is not
        // killed.
        if round < 11 {
            let part = 1.0 - (1.0 - f64::from(round) / 10.0).powi(2);
            tokio::time::sleep(whole.mul_f64(part * 1.3)).await;
            running.kill();
        }
        drop(running.finished().await);
        if on == Sqlite {
            let fine = home.raw().await.text("integrity_check FROM pragma_integrity_check").await;
            assert_eq!(fine, "ok");
        }
        settled(&home, on).await;
        let rows = held(&home).await;
        let nonces = (rows["nonces"].len(), rows.get("signer_nonces").map_or(0, Vec::len));
        let history = json!(rows["history"]);
        is_new = nonces != (3, 0);
        if is_new {
            restored += 1;
            assert_eq!(nonces, (1800, 50_000));
            assert!(!history[0]["not_before"].is_null(), "not recovered");
            let open = rows["sessions"].iter().filter(|session| session["ended_at"].is_null());
            assert_eq!((rows["sessions"].len(), open.count()), (180, 0));
        } else {
            kept += 1;
            assert_eq!(history, before);
            assert_eq!(rows["sessions"].len(), 3);
        }
    }
    assert!(kept > 0 && restored > 0, "{kept} times the old data, {restored} times the new");
    println!("{on:?}: {kept} times the old data, {restored} times the new; whole: {whole:?}");
}

/// PostgreSQL may need a moment to notice that its client is gone.
pub(crate) async fn settled(home: &Home, on: Database) {
    if on == Postgres {
        let raw = home.raw().await;
        let others = "count(*) FROM pg_stat_activity WHERE datname = current_database() \
                      AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let deadline = Instant::now() + Duration::from_mins(1);
        while raw.number(others).await > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What came later is empty, and has its defaults.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_older_archive_is_restored_into_the_newest_schema(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    let history = json!({ "generation": "00112233445566778899aabbccddeeff", "ancestors": "",
        "purged_until": null });
    let token = json!({ "id": "00112233445566778899aabbccddeeff", "name": "old", "hash": "ab".repeat(32),
        "scopes": ["admin"], "created_at": 1 });
    let (_, forged) = place(&home, "old.tar.zst");
    let zeros = "00".repeat(32);
    let chain = json!({ "origin": "00112233445566778899aabbccddeeff", "sequence": 0, "hash": zeros,
        "linked_at": null, "cut_sequence": 0, "cut_hash": zeros });
    let rows = [("history", history), ("event_chain", chain), ("api_tokens", token)];
    forge(&forged, OLDEST_ARCHIVE, &rows);
    home.run(&["backup", "verify", &forged]).await.success();
    home.run(&["restore", &forged, "--yes", "--tokens", "keep"]).await.success();
    let raw = home.raw().await;
    assert_eq!(raw.number("count(*) FROM api_tokens WHERE name = 'old'").await, 1);
    assert_eq!(raw.number("skew_seconds FROM history WHERE not_before IS NOT NULL").await, 60);
    let process = home.start().await;
    assert_eq!(process.stop().await.code(), 0);
    // It says what it lacks, though it is not needed; and what does not fit at all is refused.
    forge(&forged, OLDEST_ARCHIVE, &[("history", json!({ "colour": "green" }))]);
    let refused = home.run(&["backup", "verify", &forged]).await;
    assert_failed(&refused, 1, &["no column \"colour\""]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_the_archive_is_the_last_backup(#[values(Sqlite, Postgres)] on: Database) {
    let (_source, file) = source(on).await;
    let home = migrated(on).await;
    let told = json(home.run(&["restore", &file, "--yes", "--tokens", "revoke", "--json"]).await);
    let stats = json(home.run(&["stats", "--json"]).await);
    assert_eq!(
        stats["last_backup_at"].as_str().unwrap()[..19],
        told["taken_at"].as_str().unwrap()[..19]
    );
    let process = home.start().await;
    crate::support::wait_for("the announcement", async || {
        process.output().contains("none is valid").then_some(())
    })
    .await;
    assert_eq!(process.stop().await.code(), 0);
}
