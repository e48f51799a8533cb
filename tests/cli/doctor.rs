//! `onceguard doctor` and `onceguard health`.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use chrono::Datelike as _;
use serde_json::Value;

use crate::support::Database::{Postgres, Sqlite};
use crate::support::{Home, PrivatePostgres, unique};
use crate::{assert_failed, json, migrated};

fn verdict<'a>(report: &'a Value, check: &str) -> (&'a str, &'a str) {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().find(|item| item["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {report}"));
    (found["verdict"].as_str().unwrap(), found["detail"].as_str().unwrap())
}

#[tokio::test]
async fn a_fresh_folder_is_ready_for_its_first_start() {
    let home = Home::on(Sqlite).await;
    let report = json(home.run(&["doctor", "--json"]).await);
    for item in report["checks"].as_array().unwrap() {
        assert_eq!(item["verdict"], "ok", "{item}");
    }
    assert_eq!(std::fs::read_dir(home.folder()).unwrap().count(), 0, "it changes nothing");
}

#[tokio::test]
async fn every_part_has_its_line() {
    let home = migrated(Sqlite).await;
    home.run(&["seed"]).await.success();
    let printed = home.run(&["doctor"]).await.success();
    let names: Vec<_> = printed.lines().map(|line| line[6..19].trim()).collect();
    let expected = [
        "configuration",
        "hosts",
        "data folder",
        "disk space",
        "database",
        "migrations",
        "clock",
        "sealing key",
        "past",
        "records",
        "webhooks",
        "API port",
        "ops port",
        "instance",
    ];
    assert_eq!(names, expected, "{printed}");
    assert!(printed.lines().all(|line| line.starts_with("ok    ")), "{printed}");
}

#[tokio::test]
async fn what_is_wrong_fails_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let home = migrated(Sqlite).await.set("server.listen", address);
    home.run(&["seed"]).await.success();
    let wrong = home.run(&["sealing", "generate"]).await.success();
    let key = home.folder().join("sealing.key");
    std::fs::write(&key, wrong).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();

    let finished = home.run(&["doctor", "--json"]).await;
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stderr.contains("3 of 14 checks failed"), "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let (folder, what) = verdict(&report, "data folder");
    assert!(folder == "fail" && what.contains("chmod 600"), "{what}");
    let (sealing, what) = verdict(&report, "sealing key");
    assert!(sealing == "fail" && what.contains("sealing.old_keys"), "{what}");
    let (port, what) = verdict(&report, "API port");
    assert!(port == "fail" && what.contains("another program"), "{what}");
    assert_eq!(verdict(&report, "migrations").0, "ok");
}

/// What a server of a test's own says, whose role lacks nothing.
#[tokio::test]
async fn a_server_that_does_not_keep_what_it_is_given_is_warned_of() {
    let postgres = PrivatePostgres::start();
    let home = Home::at(postgres.url());
    let examine = async || {
        let finished = home.run(&["doctor", "--json"]).await;
        serde_json::from_str::<Value>(&finished.stdout).unwrap()
    };
    let report = examine().await;
    assert_eq!(verdict(&report, "server").0, "ok", "{report}");
    postgres.restart_with("fsync = off\nfull_page_writes = off\n");
    let report = examine().await;
    let details: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["check"] == "server" && check["verdict"] == "warn")
        .map(|check| check["detail"].as_str().unwrap())
        .collect();
    assert!(details.len() == 2 && details[0].starts_with("fsync is off"), "{details:?}");
    assert!(details[1].starts_with("full_page_writes is off"), "{details:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_do_what_is_needed_is_refused_before_anything_changes() {
    let home = migrated(Postgres).await;
    let raw = home.raw().await;
    let role = format!("limited_{}", unique());
    raw.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    raw.execute(&format!("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}")).await;
    // The default before PostgreSQL 15.
    raw.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let url = home.url();
    let (_, server) = url.split_once('@').unwrap();
    let limited = Home::at(&format!("postgres://{role}:secret@{server}"))
        .set("database.migrate_on_start", true);
    let doctor = limited.run(&["doctor", "--json"]).await;
    assert_eq!(doctor.code(), 1, "{doctor:?}");
    let report: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let (verdict, what) = verdict(&report, "server");
    assert!(verdict == "fail" && what.contains("DELETE on nonces"), "{what}");
    assert!(!what.contains("INSERT on") && !what.contains("UPDATE on nonces"), "{what}");
    assert_failed(&limited.run(&["serve"]).await, 4, &["lacks", "DELETE on nonces"]);

    // Without the tables it must be able to make them.
    home.run(&["migrate", "down", "--all", "--yes"]).await.success();
    assert_failed(&limited.run(&["serve"]).await, 4, &["GRANT CREATE"]);
    raw.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// Without these, no connection can be checked.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_lacks_the_marks_is_told_so() {
    let home = migrated(Postgres).await;
    let raw = home.raw().await;
    let role = format!("unmarked_{}", unique());
    raw.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'")).await;
    raw.execute(&format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")).await;
    raw.execute(&format!("REVOKE ALL ON marks FROM {role}")).await;
    let url = home.url();
    let (_, server) = url.split_once('@').unwrap();
    let limited = Home::at(&format!("postgres://{role}:secret@{server}"));
    let lacks = "the role lacks DELETE on marks, INSERT on marks, SELECT on marks, UPDATE on marks";
    let doctor = limited.run(&["doctor", "--json"]).await;
    assert_eq!(doctor.code(), 1, "{doctor:?}");
    let report: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let (verdict, what) = verdict(&report, "database");
    assert!(verdict == "fail" && what.contains(lacks), "{what}");
    assert_failed(&limited.run(&["serve"]).await, 4, &[lacks, "GRANT it"]);
    raw.execute(&format!("GRANT ALL ON marks TO {role}")).await;
    assert_eq!(limited.start().await.stop().await.code(), 0);
    raw.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_wrong_configuration_is_a_failed_check() {
    let home = Home::on(Sqlite).await;
    let home = home.set("server.workers", "many").set("claims.queue", "none");
    let finished = home.run(&["doctor"]).await;
    assert_eq!(finished.code(), 1, "{finished:?}");
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{finished:?}");
    assert!(lines[0].starts_with("fail  configuration  server.workers = \"many\""), "{lines:?}");
    assert!(lines[1].starts_with("fail  configuration  claims.queue = \"none\""), "{lines:?}");
}

#[tokio::test]
async fn a_database_that_does_not_answer_fails() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home =
        Home::at(&format!("postgres://onceguard:hunter2@{closed}/onceguard?sslmode=disable"));
    let finished = home.run(&["doctor", "--json"]).await;
    assert_eq!(finished.code(), 1, "{finished:?}");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(verdict(&report, "database").0, "fail");
    assert!(!format!("{finished:?}").contains("hunter2"), "{finished:?}");

    assert_failed(&home.run(&["stats"]).await, 3, &["not available"]);
}

#[tokio::test]
async fn health_fails_when_nothing_runs_and_passes_when_it_serves() {
    let home = Home::on(Sqlite).await;
    std::fs::write(home.folder().join("ops.addr"), "127.0.0.1:1\n").unwrap();
    assert_failed(&home.run(&["health"]).await, 1, &["nothing answers", "/readyz"]);

    let serving = home.start().await;
    assert_eq!(home.run(&["health"]).await.success(), "ready\n");
    let doctor = json(home.run(&["doctor", "--json"]).await);
    assert_eq!(verdict(&doctor, "instance"), ("ok", "it is running, and ready"));
    serving.stop().await.success();
}

/// Only the instance can see some of what is wrong; it is asked.
#[tokio::test]
async fn what_an_instance_says_of_itself_is_told() {
    let home = Home::on(Sqlite).await;
    let serving = home.start().await;
    home.raw().await.execute("ALTER TABLE leases RENAME TO borrowed").await;
    let doctor = home.run(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let (instance, what) = verdict(&report, "instance");
    assert_eq!(instance, "fail", "{report}");
    assert!(what.contains("not ready (503): the database"), "{what}");
    home.raw().await.execute("ALTER TABLE borrowed RENAME TO leases").await;
    serving.stop().await.success();
}

#[tokio::test]
async fn a_database_that_others_can_read_fails() {
    let home = migrated(Sqlite).await;
    let file = home.folder().join("onceguard.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let finished = home.run(&["doctor"]).await;
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stdout.contains("onceguard.db; run `chmod 600"), "{finished:?}");
}

#[tokio::test]
async fn a_purge_by_a_clock_that_was_ahead_is_told() {
    let home = migrated(Sqlite).await;
    let until = onceguard::clock::Clock::system().now() + chrono::Duration::minutes(30);
    let raw = home.raw().await;
    raw.execute(&format!("UPDATE history SET purged_until = {}", raw.time(until))).await;
    let report = json(home.run(&["doctor", "--json"]).await);
    let (clock, what) = verdict(&report, "clock");
    assert!(clock == "warn" && what.contains("while a clock was ahead"), "{what}");
}

/// A certificate for `localhost`, valid for these days around today, and a key.
fn write_certificate(home: &Home, days: std::ops::Range<i64>) {
    let today = onceguard::clock::Clock::system().now();
    let date = |days| {
        let date = (today + chrono::Duration::days(days)).date_naive();
        let [month, day] = [date.month(), date.day()].map(|part| u8::try_from(part).unwrap());
        rcgen::date_time_ymd(date.year(), month, day)
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    (parameters.not_before, parameters.not_after) = (date(days.start), date(days.end));
    let certificate = parameters.self_signed(&key).unwrap();
    std::fs::write(home.folder().join("tls.crt"), certificate.pem()).unwrap();
    let file = home.folder().join("tls.key");
    std::fs::write(&file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn with_tls(home: Home) -> Home {
    let [cert, key] = ["tls.crt", "tls.key"].map(|name| home.folder().join(name));
    home.set("server.tls.cert", cert.display()).set("server.tls.key", key.display())
}

/// Serves over TLS by a certificate that is valid for these days around today.
pub(crate) fn with_certificate(home: Home, days: std::ops::Range<i64>) -> Home {
    write_certificate(&home, days);
    with_tls(home)
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_fails() {
    let home = with_tls(migrated(Sqlite).await);
    let told = async |expected: &str, words: &str| {
        let finished = home.run(&["doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        let (certificate, what) = verdict(&report, "certificate");
        assert_eq!(certificate, expected, "{what}");
        assert!(what.contains(words), "{what}");
        let check = home.run(&["config", "check"]).await;
        assert_eq!(check.code(), i32::from(expected == "fail"), "{check:?}");
        if expected != "ok" {
            assert!(check.stderr.contains(words), "{check:?}");
        }
    };
    told("fail", "No such file").await;
    write_certificate(&home, -30..-1);
    told("fail", "expired at").await;
    write_certificate(&home, 2..30);
    told("fail", "not valid before").await;
    write_certificate(&home, -1..5);
    told("warn", "is valid until").await;
    write_certificate(&home, -1..90);
    told("ok", "is valid until").await;
    let key = home.folder().join("tls.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    told("warn", "chmod 600").await;
    std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    told("fail", "not the certificate of the key").await;
}

/// It stops the start before the database is touched.
#[tokio::test]
async fn a_start_looks_at_its_certificate_before_it_migrates() {
    let home = Home::on(Sqlite).await;
    let home = home.set("server.tls.cert", "/nowhere/a").set("server.tls.key", "/nowhere/b");
    assert_failed(&home.run(&["serve"]).await, 1, &["server.tls.cert: /nowhere/a"]);
    assert!(!home.folder().join("onceguard.db").exists());
    assert!(!home.folder().join("sealing.key").exists());
}

#[tokio::test]
async fn an_address_that_tells_no_host_is_worth_a_look() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let home = migrated(Sqlite).await.set("server.listen", address);
        let report = json(home.run(&["doctor", "--json"]).await);
        let (hosts, what) = verdict(&report, "hosts");
        assert!(hosts == "warn" && what.contains("server.allowed_hosts"), "{what}");
        let check = home.run(&["config", "check"]).await;
        assert!(check.stderr.contains("every signed request is refused"), "{check:?}");
        check.success();
        for (key, value) in
            [("server.allowed_hosts", "a.example"), ("server.public_url", "https://a.example")]
        {
            let home = migrated(Sqlite).await.set("server.listen", address).set(key, value);
            let report = json(home.run(&["doctor", "--json"]).await);
            assert_eq!(verdict(&report, "hosts").0, "ok", "{report}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_seen() {
    let home = crate::migrated(Sqlite).await;
    home.run(&["seed", "staging"]).await.success();
    let database = home.folder().join("onceguard.db");
    let mut bytes = std::fs::read(&database).unwrap();
    // Pages of data: the schema and all that `doctor` reads otherwise stay as they are.
    let nonces = bytes.windows(15).rposition(|part| part.starts_with(b"seed-")).unwrap_or(0);
    let page = (nonces / 4096).max(bytes.len() / 4096 / 2) * 4096;
    bytes[page..page + 512].fill(0xff);
    std::fs::write(&database, bytes).unwrap();
    let doctor = home.run(&["doctor"]).await;
    assert!(doctor.code() == 1 && doctor.stdout.contains("it is damaged"), "{doctor:?}");
}
