//! `onceguard seed`.

use rstest::rstest;
use serde_json::Value;

use crate::support::{
    Database::{self, Postgres, Sqlite},
    Home,
};
use crate::{assert_failed, json, migrated, stats};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn dev_has_four_dids_three_sessions_and_three_nonces(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    let printed = home.run(&["seed"]).await.success();
    assert_eq!(printed, "4 DIDs (1 revoked), 3 sessions, 3 nonces, 6 records, 0 webhooks\n");
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
    for stats in [&first, &second] {
        let webhooks = &stats["webhooks"];
        assert_eq!((&webhooks["active"], &webhooks["paused"]), (&0.into(), &1.into()));
        assert_eq!((&webhooks["pending"], &webhooks["dead"]), (&1.into(), &1.into()));
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
async fn the_sample_webhook_has_an_event_in_each_state(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed", "staging"]).await.success();
    let list = json(home.run(&["webhooks", "list", "--json"]).await);
    let [webhook] = &list["items"].as_array().unwrap()[..] else { panic!("not one: {list}") };
    assert_eq!((&webhook["state"], &webhook["reason"]), (&"paused".into(), &Value::Null));
    let id = webhook["id"].as_str().unwrap();
    let states = async || {
        let found = json(home.run(&["webhooks", "deliveries", id, "--json"]).await);
        let items = found["items"].as_array().unwrap().iter();
        let mut states: Vec<_> =
            items.map(|one| one["state"].as_str().unwrap().to_owned()).collect();
        states.sort_unstable();
        states
    };
    assert_eq!(states().await, ["dead", "delivered", "pending"]);
    // A run that was cut short left it without one of them, and active.
    let raw = home.raw().await;
    raw.execute("DELETE FROM webhook_deliveries WHERE state = 'dead'").await;
    raw.execute("UPDATE webhooks SET state = 'active'").await;
    home.run(&["seed", "staging"]).await.success();
    assert_eq!(states().await, ["dead", "delivered", "pending"]);
    let list = json(home.run(&["webhooks", "list", "--json"]).await);
    assert_eq!(list["items"][0]["state"], "paused");
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

/// It would hear of the samples.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_others_is_other_data(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let arguments = ["webhooks", "create", "https://receiver.example/", "--type", "*"];
    home.run(&arguments).await.success();
    assert_failed(&home.run(&["seed"]).await, 4, &["holds other data"]);
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
