//! `onceguard doctor` on records that a hand has edited.

use rstest::rstest;
use serde_json::Value;

use crate::migrated;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Home, RawSql};

/// The verdict and the detail of each check of records.
async fn found(home: &Home) -> Vec<(String, String)> {
    let finished = home.run(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    let of_records = checks.filter(|check| check["check"] == "records");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found: Vec<_> =
        of_records.map(|check| (text(&check["verdict"]), text(&check["detail"]))).collect();
    assert!(found.iter().all(|(verdict, _)| verdict == "ok") || finished.code() == 1);
    found
}

/// Lets a hand write what the tables refuse.
async fn without_constraints(raw: &RawSql, on: Database) {
    raw.execute(match on {
        Postgres => "ALTER TABLE records DROP CONSTRAINT records_whole",
        _ => "PRAGMA ignore_check_constraints = ON",
    })
    .await;
}

const ALICE: &str = "owner = (SELECT id FROM record_owners WHERE did = 'did:example:alice')";

#[rstest]
#[case::no_content(
    "DELETE FROM record_blobs WHERE sequence = 2 AND {alice}",
    &["1 records have no content, first did:example:alice key/sample-1"]
)]
#[case::other_size(
    "UPDATE record_blobs SET ciphertext = {byte}",
    &["6 records have content of another size than theirs, first did:example:alice key/sample-1"]
)]
#[case::size(
    "UPDATE records SET size = size + 1 WHERE sequence = 2 AND {alice}",
    &["1 records have content of another size", "1 owners have other numbers"]
)]
#[case::no_record(
    "INSERT INTO record_blobs (owner, sequence, ciphertext)
     SELECT id, 99, {byte} FROM record_owners WHERE did = 'did:example:alice'",
    &["1 contents belong to no record, or to a deleted one, first did:example:alice sequence 99"]
)]
#[case::content_of_a_deleted_one(
    "UPDATE records SET size = 0, iv = NULL, checksum = NULL, metadata = '{}',
        deleted_at = updated_at WHERE sequence = 2 AND {alice}",
    &["1 contents belong to no record, or to a deleted one", "1 owners have other numbers"]
)]
#[case::data_of_a_deleted_one(
    "UPDATE records SET deleted_at = updated_at WHERE sequence = 2 AND {alice}",
    &["1 deleted records still have data, first did:example:alice key/sample-1", "1 contents"]
)]
#[case::sequence(
    "UPDATE record_owners SET sequence = 1 WHERE did = 'did:example:alice'",
    &["1 records have a sequence above their owner's"]
)]
#[case::records(
    "UPDATE record_owners SET records = records + 1 WHERE did = 'did:example:alice'",
    &["1 owners have other numbers of records or bytes than are counted for them, first did:example:alice"]
)]
#[case::bytes(
    "UPDATE record_owners SET bytes = bytes - 1 WHERE did = 'did:example:alice'",
    &["1 owners have other numbers"]
)]
#[case::shares(
    "UPDATE record_shares SET bytes = 7 WHERE share = 3",
    &["record_shares counts 0 records, 7 bytes for all agents together"]
)]
#[case::agents(
    "UPDATE record_owners SET agent = {yes} WHERE did = 'did:example:alice'",
    &["record_shares counts 0 records, 0 bytes for all agents together"]
)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_hand_broke_is_found(
    #[values(Sqlite, Postgres)] on: Database,
    #[case] edit: &str,
    #[case] told: &[&str],
) {
    let home = migrated(on).await;
    home.run(&["seed"]).await.success();
    let ok = [("ok".to_owned(), "contents, sizes and counts add up".to_owned())];
    assert_eq!(found(&home).await, ok);
    let raw = home.raw().await;
    without_constraints(&raw, on).await;
    let (byte, yes) = if on == Postgres { (r"'\x00'", "true") } else { ("x'00'", "1") };
    let edit = edit.replace("{alice}", ALICE).replace("{byte}", byte).replace("{yes}", yes);
    raw.execute(&edit).await;

    let found = found(&home).await;
    assert_eq!(found.len(), told.len(), "{found:?}");
    for words in told {
        let tells =
            |(verdict, detail): &(String, String)| verdict == "fail" && detail.contains(words);
        assert!(found.iter().any(tells), "{words:?} is not in {found:?}");
    }
    // What was erased is being removed, and is no fault.
    raw.execute("UPDATE record_owners SET did = NULL").await;
    raw.execute("UPDATE record_shares SET bytes = 0").await;
    assert_eq!(self::found(&home).await, ok);
}
