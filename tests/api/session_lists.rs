//! Listing sessions: order, filters, pages.

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Answer, TestApp, a_did, minutes};

fn ids(page: &Answer) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Walks a list to its end, and returns the pages' ids.
async fn pages(app: &TestApp, path: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = app.get(&format!("{path}{cursor}")).await.is(200);
        pages.push(ids(&page));
        match &page["next_cursor"] {
            Value::Null => return pages,
            next => cursor = format!("&cursor={}", next.as_str().unwrap()),
        }
        assert!(pages.len() < 1000, "the list has no end");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_come_first_page_by_page(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let mut opened = Vec::new();
    for _ in 0..7 {
        opened.push(app.session().await);
    }
    opened.reverse();
    assert_eq!(
        pages(&app, "/v1/sessions?limit=3").await,
        [&opened[..3], &opened[3..6], &opened[6..]]
    );
    assert_eq!(pages(&app, "/v1/sessions?limit=500").await, [&opened[..]]);
    // A page that is exactly full is the last one when nothing follows.
    let last = pages(&app, "/v1/sessions?limit=7").await;
    assert_eq!(last.concat(), opened);
    assert!(last.len() == 1, "no empty page at the end: {last:?}");
    assert_eq!(pages(&app, "/v1/sessions?limit=1").await.len(), 7);

    let page = app.get("/v1/sessions?limit=1").await;
    let read = app.get(&format!("/v1/sessions/{}", opened[0])).await;
    assert_eq!(page["items"][0], *read.json(), "an item reads like the session itself");
    assert_eq!(page.json().as_object().unwrap().len(), 2, "items and next_cursor");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn equal_times_lose_and_repeat_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let mut opened = Vec::new();
    for _ in 0..9 {
        opened.push(app.session().await);
    }
    let raw = app.store().raw();
    let first = raw.number(match on {
        Postgres => "1",
        _ => "min(created_at) FROM sessions",
    });
    let created_at = match on {
        Postgres => "(SELECT min(created_at) FROM sessions)".to_owned(),
        _ => first.await.to_string(),
    };
    raw.execute(&format!("UPDATE sessions SET created_at = {created_at}")).await;
    let mut listed = pages(&app, "/v1/sessions?limit=2").await.concat();
    assert_eq!(listed.len(), 9);
    listed.sort();
    opened.sort();
    assert_eq!(listed, opened);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sessions_opened_meanwhile_do_not_shift_the_pages(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    let mut opened = Vec::new();
    for _ in 0..4 {
        opened.push(app.session().await);
    }
    let first = app.get("/v1/sessions?limit=2").await;
    app.session().await;
    app.delete(&format!("/v1/sessions/{}", opened[3])).await.is(204);
    let next = first.text_of("next_cursor");
    let second = app.get(&format!("/v1/sessions?limit=2&cursor={next}")).await;
    assert_eq!(ids(&second), [opened[1].clone(), opened[0].clone()]);
    assert_eq!(second["next_cursor"], json!(null));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn lists_are_narrowed_by_party_and_state(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (alice, bob) = (a_did(), a_did());
    let open = async |client: &str, server: &str, ttl: u32| {
        let body = json!({"client_did": client, "server_did": server, "ttl_seconds": ttl});
        app.post("/v1/sessions", &body).await.is(201).text_of("id")
    };
    let (alice, bob) = (alice.as_str(), bob.as_str());
    let short = open(alice, bob, 60).await;
    let ended = open(alice, bob, 3600).await;
    let live = open(alice, bob, 3600).await;
    let back = open(bob, alice, 3600).await;
    let other = app.session().await;
    app.delete(&format!("/v1/sessions/{ended}")).await.is(204);
    app.store().pass(minutes(2)).await;

    let list = async |query: String| pages(&app, &format!("/v1/sessions?{query}")).await.concat();
    assert_eq!(list(String::new()).await, [&other, &back, &live].map(String::clone));
    assert_eq!(list("state=active".into()).await, [&other, &back, &live].map(String::clone));
    assert_eq!(list("state=ended".into()).await, std::slice::from_ref(&ended));
    assert_eq!(list("state=expired".into()).await, std::slice::from_ref(&short));
    let everything = [&other, &back, &live, &ended, &short].map(String::clone);
    assert_eq!(list("state=all".into()).await, everything);
    assert_eq!(list(format!("client_did={alice}")).await, std::slice::from_ref(&live));
    assert_eq!(list(format!("server_did={alice}")).await, std::slice::from_ref(&back));
    let both = format!("client_did={alice}&server_did={bob}&state=all");
    assert_eq!(list(both).await, [&live, &ended, &short].map(String::clone));
    assert_eq!(list(format!("client_did={}", a_did())).await, Vec::<String>::new());

    let states = app.get("/v1/sessions?state=all").await;
    let words: Vec<_> = states["items"].as_array().unwrap().iter().map(|i| &i["state"]).collect();
    assert_eq!(words, ["active", "active", "active", "ended", "expired"]);
    assert_eq!(states["items"][3]["end_reason"], "ended");
    assert_eq!(states["items"][4]["end_reason"], "expired");
}

/// A cursor is a text from outside like any other.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_no_list_made_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    app.session().await;
    app.session().await;
    for did in ["did:web:a", "did:web:b"] {
        let key = json!({"key_type": "Ed25519", "public_key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="});
        app.put(&format!("/v1/dids/{did}"), &key).await.is(201);
    }
    let sessions = app.get("/v1/sessions?limit=1").await.text_of("next_cursor");
    let dids = app.get("/v1/dids?limit=1").await.text_of("next_cursor");
    let short = &sessions[..sessions.len() - 4];
    for cursor in ["", "%21", "AAAA", "not-a-cursor", short, &format!("{sessions}AAAA"), &dids] {
        app.get(&format!("/v1/sessions?cursor={cursor}")).await.names(&["cursor"]);
    }
    for cursor in ["%21", "_w", &sessions] {
        app.get(&format!("/v1/dids?cursor={cursor}")).await.names(&["cursor"]);
    }
}
