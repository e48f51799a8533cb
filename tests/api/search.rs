//! `GET /v1/search`.

use onceguard::domain::TokenScope::{Dids, Nonces, Sessions};
use rstest::rstest;
use serde_json::{Value, json};

use crate::dids::ed25519;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Answer, TestApp, wait_for};

fn found(page: &Answer) -> Vec<(&str, &str)> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| (item["kind"].as_str().unwrap(), item["id"].as_str().unwrap())).collect()
}

/// A session whose metadata has these words.
async fn session(app: &TestApp, words: &str) -> String {
    app.open_with(json!({"metadata": {"note": words}})).await.text_of("id")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn words_find_dids_and_sessions(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let first = session(&app, "Order 17, paid").await;
    let did = "did:example:shop:order";
    app.put(&format!("/v1/dids/{did}"), &ed25519(1)).await.is(201);
    let second = session(&app, "order 18").await;
    session(&app, "reorder orders").await;

    let all = app.get("/v1/search?q=ORDER").await.is(200);
    assert_eq!(found(&all), [("session", &*second), ("did", did), ("session", &*first)]);
    assert_eq!(all["next_cursor"], Value::Null);
    let both = app.get("/v1/search?q=paid+order").await.is(200);
    assert_eq!(found(&both), [("session", &*first)]);
    let by_text = app.get(&format!("/v1/search?q={did}")).await.is(200);
    assert_eq!(found(&by_text), [("did", did)]);
    assert_eq!(found(&app.get("/v1/search?q=nothing").await.is(200)), []);

    // Each is as its list has it.
    let mut listed = app.get("/v1/sessions?limit=1&state=all").await.is(200)["items"][0].clone();
    listed["kind"] = "session".into();
    let by_word = app.get("/v1/search?q=reorder").await.is(200);
    assert_eq!(by_word["items"][0], listed);
    let mut listed = app.get("/v1/dids").await.is(200)["items"][0].clone();
    (listed["kind"], listed["id"]) = ("did".into(), did.into());
    assert_eq!(all["items"][1], listed);

    let one = app.get("/v1/search?q=order&limit=1").await.is(200);
    let next = one.text_of("next_cursor");
    let rest = app.get(&format!("/v1/search?q=order&cursor={next}")).await.is(200);
    assert_eq!([found(&one), found(&rest)].concat(), found(&all));

    // What ended is found, and what is erased is not.
    app.delete(&format!("/v1/sessions/{first}")).await.is(204);
    let ended = app.get("/v1/search?q=17").await.is(200);
    assert_eq!(ended["items"][0]["state"], "ended");
    let client = ended["items"][0]["client_did"].as_str().unwrap();
    app.delete(&format!("/v1/dids/{client}/data")).await.is(200);
    app.delete(&format!("/v1/dids/{did}")).await.is(204);
    let left = app.get("/v1/search?q=order").await.is(200);
    assert_eq!(found(&left), [("session", &*second)]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_finds_what_it_may_list(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let session = session(&app, "order").await;
    let did = "did:example:order";
    app.put(&format!("/v1/dids/{did}"), &ed25519(1)).await.is(201);
    for (scopes, expected) in [
        (&[Dids][..], &[("did", did)][..]),
        (&[Sessions], &[("session", &*session)]),
        (&[Dids, Sessions, Nonces], &[("did", did), ("session", &*session)]),
    ] {
        let page = app.caller(scopes).await.get("/v1/search?q=order").await.is(200);
        assert_eq!(found(&page), expected, "{scopes:?}");
    }
    app.caller(&[Nonces]).await.get("/v1/search?q=order").await.refused(403, "forbidden");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_search_without_words_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let many: Vec<_> = (0..33).map(|n| format!("w{n}")).collect();
    for query in [
        "",
        "?q=",
        "?q=--",
        "?q=a&q=b",
        "?q=a&kind=did",
        "?q=a&limit=0",
        "?q=a&cursor=AA",
        &format!("?q={}", many.join("+")),
    ] {
        app.get(&format!("/v1/search{query}")).await.refused(422, "validation_failed");
    }
}

/// As after a restore, or an older version.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_words_gets_them_after_the_start(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let session = session(&app, "order").await;
    app.stop().await;
    app.store().raw().execute("UPDATE sessions SET words = NULL").await;
    app.restart().await;
    wait_for("the words are there", async || {
        let answer = app.get("/v1/search?q=order").await;
        if answer.status == 503 {
            answer.refused(503, "storage_unavailable");
            return None;
        }
        assert_eq!(found(&answer), [("session", &*session)]);
        Some(())
    })
    .await;
}
