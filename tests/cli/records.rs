//! `onceguard records`: all records of a DID, from one database into another.

use rstest::rstest;
use serde_json::json;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    Home, a_change, a_new_record, a_record_key, changed, database_url, did, store_at,
};
use crate::{json, migrated};

const OWNER: &str = "did:web:owner.example";

/// Records of the owner: three that stay, and one that was deleted.
async fn fill(home: &Home) {
    use onceguard::domain::Precondition::{Absent, Present};
    let store = store_at(&url(home)).await;
    let owner = did(OWNER);
    for (id, size) in [("small", 1), ("large", 1_000_000), ("odd\"/", 5)] {
        let new = Some(a_new_record(&vec![7; size]));
        changed(&store, &owner, a_change(&a_record_key("sync", id), Absent, new)).await;
    }
    let gone = a_record_key("key", "gone");
    changed(&store, &owner, a_change(&gone, Absent, Some(a_new_record(b"x")))).await;
    changed(&store, &owner, a_change(&gone, Present, None)).await;
    store.close().await;
}

pub(crate) fn url(home: &Home) -> onceguard::config::DatabaseUrl {
    let url = home.url();
    match url.strip_prefix("sqlite://") {
        Some(path) => onceguard::config::DatabaseUrl::Sqlite(
            onceguard::config::SqliteLocation::File(path.into()),
        ),
        None => database_url(&url),
    }
}

#[rstest]
#[case(Sqlite, Postgres)]
#[case(Postgres, Sqlite)]
#[tokio::test(flavor = "multi_thread")]
async fn records_move_from_one_database_into_another(
    #[case] from: Database,
    #[case] into: Database,
) {
    let (from, into) = (migrated(from).await, migrated(into).await);
    fill(&from).await;
    let file = from.folder().join("owner.records");
    let path = file.to_str().unwrap();
    let export = ["records", "export", "--did", OWNER, "--out", path, "--json"];
    let exported = json(from.run(&export).await);
    assert_eq!(exported["lines"], 4);
    assert_eq!(from.run(&export).await.code(), 1, "a file is never overwritten");

    let import = ["records", "import", "--did", OWNER, path, "--json"];
    assert_eq!(json(into.run(&import).await), json!({"written": 3, "same": 0, "other": []}));
    assert_eq!(json(into.run(&import).await), json!({"written": 0, "same": 3, "other": []}));
    let store = store_at(&url(&into)).await;
    let usage = store.record_usage(&did(OWNER)).await.unwrap();
    assert_eq!((usage.records, usage.bytes), (3, 1_000_006));

    // What is there with other content is never overwritten.
    let change = a_change(
        &a_record_key("sync", "small"),
        onceguard::domain::Precondition::Present,
        Some(a_new_record(b"newer")),
    );
    changed(&store, &did(OWNER), change).await;
    store.close().await;
    let refused = into.run(&["records", "import", "--did", OWNER, path]).await;
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("sync/small"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_whole_writes_nothing() {
    let home = migrated(Sqlite).await;
    fill(&home).await;
    let file = home.folder().join("owner.records");
    let path = file.to_str().unwrap();
    home.run(&["records", "export", "--did", OWNER, "--out", path]).await.success();
    let whole = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = whole.lines().collect();
    let other = migrated(Sqlite).await;
    for (what, text) in [
        ("its end is missing", lines[..lines.len() - 1].join("\n") + "\n"),
        ("was changed", whole.replacen("\"kind\":\"key\"", "\"kind\":\"kee\"", 1)),
        ("goes on", format!("{whole}{}\n", lines[1])),
        ("no export", "{}\n".to_owned()),
        ("no export", String::new()),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = other.run(&["records", "import", "--did", OWNER, path]).await;
        assert_eq!(refused.code(), 1, "{refused:?}");
        let empty = what == "no export";
        assert!(refused.stderr.contains(what) || empty, "{what}: {refused:?}");
    }
    std::fs::write(&file, &whole).unwrap();
    let wrong = other.run(&["records", "import", "--did", "did:web:other.example", path]).await;
    assert!(wrong.code() == 1 && wrong.stderr.contains(OWNER), "{wrong:?}");
    let store = store_at(&url(&other)).await;
    assert_eq!(store.record_usage(&did(OWNER)).await.unwrap().records, 0);
}
