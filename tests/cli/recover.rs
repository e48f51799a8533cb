//! `onceguard recover`.

use rstest::rstest;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::wait_for;
use crate::{assert_failed, json, migrated, stats};

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
    let event = "count(*) FROM audit_events WHERE action = 'database.recover' \
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
