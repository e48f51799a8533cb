//! `onceguard sealing`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;

use crate::support::{
    Database::{self, Postgres, Sqlite},
    Home, SEALING_KEY,
};
use crate::{assert_failed, json, migrated};

/// The key that this home's sessions are sealed with.
pub(crate) fn sealing_key(home: &Home, on: Database) -> String {
    if on == Postgres {
        return SEALING_KEY.to_owned();
    }
    std::fs::read_to_string(home.folder().join("sealing.key")).unwrap().trim().to_owned()
}

async fn generate(home: &Home) -> String {
    home.run(&["sealing", "generate"]).await.success().trim().to_owned()
}

#[tokio::test]
async fn a_generated_key_is_32_random_bytes() {
    let home = Home::on(Sqlite).await;
    let (first, second) = (generate(&home).await, generate(&home).await);
    assert_eq!(STANDARD.decode(&first).unwrap().len(), 32);
    assert_ne!(first, second);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn rotation_seals_everything_again_and_retires_the_old_key(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let before = json(home.run(&["sealing", "status", "--json"]).await);
    assert_eq!(before["keys"][0]["role"], "seals");
    assert_eq!(before["keys"][0]["sessions"], 3);
    let old_id = before["keys"][0]["key_id"].as_str().unwrap();

    let old = sealing_key(&home, on);
    let new = generate(&home).await;
    let home = home.set("sealing.key", &new).set("sealing.old_keys", old);
    let rotated = home.run(&["sealing", "rotate", "--json"]).await;
    assert!(rotated.stderr.contains("3 of about 3"), "{rotated:?}");
    let rotated = json(rotated);
    assert_eq!(rotated["resealed"], 3);
    assert_eq!(rotated["retired"], serde_json::json!([old_id]));
    assert_ne!(rotated["key_id"], old_id);

    let home = home.set("sealing.old_keys", &new);
    let again = json(home.run(&["sealing", "rotate", "--json"]).await);
    assert_eq!(again["resealed"], 0);
    let after = json(home.run(&["sealing", "status", "--json"]).await);
    assert_eq!(after["keys"].as_array().unwrap().len(), 1);
    assert_eq!(after["keys"][0]["sessions"], 3);
    let table = home.run(&["sealing", "status"]).await.success();
    assert!(table.lines().nth(1).unwrap().ends_with("  seals  3"), "{table}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_key_rotates_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let wrong = generate(&home).await;
    let home = home.set("sealing.key", &wrong);
    let finished = home.run(&["sealing", "rotate"]).await;
    assert_failed(&finished, 4, &["not configured"]);
    assert!(!finished.stderr.contains(&wrong), "{finished:?}");
    let status = json(home.run(&["sealing", "status", "--json"]).await);
    assert_eq!(status["keys"][0]["role"], "not configured");
    assert_eq!(status["keys"][0]["sessions"], 3);
}

/// A key in the data folder: the first line seals, the others open.
#[tokio::test]
async fn keys_in_the_data_folder_rotate_as_well() {
    let home = migrated(Sqlite).await;
    home.run(&["seed"]).await.success();
    let (old, new) = (sealing_key(&home, Sqlite), generate(&home).await);
    std::fs::write(home.folder().join("sealing.key"), format!("{new}\n{old}\n")).unwrap();
    assert_eq!(json(home.run(&["sealing", "rotate", "--json"]).await)["resealed"], 3);
}

#[tokio::test]
async fn without_a_key_there_is_nothing_to_rotate() {
    let home = migrated(Sqlite).await;
    assert_failed(&home.run(&["sealing", "rotate"]).await, 4, &["sealing.key"]);
    assert!(!home.folder().join("sealing.key").exists());
}
