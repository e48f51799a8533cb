//! `/v1/events`: publishing, reading, following.

use std::collections::HashSet;

use onceguard::domain::TokenScope::{Audit, Events};
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Answer, Caller, DEADLINE, TestApp};

const PATH: &str = "/v1/events";

/// Gives every event its place, as the service does a moment later.
async fn link(app: &TestApp) {
    app.store().newest_events(0).await.unwrap();
}

fn event(subject: &str) -> Value {
    json!({"type": "com.example.paid", "subject": subject})
}

fn many(count: usize) -> Value {
    let events: Vec<_> = (0..count).map(|number| event(&number.to_string())).collect();
    json!({ "events": events })
}

async fn publish(caller: &Caller, body: &Value, key: &str) -> Answer {
    caller.request("POST", PATH).header("idempotency-key", key).json(body).send().await
}

fn ids(answer: &Answer) -> Vec<&str> {
    answer["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect()
}

/// Everything that `query` finds, page by page.
async fn read(app: &TestApp, query: &str) -> Vec<Value> {
    let (mut found, mut since) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("{PATH}?{query}{since}")).await.is(200);
        let items = page["items"].as_array().unwrap();
        if items.is_empty() {
            return found;
        }
        found.extend_from_slice(items);
        since = format!("&since={}", page.text_of("next_cursor"));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_read_as_it_was_sent(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (token, text) = app.token(&[Events], None).await;
    let caller = app.with_token(Some(&text));
    let body = r#"{"type":"com.example.paid","subject":"order 7 ü",
        "data":{"big":123456789012345678901234567890,"b":[1.50,null],"a":"x"}}"#;
    let request = caller.request("POST", PATH).header("x-request-id", "mine").text(body);
    let id = request.send().await.is(201).text_of("id");
    let batch = caller.post(PATH, &many(3)).await.is(200);
    link(&app).await;

    let page = app.get("/v1/events?type=com.example.paid").await.is(200);
    let text = page.text();
    assert!(text.contains(r#""big":123456789012345678901234567890"#), "{text}");
    let items = page["items"].as_array().unwrap();
    let found: Vec<_> = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(found, [vec![id.as_str()], ids(&batch)].concat());
    let mut names: Vec<_> = items[0].as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let columns = ["actor", "at", "data", "id", "outcome", "request_id", "sequence", "source"];
    assert_eq!(names, [&columns[..], &["subject", "type"]].concat());
    assert_eq!(items[0]["subject"], "order 7 ü");
    assert_eq!(items[0]["outcome"], "success");
    assert_eq!(items[0]["request_id"], "mine");
    assert_eq!(items[0]["source"], format!("token:{}", token.id));
    assert_eq!(items[0]["actor"], format!("token:of a test ({})", token.id));
    assert_eq!(items[1]["data"], json!({}));
    let sequences: Vec<_> = items.iter().map(|item| item["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted_by(|one, other| one < other), "{sequences:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_event_is_refused_and_changes_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| config.events.max_batch = 5).await;
    link(&app).await;
    let caller = app.caller(&[Events]).await;
    link(&app).await;
    let large = json!({"type": "a", "subject": "b", "data": {"x": "y".repeat(16 * 1024)}});
    let one_bad =
        json!({"events": [event("a"), {"type": "onceguard.x", "subject": ""}, event("b")]});
    for (body, pointers) in [
        (json!({}), &["/type", "/subject"][..]),
        (json!({"type": "onceguard.did.revoked", "subject": "a"}), &["/type"]),
        (json!({"type": "OnceGuard.x", "subject": "a"}), &["/type"]),
        (json!({"type": "a b", "subject": "a"}), &["/type"]),
        (json!({"type": 7, "subject": ["a"]}), &["/type", "/subject"]),
        (json!({"type": "x".repeat(256), "subject": "a\nb"}), &["/type", "/subject"]),
        (json!({"type": "a", "subject": "b", "data": []}), &["/data"]),
        (json!({"type": "a", "subject": "b", "data": null}), &["/data"]),
        (large, &["/data"]),
        (json!({"type": "a", "subject": "b", "actor": "me", "id": "1"}), &["/actor", "/id"]),
        (json!({"events": [], "type": "a"}), &["/events", "/type"]),
        (json!({"events": event("a")}), &["/events"]),
        (json!({"events": ["a"]}), &["/events/0"]),
        (one_bad, &["/events/1/type", "/events/1/subject"]),
        (many(6), &["/events"]),
        (json!([event("a")]), &[""]),
    ] {
        let request = caller.request("POST", PATH).json(&body);
        app.refuses(request, 422, "validation_failed").await.names(pointers);
    }
    let twice = r#"{"type":"a","type":"b","subject":"c"}"#;
    let request = caller.request("POST", PATH).text(twice);
    app.refuses(request, 422, "validation_failed").await.names(&["/type"]);
    let request = caller.request("POST", PATH).header("idempotency-key", "a b").json(&event("a"));
    app.refuses(request, 422, "validation_failed").await.names(&["Idempotency-Key"]);
    let request = caller.request("POST", PATH).text("{");
    app.refuses(request, 400, "invalid_request").await;
    let request = caller.request("POST", PATH).body("x");
    app.refuses(request, 415, "unsupported_media_type").await;
    let request = caller.request("POST", PATH).text(" ".repeat(16 * 1024 * 1024 + 1));
    app.refuses(request, 413, "payload_too_large").await;
    // More than other bodies may have.
    let spacious = event("a").to_string() + &" ".repeat(300 * 1024);
    caller.request("POST", PATH).text(spacious).send().await.is(201);
    caller.post(PATH, &many(5)).await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_first_ids(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let [caller, other] = [app.caller(&[Events]).await, app.caller(&[Events]).await];
    for (body, status) in [(event("one"), 201), (many(1200), 200)] {
        let key = format!("key-{status}");
        let first = publish(&caller, &body, &key).await.is(status);
        assert_eq!(first.header("idempotency-replayed"), None);
        let again = publish(&caller, &body, &key).await.is(status);
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(first.json(), again.json());
        // Another caller's key is another key.
        let others = publish(&other, &body, &key).await.is(status);
        assert_eq!(others.header("idempotency-replayed"), None);
        assert_ne!(first.json(), others.json());
        link(&app).await;
        let request = caller.request("POST", PATH).header("idempotency-key", &key);
        let refused = app.refuses(request.json(&event("two")), 422, "validation_failed").await;
        refused.names(&["Idempotency-Key"]);
    }
    link(&app).await;
    assert_eq!(read(&app, "type=com.example.paid&limit=500").await.len(), 2 * 1201);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_publishes_so_many_in_a_minute(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| {
        (config.events.max_batch, config.events.per_minute) = (10, 15);
    })
    .await;
    let [caller, other] = [app.caller(&[Events]).await, app.caller(&[Events]).await];
    caller.post(PATH, &many(10)).await.is(200);
    link(&app).await;
    let request = caller.request("POST", PATH).json(&many(6));
    app.refuses(request, 429, "rate_limited").await;
    // What was refused does not count.
    caller.post(PATH, &many(5)).await.is(200);
    caller.post(PATH, &event("a")).await.refused(429, "rate_limited");
    other.post(PATH, &many(10)).await.is(200);
    let refused = app.metric("onceguard_refused_total", &["resource=\"events\""]).await;
    assert!((refused - 2.0).abs() < f64::EPSILON, "{refused}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_chooses_and_goes_on(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for number in 0..7 {
        let kind = if number % 2 == 0 { "a.even" } else { "a.odd" };
        app.post(PATH, &json!({"type": kind, "subject": number.to_string()})).await.is(201);
    }
    app.put("/v1/dids/did:example:x", &crate::dids::ed25519(1)).await.is(201);
    link(&app).await;
    let subjects = async |query: &str| {
        let found = read(&app, query).await;
        found.iter().map(|item| item["subject"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(subjects("type=a.even&limit=1").await, ["0", "2", "4", "6"]);
    assert_eq!(subjects("type=a.odd&subject=3").await, ["3"]);
    assert_eq!(subjects("type=a.odd&outcome=forbidden").await, [""; 0]);
    assert_eq!(subjects("type=onceguard.did.stored").await, ["did:example:x"]);
    let all = read(&app, "limit=3").await;
    let actor = all.last().unwrap()["actor"].as_str().unwrap();
    let actor = percent_encoding::utf8_percent_encode(actor, percent_encoding::NON_ALPHANUMERIC);
    assert_eq!(subjects(&format!("actor={actor}&type=a.odd")).await, ["1", "3", "5"]);
    let at = |subject: &str| {
        let of = all.iter().find(|item| item["subject"] == subject && item["type"] != "x");
        of.unwrap()["at"].as_str().unwrap().to_owned()
    };
    let between = format!("from={}&to={}", at("2"), at("5"));
    assert_eq!(subjects(&between).await, ["2", "3", "4"]);

    // A cursor passes over what does not fit, and goes on with what comes later.
    let rare = app.get("/v1/events?type=a.late").await.is(200);
    assert_eq!(rare["items"], json!([]));
    let since = rare.text_of("next_cursor");
    assert_eq!(app.get(&format!("{PATH}?since={since}")).await["items"], json!([]));
    app.post(PATH, &json!({"type": "a.late", "subject": "late"})).await.is(201);
    link(&app).await;
    let late = app.get(&format!("{PATH}?type=a.late&since={since}")).await.is(200);
    assert_eq!(late["items"][0]["subject"], "late");

    for (query, pointer) in [
        ("since=7", "since"),
        ("from=today", "from"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", "to"),
        ("limit=501", "limit"),
        ("color=red", "color"),
    ] {
        app.get(&format!("{PATH}?{query}"))
            .await
            .refused(422, "validation_failed")
            .names(&[pointer]);
    }
    app.caller(&[Events]).await.get(PATH).await.refused(403, "forbidden");
    let request = app.caller(&[Audit]).await.request("POST", PATH).json(&event("a"));
    request.send().await.refused(403, "forbidden");
}

/// Else it would miss events and not know it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_behind_the_purge_is_told(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    app.post(PATH, &many(3)).await.is(200);
    link(&app).await;
    let page = app.get("/v1/events?limit=1").await.is(200);
    let since = page.text_of("next_cursor");
    let end = "UPDATE event_chain SET cut_sequence = 2";
    app.store().raw().execute(end).await;
    app.get(&format!("{PATH}?since={since}")).await.refused(410, "cursor_expired");
    app.get(PATH).await.is(200);
    let page = app.get("/v1/events?limit=2").await.is(200);
    app.get(&format!("{PATH}?since={}", page.text_of("next_cursor"))).await.is(200);
}

/// A hundred thousand events, while a reader follows: it sees each once.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_each_of_many_events_once(#[values(Sqlite, Postgres)] on: Database) {
    const CALLS: usize = 20;
    const OF_CALL: usize = 5000;
    let app = TestApp::start(on).await;
    let caller = app.caller(&[Events]).await;
    let publishing = tokio::spawn(async move {
        let mut all = Vec::new();
        for call in 0..CALLS {
            let events = (0..OF_CALL).map(|number| event(&format!("{call}-{number}")));
            let body = json!({"events": events.collect::<Vec<_>>()});
            let answer = caller.post(PATH, &body).await.is(200);
            all.extend(ids(&answer).into_iter().map(str::to_owned));
        }
        all
    });
    let store = (**app.store()).clone();
    let linking = tokio::spawn(async move {
        loop {
            store.link_events().await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let mut seen = Vec::new();
    let following = async {
        let mut since = String::new();
        while seen.len() < CALLS * OF_CALL {
            let query = format!("{PATH}?type=com.example.paid&limit=500{since}");
            let page = app.get(&query).await.is(200);
            for item in page["items"].as_array().unwrap() {
                seen.push(item["id"].as_str().unwrap().to_owned());
            }
            since = format!("&since={}", page.text_of("next_cursor"));
        }
    };
    let followed = tokio::time::timeout(10 * DEADLINE, following).await;
    linking.abort();
    let _ = linking.await;
    assert!(followed.is_ok(), "{} events were seen", seen.len());
    let published = publishing.await.unwrap();
    assert_eq!(seen.len(), CALLS * OF_CALL);
    let distinct: HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "some came twice");
    assert_eq!(published.iter().collect::<HashSet<_>>(), distinct);
}
