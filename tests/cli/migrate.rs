//! `onceguard migrate`.

use rstest::rstest;

use crate::support::{
    Caller,
    Database::{self, Postgres, Sqlite},
    Home, PostgresDatabase, http_client, unique, wait_for,
};
use crate::{assert_failed, json, migrated};

/// A data folder with a database that has nothing.
async fn empty(on: Database) -> Home {
    match on {
        Postgres => Home::with(PostgresDatabase::create(false).await),
        other => Home::on(other).await,
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn up_applies_once_and_status_tells(#[values(Sqlite, Postgres)] on: Database) {
    let home = empty(on).await;
    let applied = home.run(&["migrate", "up"]).await.success();
    let names: Vec<_> =
        applied.lines().map(|line| line.strip_prefix("applied ").unwrap()).collect();
    assert!(!names.is_empty());

    let again = home.run(&["migrate", "up"]).await;
    assert!(again.stderr.contains("nothing to apply"), "{again:?}");
    assert_eq!(again.success(), "");

    let status = json(home.run(&["migrate", "status", "--json"]).await);
    assert_eq!(status["pending"], 0);
    let listed: Vec<_> =
        status["migrations"].as_array().unwrap().iter().map(|m| &m["name"]).collect();
    assert_eq!(listed, names);
    let table = home.run(&["migrate", "status"]).await.success();
    assert_eq!(table.lines().count(), names.len() + 1);
    assert!(table.lines().nth(1).unwrap().ends_with("  applied"), "{table}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn down_does_nothing_without_a_yes(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let finished = home.run(&["migrate", "down"]).await;
    assert_failed(&finished, 4, &["_event_retention. No data is deleted.", "pass --yes"]);
    // Down to the migration before this one.
    let status = json(home.run(&["migrate", "status", "--json"]).await);
    let names = status["migrations"].as_array().unwrap();
    let is_history = |m: &serde_json::Value| m["name"].as_str().unwrap().ends_with("_history");
    let history = names.iter().position(is_history).unwrap();
    let to_history = (names.len() - history).to_string();
    let finished = home.run(&["migrate", "down", &to_history]).await;
    let words = [
        "This deletes ",
        "what shows that the database went back in time",
        "when the database was last recovered",
    ];
    assert_failed(&finished, 4, &words);
    let all = home.run(&["migrate", "down", "--all"]).await;
    let words = ["every session and its nonces", "every DID, revocations included", "API token"];
    assert_failed(&all, 4, &words);
    // What swaps a function or an index deletes nothing.
    home.run(&["migrate", "down", &to_history, "--yes"]).await.success();
    let swaps = home.run(&["migrate", "down", "3"]).await;
    assert_failed(&swaps, 4, &["_session_activity, ", "_signer_nonces, ", "No data is deleted."]);
    home.run(&["migrate", "up"]).await.success();
    assert_eq!(json(home.run(&["migrate", "status", "--json"]).await)["pending"], 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn down_reverts_the_newest_or_all(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    let all = json(home.run(&["migrate", "status", "--json"]).await);
    let names: Vec<_> =
        all["migrations"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    let newest = names.last().unwrap();

    let printed = home.run(&["migrate", "down", "--yes"]).await.success();
    assert_eq!(printed, format!("reverted {newest}\n"));
    assert_eq!(json(home.run(&["migrate", "status", "--json"]).await)["pending"], 1);
    assert_failed(&home.run(&["token", "list"]).await, 4, &["lacks 1 migrations", "migrate up"]);

    let printed = home.run(&["migrate", "down", "--all", "--yes"]).await.success();
    assert_eq!(printed.lines().count(), names.len() - 1);
    let nothing = home.run(&["migrate", "down", "--yes"]).await;
    assert!(nothing.stderr.contains("nothing to revert"), "{nothing:?}");
    home.run(&["migrate", "up"]).await.success();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn redo_reverts_and_applies_the_newest(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    assert_failed(&home.run(&["migrate", "redo"]).await, 4, &["pass --yes"]);
    let printed = home.run(&["migrate", "redo", "--yes"]).await.success();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].strip_prefix("reverted "), lines[1].strip_prefix("applied "));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_count_of_none_makes_no_sense(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    assert_failed(&home.run(&["migrate", "down", "0", "--yes"]).await, 2, &["0"]);
    assert_failed(&home.run(&["migrate", "down", "1", "--all"]).await, 2, &["--all"]);
}

#[tokio::test]
async fn commands_make_no_database_by_accident() {
    let home = Home::on(Sqlite).await;
    for command in [&["migrate", "status"][..], &["token", "list"], &["stats"], &["purge"]] {
        assert_failed(&home.run(command).await, 4, &["there is no database at", "migrate up"]);
    }
    assert_eq!(std::fs::read_dir(home.folder()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_postgresql_waits_for_its_operator() {
    let home = empty(Postgres).await;
    assert_failed(&home.run(&["serve"]).await, 4, &["pending", "onceguard migrate up"]);
    assert!(!home.has_listened());
    // As docs/operations.md has it: the doctor comes first.
    let doctor = home.run(&["doctor"]).await.success();
    let pending = doctor.lines().find(|line| line.contains("migrations")).unwrap();
    assert!(
        pending.starts_with("warn  ") && pending.contains("`onceguard migrate up`"),
        "{doctor}"
    );
    assert!(!doctor.contains("fail  "), "{doctor}");

    let home = home.set("database.migrate_on_start", true);
    home.start().await.stop().await.success();
    let doctor = home.run(&["doctor"]).await.success();
    assert!(doctor.lines().all(|line| line.starts_with("ok    ")), "{doctor}");
}

/// What is pending here may be what the newer version did without.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn up_fills_no_gap_below_a_newer_migration(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["migrate", "down", "--yes"]).await.success();
    home.raw()
        .await
        .execute("INSERT INTO __diesel_schema_migrations (version) VALUES ('99991231000001')")
        .await;
    for command in [&["migrate", "up"][..], &["serve"]] {
        let finished = home.run(command).await;
        assert_failed(&finished, 4, &["99991231000001", "newer version"]);
    }
    let status = json(home.run(&["migrate", "status", "--json"]).await);
    assert_eq!(status["pending"], 1, "nothing was applied");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reverted_below_an_instance_that_serves(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    let serving = home.start().await;
    // It listens for changes of DIDs a moment later than for requests.
    let word = if on == Postgres { "1 onceguard instance is serving" } else { "another" };
    wait_for("the instance to be seen", async || {
        let dry = home.run(&["migrate", "down"]).await;
        dry.stderr.contains(word).then_some(())
    })
    .await;
    for command in [&["migrate", "down", "--yes"][..], &["migrate", "redo", "--yes"]] {
        assert_failed(&home.run(command).await, 4, &[word, "stop it"]);
    }
    // Commands are no instances, and to apply is allowed on PostgreSQL while others serve.
    if on == Postgres {
        home.run(&["migrate", "up"]).await.success();
    }
    let status = json(home.run(&["migrate", "status", "--json"]).await);
    assert_eq!(status["pending"], 0);
    serving.stop().await.success();
    home.run(&["migrate", "redo", "--yes"]).await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn rls_needs_postgresql() {
    let home = migrated(Sqlite).await;
    for arguments in [&["migrate", "rls"][..], &["migrate", "rls", "--drop"]] {
        assert_failed(&home.run(arguments).await, 4, &["SQLite", "PostgreSQL"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rls_is_turned_on_and_off_while_an_instance_serves() {
    let home = migrated(Postgres).await;
    home.run(&["seed"]).await.success();
    let process = home.start().await;
    let (raw, role) = (home.raw().await, format!("reports_{}", unique()));
    let told = home.run(&["migrate", "rls", "--reader", &role]).await.success();
    assert!(told.contains(&role), "{told}");
    let did = raw.text("client_did FROM sessions LIMIT 1").await;
    raw.execute(&format!("SET ROLE {role}")).await;
    assert_eq!(raw.number("count(*) FROM sessions").await, 0);
    raw.execute(&format!("SET onceguard.did = '{did}'")).await;
    let (all, own) = (
        raw.number("count(*) FROM sessions").await,
        raw.number(&format!("count(*) FROM sessions WHERE '{did}' IN (client_did, server_did)"))
            .await,
    );
    assert!(all > 0 && all == own, "{all} {own}");
    raw.execute("RESET ROLE").await;

    // The service goes on, and so do commands.
    let caller = Caller::new(
        http_client().build().unwrap(),
        format!("http://{}", process.api),
        Some(&home.token()),
    );
    caller.session().await;
    home.run(&["doctor"]).await.success();
    raw.execute("DROP POLICY rows_of_a_did ON dids").await;
    let doctor = home.run(&["doctor"]).await.success();
    assert!(doctor.contains("not for dids: run `onceguard migrate rls` again"), "{doctor}");
    home.run(&["migrate", "rls", "--reader", &role]).await.success();
    let told = home.run(&["migrate", "rls", "--drop"]).await.success();
    assert!(told.contains(&role), "{told}");
    let again = home.run(&["migrate", "rls", "--drop"]).await;
    assert!(again.stderr.contains("nothing to drop"), "{again:?}");
    caller.session().await;
    assert_eq!(process.stop().await.code(), 0);
    raw.execute(&format!("DROP ROLE {role}")).await;
}
