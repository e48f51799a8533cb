//! Batches of changes of records over HTTP: all are made, or none, and each that failed is named.

use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::{Value, json};

use crate::records::{OWNER, create, path, sealed};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, TestApp};

fn put(id: &str, bytes: &[u8]) -> Value {
    json!({"op": "put", "kind": "sync", "id": id, "if_none_match": "*", "record": sealed(bytes)})
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_made_whole(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let batch = format!("/v1/records/{OWNER}/batch");
    let tags = [create(&app, "a", b"a").await, create(&app, "b", b"b").await]
        .map(|answer| answer.text_of("etag"));
    let mut with_metadata = put("c", b"c");
    with_metadata["record"]["metadata"] = json!({"n": 1.50, "big": 12_345_678_901_234_567_u64});
    let operations = json!({"operations": [
        {"op": "delete", "kind": "sync", "id": "a", "if_match": tags[0]},
        {"op": "put", "kind": "sync", "id": "b", "if_match": tags[1], "record": sealed(b"new")},
        with_metadata,
    ]});
    let done = app.post(&batch, &operations).await.is(200);
    let results = done["results"].as_array().unwrap();
    let sequences: Vec<_> = results.iter().map(|one| one["sequence"].as_i64().unwrap()).collect();
    assert_eq!(sequences, [3, 4, 5]);
    assert_eq!((&results[0]["deleted"], results[0].get("etag")), (&json!(true), None));
    assert_eq!((&results[1]["version"], &results[1]["size"]), (&json!(2), &json!(3)));
    app.get(&path("a")).await.is(404);
    let read = app.get(&path("b")).await.is(200);
    assert_eq!((&read["etag"], &read["sequence"]), (&results[1]["etag"], &json!(4)));
    let read = app.get(&path("c")).await.is(200);
    assert!(read.text().contains(r#""n":1.5"#), "{read:?}");
    assert_eq!(read["metadata"]["big"], 12_345_678_901_234_567_u64);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_names_every_precondition_that_failed(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let batch = format!("/v1/records/{OWNER}/batch");
    let tag = create(&app, "a", b"a").await.text_of("etag");
    let request = app.request("POST", &batch).json(&json!({"operations": [
        put("new", b"x"),
        put("a", b"x"),
        {"op": "delete", "kind": "sync", "id": "none", "if_match": "\"1.0000000000000000\""},
    ]}));
    let refused = app.refuses(request, 412, "precondition_failed").await;
    assert_eq!(refused.pointers(), ["/operations/1", "/operations/2"]);
    assert_eq!(refused["errors"][0]["etag"], json!(tag));
    assert_eq!(refused["errors"][1].get("etag"), None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_read_strictly(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let batch = format!("/v1/records/{OWNER}/batch");
    let good = put("a", b"a");
    let with = |name: &str, value: Value| {
        let mut one = good.clone();
        one[name] = value;
        json!([one])
    };
    let without = |names: &[&str]| {
        let mut one = good.clone();
        for name in names {
            one.as_object_mut().unwrap().remove(*name);
        }
        json!([one])
    };
    let delete = json!([{
        "op": "delete", "kind": "sync", "id": "a", "if_match": "*", "record": sealed(b"a"),
    }]);
    let many: Vec<_> = (0..101).map(|n| put(&n.to_string(), b"x")).collect();
    let mut bad_iv = good.clone();
    bad_iv["record"]["iv"] = json!("x");
    for (operations, pointers) in [
        (json!([]), &["/operations"][..]),
        (json!(many), &["/operations"]),
        (json!({}), &["/operations"]),
        (json!(["x"]), &["/operations/0"]),
        (with("op", json!("patch")), &["/operations/0/op"]),
        (with("kind", json!("Sync")), &["/operations/0/kind"]),
        (with("id", json!("a b")), &["/operations/0/id"]),
        (with("other", json!(1)), &["/operations/0/other"]),
        (with("if_match", json!("*")), &["/operations/0/if_none_match"]),
        (with("if_none_match", json!("\"x\"")), &["/operations/0/if_none_match"]),
        (with("op", json!("delete")), &["/operations/0/if_none_match", "/operations/0/record"]),
        (without(&["if_none_match"]), &["/operations/0/if_match"]),
        (without(&["record"]), &["/operations/0/record"]),
        (
            without(&["op", "kind", "id"]),
            &["/operations/0/id", "/operations/0/kind", "/operations/0/op"],
        ),
        (delete, &["/operations/0/record"]),
        (json!([good, good]), &["/operations/1"]),
        (json!([good, bad_iv]), &["/operations/1/record/iv"]),
    ] {
        let request = app.request("POST", &batch).json(&json!({"operations": operations}));
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    let mut other = put("b", b"b");
    other["record"]["checksum"] = sealed(b"a")["checksum"].clone();
    let request = app.request("POST", &batch).json(&json!({"operations": [good, other]}));
    let refused = app.refuses(request, 422, "checksum_mismatch").await;
    assert!(refused.text_of("detail").contains("/operations/1"), "{refused:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_one_owner(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let own = format!("/v1/records/{}/batch", agent.did);
    let body = json!({"operations": [put("a", b"a"), put("b", b"b")]});
    agent.json(&app, "POST", &own, &body).send().await.is(200);
    let other = agent.json(&app, "POST", &format!("/v1/records/{OWNER}/batch"), &body);
    other.send().await.refused(403, "forbidden");
    assert_eq!(app.store().raw().number("count(*) FROM records").await, 2);
}
