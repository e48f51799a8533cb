//! `onceguard sealing`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{Database, Home};
use crate::{assert_failed, json, migrated};

async fn generate(home: &Home) -> String {
    home.run(&["sealing", "generate"]).await.success().trim().to_owned()
}

#[tokio::test]
async fn a_generated_key_is_32_random_bytes() {
    let home = Home::on(Database::Sqlite).await;
    let (first, second) = (generate(&home).await, generate(&home).await);
    assert_eq!(STANDARD.decode(&first).unwrap().len(), 32);
    assert_ne!(first, second);
}

#[tokio::test]
async fn rotation_seals_everything_again_and_retires_the_old_key() {
    let home = migrated().await;
    home.run(&["seed"]).await.success();
    let before = json(home.run(&["sealing", "status", "--json"]).await);
    assert_eq!(before["keys"][0]["role"], "seals");
    assert_eq!(before["keys"][0]["sessions"], 3);
    let old_id = before["keys"][0]["key_id"].as_str().unwrap();

    let file = home.folder().join("sealing.key");
    let old = std::fs::read_to_string(&file).unwrap();
    let new = generate(&home).await;
    std::fs::write(&file, format!("{new}\n{old}")).unwrap();
    let rotated = home.run(&["sealing", "rotate", "--json"]).await;
    assert!(rotated.stderr.contains("3 of about 3"), "{rotated:?}");
    let rotated = json(rotated);
    assert_eq!(rotated["resealed"], 3);
    assert_eq!(rotated["retired"], serde_json::json!([old_id]));
    assert_ne!(rotated["key_id"], old_id);

    let again = json(home.run(&["sealing", "rotate", "--json"]).await);
    assert_eq!(again["resealed"], 0);
    std::fs::write(&file, format!("{new}\n")).unwrap();
    let after = json(home.run(&["sealing", "status", "--json"]).await);
    assert_eq!(after["keys"].as_array().unwrap().len(), 1);
    assert_eq!(after["keys"][0]["sessions"], 3);
    let table = home.run(&["sealing", "status"]).await.success();
    assert!(table.lines().nth(1).unwrap().ends_with("  seals  3"), "{table}");
}

#[tokio::test]
async fn the_wrong_key_rotates_nothing() {
    let home = migrated().await;
    home.run(&["seed"]).await.success();
    let wrong = generate(&home).await;
    std::fs::write(home.folder().join("sealing.key"), &wrong).unwrap();
    let finished = home.run(&["sealing", "rotate"]).await;
    assert_failed(&finished, 4, &["not configured"]);
    assert!(!finished.stderr.contains(&wrong), "{finished:?}");
    let status = json(home.run(&["sealing", "status", "--json"]).await);
    assert_eq!(status["keys"][0]["role"], "not configured");
    assert_eq!(status["keys"][0]["sessions"], 3);
}

#[tokio::test]
async fn without_a_key_there_is_nothing_to_rotate() {
    let home = migrated().await;
    assert_failed(&home.run(&["sealing", "rotate"]).await, 4, &["sealing.key"]);
    assert!(!home.folder().join("sealing.key").exists());
}
