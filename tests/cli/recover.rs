//! `onceguard recover`.

use rstest::rstest;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Caller, Home, Process, http_client, wait_for};
use crate::{assert_failed, json, migrated, stats};

fn caller(home: &Home, process: &Process) -> Caller {
    let base = format!("http://{}", process.api);
    Caller::new(http_client().build().unwrap(), base, Some(&home.token()))
}

/// A SQLite database and a copy of it, made by a tool while no instance served; then the database
/// accepts a nonce in a session, and the copy is put back. Returns the home and the session.
async fn put_back(copy: &str, kill: bool) -> (Home, String) {
    let home = Home::on(Sqlite).await;
    let process = home.start().await;
    let session = caller(&home, &process).session().await;
    assert_eq!(process.stop().await.code(), 0);
    let (file, kept) = (home.folder().join("onceguard.db"), home.folder().join("kept.db"));
    match copy {
        "copied" => {
            std::fs::copy(&file, &kept).unwrap();
        }
        _ => home.raw().await.execute(&format!("VACUUM INTO '{}'", kept.display())).await,
    }
    let process = home.start().await;
    let nonces = format!("/v1/sessions/{session}/nonces");
    caller(&home, &process).post(&nonces, &serde_json::json!({ "nonce": "lost" })).await.is(201);
    if kill {
        // The mark is written each second.
        let mark = home.folder().join("mark");
        let before = std::fs::read_to_string(&mark).unwrap();
        wait_for("the mark", async || {
            (std::fs::read_to_string(&mark).unwrap() != before).then_some(())
        })
        .await;
        process.kill().await;
    } else {
        assert_eq!(process.stop().await.code(), 0);
    }
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(home.folder().join(format!("onceguard.db{suffix}")));
    }
    std::fs::rename(&kept, &file).unwrap();
    (home, session)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_put_back_is_not_served_before_it_is_recovered(
    #[values("copied", "vacuumed")] copy: &str,
    #[values(false, true)] kill: bool,
) {
    let (home, session) = put_back(copy, kill).await;
    let words = ["put back to an earlier state", "onceguard recover", "--nothing-lost", "mark"];
    for _ in 0..2 {
        assert_failed(&home.run(&["serve"]).await, 4, &words);
    }
    let doctor = home.run(&["doctor"]).await;
    assert_eq!(doctor.code(), 1, "{doctor:?}");
    assert!(doctor.stdout.contains("put back to an earlier state"), "{doctor:?}");
    home.run(&["recover", "--yes"]).await.success();
    let process = home.start().await;
    let nonces = format!("/v1/sessions/{session}/nonces");
    let again =
        caller(&home, &process).post(&nonces, &serde_json::json!({ "nonce": "lost" })).await;
    again.refused(410, "session_ended");
    assert_eq!(process.stop().await.code(), 0);
    home.start().await.stop().await.success();
}

/// The operator knows better.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_taken_as_it_is_on_the_operators_word(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    home.start().await.stop().await.success();
    let raw = home.raw().await;
    raw.execute("UPDATE instances SET counter = 0").await;
    assert_failed(&home.run(&["serve"]).await, 4, &["--nothing-lost"]);
    let asked = home.run(&["recover", "--nothing-lost"]).await;
    assert_failed(&asked, 4, &["takes the database as it is", "pass --yes"]);
    assert_failed(&home.run(&["serve"]).await, 4, &["--nothing-lost"]);
    let taken = json(home.run(&["recover", "--nothing-lost", "--yes", "--json"]).await);
    assert_eq!(taken["nothing_lost"], true);
    home.start().await.stop().await.success();
    assert_eq!(raw.number("count(*) FROM history WHERE recovered_at IS NOT NULL").await, 0);
    let event = "count(*) FROM events WHERE type = 'onceguard.database.adopted'";
    assert_eq!(raw.number(event).await, 1);
}

/// What it remembered may be missing.
#[rstest]
#[case::recovered(&["recover", "--yes"])]
#[case::taken_as_it_is(&["recover", "--nothing-lost", "--yes"])]
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_mark_stops_the_start(#[case] command: &[&str]) {
    let home = Home::on(Sqlite).await;
    assert_eq!(home.start().await.stop().await.code(), 0);
    std::fs::write(home.folder().join("mark"), "").unwrap();
    let words = ["mark", "cannot be read", "onceguard recover", "--nothing-lost"];
    assert_failed(&home.run(&["serve"]).await, 4, &words);
    home.run(command).await.success();
    assert_eq!(home.start().await.stop().await.code(), 0);
}

/// A mark of a database that is not this one.
#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_not_served_by_mistake() {
    let (one, other) = (Home::on(Postgres).await, Home::on(Postgres).await);
    // Both were copied from one template.
    other.raw().await.execute("UPDATE history SET generation = gen_random_uuid()").await;
    one.start().await.stop().await.success();
    other.start().await.stop().await.success();
    std::fs::copy(one.folder().join("mark"), other.folder().join("mark")).unwrap();
    assert_failed(&other.run(&["serve"]).await, 4, &["is another one"]);
    let generation = "count(*) FROM history WHERE recovered_at IS NOT NULL";
    assert_eq!(other.raw().await.number(generation).await, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recovered_without_a_yes(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let raw = home.raw().await;
    let before = raw.data().await;
    let refused = home.run(&["recover"]).await;
    assert_failed(&refused, 4, &["This ends every open session", "pass --yes"]);
    assert_eq!(raw.data().await, before);
    assert_eq!(raw.number("count(*) FROM history WHERE recovered_at IS NOT NULL").await, 0);
    assert_eq!(stats(&home).await["database"]["recovered_at"], serde_json::Value::Null);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_says_what_it_did_and_what_is_left_to_do(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let sessions = stats(&home).await["sessions"]["active"].clone();
    let done = json(home.run(&["recover", "--yes", "--json"]).await);
    assert_eq!(done["sessions_ended"], sessions);
    assert_ne!(done["generation"], done["ancestor"]);
    let keys = done["stored_keys"].as_array().unwrap();
    assert!(!keys.is_empty(), "{done}");
    let after = stats(&home).await;
    assert_eq!(after["sessions"]["active"], 0);
    assert!(after["database"]["recovered_at"].is_string(), "{after}");
    let raw = home.raw().await;
    let event = "count(*) FROM events WHERE type = 'onceguard.database.recovered' \
                 AND actor = 'operator'";
    assert_eq!(raw.number(event).await, 1);

    let again = home.run(&["recover", "--yes"]).await;
    assert!(again.stderr.contains("Revoke again the DIDs and the tokens"), "{again:?}");
    assert!(again.stderr.contains("stored by hand"), "{again:?}");
    let printed = again.success();
    assert!(printed.contains(done["generation"].as_str().unwrap()), "{printed}");
    assert!(printed.contains(keys[0].as_str().unwrap()), "{printed}");
}

/// It may have accepted something meanwhile, and trusts what it has cached.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recovered_while_an_instance_serves(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let serving = home.start().await;
    // It listens for changes of DIDs a moment later than for requests.
    let word = if on == Postgres { "1 onceguard instance is serving" } else { "another" };
    wait_for("the instance to be seen", async || {
        home.run(&["recover"]).await.stderr.contains(word).then_some(())
    })
    .await;
    assert_failed(&home.run(&["recover", "--yes"]).await, 4, &[word]);
    serving.stop().await.success();
    home.run(&["recover", "--yes"]).await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_where_no_database_is() {
    let home = crate::support::Home::on(Sqlite).await;
    let folder = home.folder().join("new");
    let home = home.set("data_dir", folder.display());
    let url = format!("sqlite://{}/onceguard.db", folder.display());
    let refused = home.run(&["recover", "--yes", "--database-url", &url]).await;
    assert_failed(&refused, 4, &["there is no database"]);
    assert!(!folder.exists());
}
