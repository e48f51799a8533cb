//! `onceguard seed`.

use rstest::rstest;

use crate::support::{
    Database::{self, Postgres, Sqlite},
    Home,
};
use crate::{assert_failed, migrated, stats};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn dev_has_four_dids_three_sessions_and_three_nonces(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    let printed = home.run(&["seed"]).await.success();
    assert_eq!(printed, "4 DIDs (1 revoked), 3 sessions, 3 nonces, 6 records\n");
    let counts = stats(&home).await;
    assert_eq!(counts["dids"], serde_json::json!({ "stored": 4, "revoked": 1 }));
    assert_eq!(counts["sessions"]["active"], 3);
    assert_eq!(counts["live_nonces"], 3);
    assert_eq!(
        (&counts["records"]["owners"], &counts["records"]["records"]),
        (&3.into(), &6.into())
    );
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn staging_is_larger_and_running_twice_changes_nothing(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    home.run(&["seed", "staging"]).await.success();
    let first = stats(&home).await;
    assert_eq!(first["dids"], serde_json::json!({ "stored": 50, "revoked": 5 }));
    assert_eq!(first["sessions"]["active"], 180);
    assert_eq!(first["live_nonces"], 1800);

    let again = home.run(&["seed", "staging"]).await;
    assert!(again.stderr.contains("was there already"), "{again:?}");
    again.success();
    let second = stats(&home).await;
    for count in ["dids", "sessions", "live_nonces", "records"] {
        assert_eq!(first[count], second[count]);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_other_data_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed", "dev"]).await.success();
    assert_failed(&home.run(&["seed", "staging"]).await, 4, &["holds other data"]);
    let counts = stats(&home).await;
    assert_eq!(counts["dids"]["stored"], 4);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_was_cut_short_is_finished(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let raw = home.raw().await;
    raw.execute(&format!("DELETE FROM {}", raw.session_nonces())).await;
    raw.execute("DELETE FROM sessions").await;
    raw.execute("DELETE FROM record_owners WHERE did = 'did:example:carol'").await;
    home.run(&["seed"]).await.success();
    let counts = stats(&home).await;
    assert_eq!((&counts["sessions"]["active"], &counts["live_nonces"]), (&3.into(), &3.into()));
    assert_eq!(counts["records"]["records"], 6);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn records_of_others_are_other_data(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let raw = home.raw().await;
    raw.execute("UPDATE record_owners SET did = 'did:example:dan' WHERE did LIKE '%carol'").await;
    assert_failed(&home.run(&["seed"]).await, 4, &["holds other data"]);
}

#[tokio::test]
async fn an_unmigrated_database_is_refused() {
    let home = Home::on(Sqlite).await;
    assert_failed(&home.run(&["seed"]).await, 4, &["there is no database"]);
    assert_failed(&home.run(&["seed", "production"]).await, 2, &["dev", "staging"]);
}
