//! `onceguard transfer`: everything arrives, nothing is accepted twice, and there are never two
//! databases that take changes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use onceguard::config::DatabaseUrl;
use onceguard::storage::place;
use rstest::rstest;
use serde_json::json;

use crate::backup::many_nonces;
use crate::restore::{Rows, held, settled, without};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    Caller, Home, PostgresDatabase, Process, Running, SEALING_KEY, http_client, store_at,
};
use crate::{assert_failed, json, migrated};

/// Where a transfer can go to: an SQLite file that does not exist, or an empty PostgreSQL database.
async fn target(to: Database) -> Home {
    match to {
        Postgres => Home::with(PostgresDatabase::create(false).await),
        _ => Home::on(Sqlite).await,
    }
}

fn caller(process: &Process, token: &str) -> Caller {
    let (http, base) = (http_client().build().unwrap(), format!("http://{}", process.api));
    Caller::new(http, base, Some(token))
}

fn parsed(url: &str) -> DatabaseUrl {
    DatabaseUrl::parse(url).unwrap()
}

/// Runs a transfer from the one home to the other.
async fn transfer(from: &Home, to: &Home, more: &[&str]) -> crate::support::Finished {
    let (source, target) = (from.url(), to.url());
    let arguments = [&["transfer", "--from", &source, "--to", &target], more].concat();
    from.run(&arguments).await
}

/// What the two have that a transfer does not change. Backups, by which this looks, leave leases and
/// audit events behind.
fn assert_same(before: &Rows, after: &Rows) {
    let tables =
        ["sessions", "nonces", "signer_nonces", "signers", "dids", "api_tokens", "history"];
    for table in tables {
        assert_eq!(without(after, table, &[]), without(before, table, &[]), "{table}");
    }
    let links = ["sequence", "salt", "commitment", "hash"];
    let events = without(after, "events", &links);
    assert!(events.is_superset(&without(before, "events", &links)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn everything_moves_and_the_source_is_moved_for_ever(
    #[values(Sqlite, Postgres)] from: Database,
    #[values(Sqlite, Postgres)] to: Database,
) {
    let home = migrated(from).await;
    home.run(&["seed", "staging"]).await.success();
    home.run(&["token", "create", "--name", "one", "--scope", "admin"]).await.success();
    let before = held(&home).await;
    let there = target(to).await;
    let told = json(transfer(&home, &there, &["--yes", "--json"]).await);
    let nonces = told["tables"].as_array().unwrap().iter().find(|t| t["name"] == "nonces");
    assert_eq!(nonces.unwrap()["rows"], 1800);
    let where_to = place(&parsed(&there.url()));
    assert_eq!(
        (&told["from"], &told["to"]),
        (&json!(place(&parsed(&home.url()))), &json!(where_to))
    );
    assert!(!told.to_string().contains("postgres:postgres"), "{told}");
    assert_same(&before, &held(&there).await);

    let source = home.url();
    for command in [
        &["serve"][..],
        &["migrate", "down", "--yes"],
        &["recover", "--yes"],
        &["purge"],
        &["token", "create", "--name", "two", "--scope", "admin"],
        &["transfer", "--from", &source, "--cancel"],
    ] {
        let refused = home.run(command).await;
        assert_failed(&refused, 4, &["this database was moved to", &where_to, "for ever"]);
    }
    assert_failed(&transfer(&home, &there, &["--yes"]).await, 4, &["was moved to"]);
    let raw = home.raw().await;
    let nonces = format!("DELETE FROM {}", raw.session_nonces());
    for change in [&*nonces, "UPDATE sessions SET claims = 0", "DELETE FROM dids"] {
        let refused = raw.try_execute(change).await.unwrap_err();
        assert!(refused.contains("takes no changes"), "{refused}");
    }
    assert_eq!(raw.number("count(*) FROM nonces").await, 1800);
    let doctor = home.run(&["doctor"]).await;
    assert!(doctor.code() == 1 && doctor.stdout.contains("was moved to"), "{doctor:?}");
}

#[rstest]
#[case(Sqlite, Postgres)]
#[case(Postgres, Sqlite)]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_was_accepted_is_replayed_after_it_and_sessions_live_on(
    #[case] from: Database,
    #[case] to: Database,
) {
    let home = Home::on(from).await.set("sealing.key", SEALING_KEY);
    let process = home.start().await;
    let api = caller(&process, &home.token());
    let session = api.open_with(json!({ "session_key": SEALING_KEY })).await.text_of("id");
    let path = format!("/v1/sessions/{session}");
    let claim = json!({ "nonce": "once" });
    api.post(&format!("{path}/nonces"), &claim).await.is(201);
    let revoked = "did:example:revoked";
    api.request("POST", &format!("/v1/dids/{revoked}/revoke")).send().await.is(200);
    let generation = || async { held(&home).await["history"][0]["generation"].clone() };
    assert_eq!(process.stop().await.code(), 0);
    let before = generation().await;

    let there = target(to).await.set("sealing.key", SEALING_KEY);
    transfer(&home, &there, &["--yes"]).await.success();
    let process = there.start().await;
    let api = caller(&process, &home.token());
    api.get(&path).await.is(200);
    let key = api.get(&format!("{path}/key")).await.is(200);
    assert_eq!(key.text_of("session_key"), SEALING_KEY);
    api.post(&format!("{path}/nonces"), &claim).await.refused(409, "nonce_replayed");
    api.post(&format!("{path}/nonces"), &json!({ "nonce": "fresh" })).await.is(201);
    let parties = json!({ "client_did": revoked, "server_did": "did:example:server" });
    api.post("/v1/sessions", &parties).await.refused(403, "did_revoked");
    assert_eq!(process.stop().await.code(), 0);
    assert_eq!(held(&there).await["history"][0]["generation"], before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_moved_stays_as_it_is(
    #[values(Sqlite, Postgres)] from: Database,
    #[values(Sqlite, Postgres)] to: Database,
) {
    let home = migrated(from).await;
    home.run(&["seed"]).await.success();
    let full = migrated(to).await;
    full.run(&["seed"]).await.success();
    let both = [home.raw().await.data().await, full.raw().await.data().await];

    assert_failed(&transfer(&home, &full, &["--yes"]).await, 4, &["holds data", "3 nonces"]);
    let empty = target(to).await;
    assert_failed(&transfer(&home, &empty, &[]).await, 4, &["3 nonces", "pass --yes"]);
    assert_failed(&transfer(&home, &home, &["--yes"]).await, 2, &["the same database"]);
    let nowhere = Home::at("sqlite:///no/such/folder/a.db");
    assert_failed(&transfer(&home, &nowhere, &["--yes"]).await, 1, &["/no/such/folder"]);
    let source = home.url();
    let cancel = home.run(&["transfer", "--from", &source, "--cancel"]).await;
    assert_failed(&cancel, 4, &["no transfer"]);
    assert_failed(&home.run(&["transfer", "--from", &source]).await, 2, &["--to"]);

    let serving = home.start().await;
    assert_failed(&transfer(&home, &empty, &["--yes"]).await, 4, &["stop"]);
    assert_eq!(serving.stop().await.code(), 0);
    if to == Postgres {
        empty.run(&["migrate", "up"]).await.success();
    }
    let serving = empty.start().await;
    assert_failed(&transfer(&home, &empty, &["--yes"]).await, 4, &["stop"]);
    assert_eq!(serving.stop().await.code(), 0);

    for (home, before) in [&home, &full].into_iter().zip(both) {
        let now = home.raw().await.data().await;
        // The start has made a token.
        let kept = |data: &str| data.split("events:").next().unwrap().to_owned();
        assert_eq!(kept(&now), kept(&before));
    }
    home.run(&["token", "create", "--name", "two", "--scope", "admin"]).await.success();
}

/// A target that does not take a row as it is.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_found_and_the_source_takes_changes_again(
    #[values(Sqlite, Postgres)] from: Database,
) {
    let home = migrated(from).await;
    home.run(&["seed"]).await.success();
    let there = migrated(Postgres).await;
    let raw = there.raw().await;
    raw.execute(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ \
         BEGIN NEW.used_at = NEW.used_at - interval '1 microsecond'; RETURN NEW; END $$; \
         CREATE TRIGGER lose BEFORE INSERT ON nonces FOR EACH ROW EXECUTE FUNCTION lose()",
    )
    .await;
    let failed = transfer(&home, &there, &["--yes"]).await;
    assert_failed(&failed, 1, &["the rows of nonces are not the same", "takes changes again"]);
    // What came is of no use, and the next transfer drops it.
    assert_eq!(raw.number("count(*) FROM history").await, 0);
    home.run(&["token", "create", "--name", "two", "--scope", "admin"]).await.success();
    raw.execute("DROP TRIGGER lose ON nonces").await;
    transfer(&home, &there, &["--yes"]).await.success();
    assert_eq!(raw.number("count(*) FROM nonces").await, 3);
}

/// The states in which a kill leaves the two databases. Another run finishes each.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn from_every_stage_it_goes_on(
    #[values(Sqlite, Postgres)] from: Database,
    #[values(Sqlite, Postgres)] to: Database,
) {
    let (moving, elsewhere) = ("takes no changes", target(to).await);
    for stage in ["drained", "handed over", "arrived"] {
        let home = migrated(from).await;
        home.run(&["seed"]).await.success();
        let there = target(to).await;
        let source = home.url();
        {
            let store = store_at(&parsed(&source)).await;
            let departure = store.drain(&place(&parsed(&there.url()))).await.unwrap();
            assert!(departure.moved_at.is_none());
            if stage == "handed over" {
                assert!(store.hand_over(departure.id).await.unwrap());
            }
            store.close().await;
        }
        if stage == "arrived" {
            transfer(&home, &there, &["--yes"]).await.success();
            let forget = "UPDATE transfers SET confirmed_at = NULL";
            home.raw().await.execute(forget).await;
            let token = there.run(&["token", "create", "--name", "new", "--scope", "admin"]).await;
            token.success();
        }
        let words = if stage == "drained" { moving } else { "for ever" };
        assert_failed(&home.run(&["serve"]).await, 4, &[words, "onceguard transfer"]);
        let other = transfer(&home, &elsewhere, &["--yes"]).await;
        assert_failed(&other, 4, &["--to names", &place(&parsed(&there.url()))]);
        if stage != "drained" {
            let late = home.run(&["transfer", "--from", &source, "--cancel"]).await;
            assert_failed(&late, 4, &["for ever"]);
        }
        transfer(&home, &there, &["--yes"]).await.success();
        let rows = held(&there).await;
        assert_eq!((rows["sessions"].len(), rows["nonces"].len()), (3, 3), "{stage}");
        let tokens = usize::from(stage == "arrived");
        let found = rows.get("api_tokens").map_or(0, Vec::len);
        assert!(found >= tokens, "what the target took since is kept");
        assert_failed(&transfer(&home, &there, &["--yes"]).await, 4, &["was moved to"]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_was_killed_can_be_called_off(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let there = target(Sqlite).await;
    let source = home.url();
    let store = store_at(&parsed(&source)).await;
    let departure = store.drain(&place(&parsed(&there.url()))).await.unwrap();
    store.close().await;
    let cancelled = json(home.run(&["transfer", "--from", &source, "--cancel", "--json"]).await);
    assert_eq!(cancelled["cancelled"], departure.id.to_string());
    let process = home.start().await;
    assert_eq!(process.stop().await.code(), 0);
    transfer(&home, &there, &["--yes"]).await.success();
    let events = "count(*) FROM events WHERE type LIKE 'onceguard.transfer.%'";
    assert_eq!(there.raw().await.number(events).await, 3);
}

/// Whether the database holds rows and takes changes: two that do would accept a nonce twice.
async fn lives(home: &Home) -> bool {
    if home.url().starts_with("sqlite:") && !Path::new(&home.url()[9..]).exists() {
        return false;
    }
    let raw = home.raw().await;
    let tried = raw.try_execute("UPDATE signer_nonces SET expires_at = expires_at").await;
    // An empty PostgreSQL has no tables.
    tried.is_ok() && raw.number("count(*) FROM signer_nonces").await > 0
}

#[rstest]
#[case(Sqlite, Postgres)]
#[case(Postgres, Sqlite)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_there_are_never_two(#[case] from: Database, #[case] to: Database) {
    let mut whole = Duration::ZERO;
    let (mut before, mut between, mut after) = (0, 0, 0);
    for round in 0..10_u32 {
        let home = migrated(from).await;
        home.run(&["seed", "staging"]).await.success();
        many_nonces(&home, from).await;
        let there = target(to).await;
        let (source, aim) = (home.url(), there.url());
        let arguments = ["transfer", "--from", &source, "--to", &aim, "--yes"];
        let began = Instant::now();
        let mut running = Running::start(home.command(&arguments));
        // The first shows how long it takes.
        if round > 0 {
            tokio::time::sleep(whole.mul_f64(f64::from(round) / 9.0)).await;
            running.kill();
        }
        drop(running.finished().await);
        if round == 0 {
            whole = began.elapsed();
        }
        settled(&home, from).await;
        settled(&there, to).await;
        match (lives(&home).await, lives(&there).await) {
            (true, true) => panic!("two databases take changes"),
            (true, false) => before += 1,
            (false, true) => after += 1,
            (false, false) => between += 1,
        }
        let again = home.run(&arguments).await;
        let ended = again.stderr.contains("was moved to");
        assert!(again.code() == 0 || (again.code() == 4 && ended), "{again:?}");
        assert!(!lives(&home).await && lives(&there).await, "{again:?}");
        let rows = held(&there).await;
        assert_eq!((rows["nonces"].len(), rows["signer_nonces"].len()), (1800, 50_000));
        let left = fs::read_dir(there.folder()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|n| n.to_string_lossy().contains("restoring")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(after > 0 && before + between > 0, "{before} before, {between} between, {after} after");
    println!("{from:?}: {before} before, {between} between, {after} after; whole: {whole:?}");
}
