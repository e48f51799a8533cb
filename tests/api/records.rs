//! Sealed records over HTTP: one record, its preconditions, the feed, quotas, and what is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Answer, TestApp, days, hex, minutes};

pub(crate) const OWNER: &str = "did:web:owner.example";

/// A record with this ciphertext.
pub(crate) fn sealed(ciphertext: &[u8]) -> Value {
    let iv = [9; 12];
    let checksum = Sha256::digest([iv.as_slice(), ciphertext].concat());
    json!({
        "iv": STANDARD.encode(iv),
        "ciphertext": STANDARD.encode(ciphertext),
        "checksum": hex(&checksum),
    })
}

pub(crate) fn path(id: &str) -> String {
    format!("/v1/records/{OWNER}/sync/{id}")
}

pub(crate) async fn create(app: &TestApp, id: &str, ciphertext: &[u8]) -> Answer {
    let put = app.request("PUT", &path(id)).header("if-none-match", "*");
    put.json(&sealed(ciphertext)).send().await.is(201)
}

fn tag_of(answer: &Answer) -> String {
    answer.header("etag").unwrap().to_owned()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_written_read_replaced_and_deleted(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let path = path("a%2Fb");
    app.get(&path).await.refused(404, "record_not_found");
    let mut body = sealed(b"one");
    body["metadata"] = json!({"device": "laptop", "n": 1.50});
    body["client_time"] = json!("2026-01-02T03:04:05.5Z");
    body["expires_at"] = json!("2126-01-02T03:04:05Z");
    let put = app.request("PUT", &path).header("if-none-match", "*").json(&body);
    let created = put.send().await.is(201);
    assert_eq!((&created["version"], &created["sequence"]), (&json!(1), &json!(1)));
    assert_eq!((&created["kind"], &created["id"]), (&json!("sync"), &json!("a/b")));
    assert_eq!((&created["size"], &created["etag"]), (&json!(3), &json!(tag_of(&created))));
    assert!(tag_of(&created).starts_with("\"1.") && tag_of(&created).len() == 20);

    let read = app.get(&path).await.is(200);
    assert_eq!(tag_of(&read), tag_of(&created));
    for name in ["iv", "ciphertext", "checksum", "metadata"] {
        assert_eq!(read[name], body[name], "{name}");
    }
    assert_eq!(read["client_time"], "2026-01-02T03:04:05.500000Z");
    assert_eq!(read["expires_at"], "2126-01-02T03:04:05.000000Z");
    assert!(read.json().get("deleted").is_none() && read.json().get("damaged").is_none());
    let head = app.request("HEAD", &path).send().await.is(200);
    assert_eq!(tag_of(&head), tag_of(&created));

    let weak = format!("\"x\", W/{}", tag_of(&read));
    for known in [tag_of(&read), weak, "*".to_owned()] {
        let same = app.request("GET", &path).header("if-none-match", &known).send().await.is(304);
        assert_eq!((tag_of(&same), same.body.len()), (tag_of(&read), 0));
    }
    let other = app.request("GET", &path).header("if-none-match", "\"x\"");
    other.send().await.is(200);

    let put = app.request("PUT", &path).header("if-match", &tag_of(&read));
    let replaced = put.json(&sealed(b"second")).send().await.is(200);
    assert_eq!((&replaced["version"], &replaced["size"]), (&json!(2), &json!(6)));
    assert_eq!(replaced["created_at"], created["created_at"]);
    let read = app.get(&path).await.is(200);
    assert_eq!((&read["metadata"], &read["client_time"]), (&json!({}), &Value::Null));

    let delete = app.request("DELETE", &path).header("if-match", &tag_of(&created));
    let refused = app.refuses(delete, 412, "precondition_failed").await;
    assert_eq!(tag_of(&refused), tag_of(&replaced));
    let delete = app.request("DELETE", &path).header("if-match", &tag_of(&replaced));
    delete.send().await.is(204);
    app.get(&path).await.refused(404, "record_not_found");
    app.request("HEAD", &path).send().await.is(404);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_change_says_what_it_replaces(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let tag = tag_of(&create(&app, "r", b"one").await);
    let put = |id: &str| app.request("PUT", &path(id)).json(&sealed(b"two"));
    app.refuses(put("r"), 428, "precondition_required").await;
    app.refuses(put("new"), 428, "precondition_required").await;
    let delete = app.request("DELETE", &path("r"));
    app.refuses(delete, 428, "precondition_required").await;
    let delete = app.request("DELETE", &path("r")).header("if-none-match", "*");
    app.refuses(delete, 428, "precondition_required").await;

    for stale in ["\"x\"", "\"1.0000000000000000\"", "\"1\"", &format!("W/{tag}")] {
        let refused =
            app.refuses(put("r").header("if-match", stale), 412, "precondition_failed").await;
        assert_eq!(tag_of(&refused), tag);
    }
    let exists = put("r").header("if-none-match", "*");
    assert_eq!(tag_of(&app.refuses(exists, 412, "precondition_failed").await), tag);
    for none in ["*", &tag] {
        let none = put("new").header("if-match", none);
        let refused = app.refuses(none, 412, "precondition_failed").await;
        assert_eq!(refused.header("etag"), None);
    }
    for (name, value) in
        [("if-match", "x"), ("if-match", ""), ("if-none-match", &tag), ("if-none-match", "")]
    {
        let refused = app.refuses(put("r").header(name, value), 422, "validation_failed").await;
        let names = if name == "if-match" { "If-Match" } else { "If-None-Match" };
        refused.names(&[names]);
    }
    let both = put("r").header("if-match", &tag).header("if-none-match", "*");
    app.refuses(both, 422, "validation_failed").await.names(&["If-None-Match"]);
    put("r").header("if-match", &format!("\"x\", {tag}")).send().await.is(200);
    put("r").header("if-match", "*").send().await.is(200);
}

/// A client that lost the answer to a write learns from the refusal of the second try that the record
/// is there, and from its checksum that it is its own.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_is_recognized_by_its_checksum(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    create(&app, "r", b"one").await;
    let again = app.request("PUT", &path("r")).header("if-none-match", "*");
    let refused = again.json(&sealed(b"one")).send().await.refused(412, "precondition_failed");
    let read = app.get(&path("r")).await.is(200);
    assert_eq!(tag_of(&read), tag_of(&refused));
    assert_eq!(read["checksum"], sealed(b"one")["checksum"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_a_million_bytes_and_not_one_more(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let most = vec![0xa5; 1_000_000];
    let created = create(&app, "most", &most).await;
    assert_eq!(created["size"], 1_000_000);
    let read = app.get(&path("most")).await.is(200);
    assert_eq!(read["ciphertext"].as_str().unwrap(), STANDARD.encode(&most));
    let put = |body: &Value| app.request("PUT", &path("x")).header("if-none-match", "*").json(body);
    let more = put(&sealed(&[most.as_slice(), &[0]].concat()));
    app.refuses(more, 422, "validation_failed").await.names(&["/ciphertext"]);
    app.refuses(put(&sealed(b"")), 422, "validation_failed").await.names(&["/ciphertext"]);
    let large = app.request("PUT", &path("x")).header("if-none-match", "*");
    let large = large.text(" ".repeat(2 * 1024 * 1024 + 1));
    app.refuses(large, 413, "payload_too_large").await;
    // Elsewhere it is as it was.
    let large = app.request("POST", "/v1/claims").text(" ".repeat(256 * 1024 + 1));
    app.refuses(large, 413, "payload_too_large").await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_field_is_read_strictly(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let put = |body: &Value| app.request("PUT", &path("r")).header("if-none-match", "*").json(body);
    let good = sealed(b"good");
    let long = json!({"a": "x".repeat(4096 - 8 + 1)});
    for (name, values) in [
        (
            "iv",
            vec![
                json!(null),
                json!(7),
                json!(""),
                json!("AAAA"),
                json!("AAAAAAAAAAAAAAA="),
                json!("AAAAAAAAAAAAAAA-"),
                json!("AAAAAAAAAAAAAAAAA"),
            ],
        ),
        ("ciphertext", vec![json!(null), json!([]), json!("a"), json!("YQ"), json!("Y-Q=")]),
        (
            "checksum",
            vec![
                json!(null),
                json!(""),
                json!("A".repeat(64)),
                json!("a".repeat(63)),
                json!("g".repeat(64)),
            ],
        ),
        ("client_time", vec![json!(null), json!(1), json!("yesterday")]),
        ("expires_at", vec![json!(null), json!("2020-01-01T00:00:00Z"), json!("x")]),
        ("metadata", vec![json!(null), json!([]), json!("x"), long]),
        ("owner", vec![json!("did:web:x")]),
    ] {
        for value in values {
            let mut body = good.clone();
            body[name] = value;
            let refused = app.refuses(put(&body), 422, "validation_failed").await;
            refused.names(&[&format!("/{name}")]);
        }
    }
    for name in ["iv", "ciphertext", "checksum"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        app.refuses(put(&body), 422, "validation_failed").await.names(&[&format!("/{name}")]);
    }
    let mut body = good.clone();
    body["metadata"] = json!({"a": {"b": -0.0}});
    app.refuses(put(&body), 422, "validation_failed").await.names(&["/metadata/a/b"]);
    let mut body = good.clone();
    body["checksum"] = sealed(b"other")["checksum"].clone();
    app.refuses(put(&body), 422, "checksum_mismatch").await;
    let twice = good.to_string().replacen('{', "{\"iv\":\"AAAAAAAAAAAAAAAA\",", 1);
    let twice = app.request("PUT", &path("r")).header("if-none-match", "*").text(twice);
    app.refuses(twice, 422, "validation_failed").await.names(&["/iv"]);

    let long_id = "i".repeat(256);
    for (of_path, name) in [
        (format!("/v1/records/{OWNER}/Sync/r"), "kind"),
        (format!("/v1/records/{OWNER}/{}/r", "k".repeat(33)), "kind"),
        (format!("/v1/records/{OWNER}/sync/{long_id}"), "id"),
        (format!("/v1/records/{OWNER}/sync/a%20b"), "id"),
        (format!("/v1/records/{OWNER}/sync/%C3%A9"), "id"),
        ("/v1/records/x/sync/r".to_owned(), "did"),
    ] {
        for method in ["PUT", "GET", "DELETE"] {
            let mut request = app.request(method, &of_path);
            if method == "PUT" {
                request = request.header("if-none-match", "*").json(&good);
            }
            app.refuses(request, 422, "validation_failed").await.names(&[name]);
        }
    }
    put(&good).send().await.is(201);
}

/// What a write is refused for with any body is said before the body is read.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_hopeless_write_is_refused_before_its_body(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    create(&app, "r", b"one").await;
    for (headers, status) in [
        ("", "428 "),
        ("If-Match: \"stale\"\r\n", "412 "),
        ("If-Match: x\r\n", "422 "),
        ("If-None-Match: *\r\n", "412 "),
    ] {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut connection = tokio::net::TcpStream::connect(app.api_address()).await.unwrap();
        let head = format!(
            "PUT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: 100\r\n{headers}\r\n",
            path("r"),
            app.token_text(),
        );
        // Nothing of the body is ever sent.
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 13];
        connection.read_exact(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(&answer[9..], status, "{headers:?}: {answer}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn changes_are_followed_in_pages(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let list = format!("/v1/records/{OWNER}");
    let empty = app.get(&list).await.is(200);
    assert_eq!((&empty["items"], &empty["has_more"]), (&json!([]), &json!(false)));
    let beginning = empty.text_of("next_cursor");
    for id in ["a", "b", "c"] {
        create(&app, id, id.as_bytes()).await;
    }
    let page = app.get(&format!("{list}?limit=2")).await.is(200);
    assert_eq!((page["items"].as_array().unwrap().len(), &page["has_more"]), (2, &json!(true)));
    assert_eq!(page["items"][0]["ciphertext"], sealed(b"a")["ciphertext"]);
    let tag = page["items"][0]["etag"].as_str().unwrap();
    app.request("DELETE", &path("a")).header("if-match", tag).send().await.is(204);
    let since = page.text_of("next_cursor");
    let rest = app.get(&format!("{list}?limit=2&since={since}")).await.is(200);
    assert_eq!((&rest["items"][0]["id"], &rest["items"][1]["id"]), (&json!("c"), &json!("a")));
    let mut members: Vec<_> = rest["items"][1].as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(
        members,
        ["created_at", "deleted", "id", "kind", "sequence", "updated_at", "version"]
    );
    assert_eq!((&rest["items"][1]["deleted"], &rest["has_more"]), (&json!(true), &json!(false)));
    let from_nothing = app.get(&format!("{list}?since={beginning}")).await.is(200);
    assert_eq!(from_nothing["items"].as_array().unwrap().len(), 3);

    let meta = app.get(&format!("{list}?fields=meta&kind=sync")).await.is(200);
    let first = meta["items"][0].as_object().unwrap();
    assert!(!first.contains_key("iv") && !first.contains_key("ciphertext"), "{first:?}");
    assert_eq!(first["size"], 1);
    let other = app.get(&format!("{list}?kind=key")).await.is(200);
    assert_eq!(other["items"], json!([]));

    for (query, names) in [
        ("limit=0", &["limit"][..]),
        ("limit=501", &["limit"]),
        ("since=x", &["since"]),
        ("fields=all", &["fields"]),
        ("kind=K", &["kind"]),
        ("deleted=true", &["deleted"]),
        (&format!("cursor={since}"), &["cursor"]),
        (&format!("since={since}&metadata.device=a"), &["since"]),
    ] {
        app.get(&format!("{list}?{query}")).await.names(names);
    }
    app.delete(&list).await.is(200);
    app.get(&format!("{list}?since={since}")).await.refused(410, "cursor_expired");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_by_metadata_goes_on_by_its_cursor(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    for n in 0..6 {
        let mut body = sealed(b"x");
        body["metadata"] = json!({"device": if n % 2 == 0 { "a b" } else { "c" }});
        let put = app.request("PUT", &path(&n.to_string())).header("if-none-match", "*");
        put.json(&body).send().await.is(201);
    }
    let list = format!("/v1/records/{OWNER}?metadata.device=a+b&limit=2");
    let first = app.get(&list).await.is(200);
    let cursor = first.text_of("next_cursor");
    let second = app.get(&format!("{list}&cursor={cursor}")).await.is(200);
    let ids = |page: &Answer| -> Vec<String> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((ids(&first), ids(&second)), (vec!["0".into(), "2".into()], vec!["4".into()]));
    assert_eq!((&first["has_more"], &second["has_more"]), (&json!(true), &json!(false)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn usage_and_quotas(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| {
        config.records.max_records = 2;
        config.records.max_bytes = 10;
    })
    .await;
    create(&app, "a", b"12345678").await;
    let put = |id: &str, bytes: &[u8]| {
        app.request("PUT", &path(id)).header("if-none-match", "*").json(&sealed(bytes))
    };
    app.refuses(put("b", b"123"), 507, "record_quota_reached").await;
    put("b", b"12").send().await.is(201);
    app.refuses(put("c", b"1"), 507, "record_quota_reached").await;
    let usage = app.get(&format!("/v1/records/{OWNER}/usage")).await.is(200);
    let expected = json!({
        "bytes": 10, "records": 2, "kinds": {"sync": 2}, "max_bytes": 10, "max_records": 2,
    });
    assert_eq!(*usage.json(), expected);
    let refused = app.metric("onceguard_records_refused_total", &["quota_reached"]).await;
    assert!((refused - 2.0).abs() < 0.1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_an_error_that_is_counted_and_never_handed_out(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    create(&app, "r", b"secret").await;
    create(&app, "whole", b"whole").await;
    let zero = if on == Sqlite { "x'00'" } else { r"'\x00'" };
    let damage = format!("UPDATE record_blobs SET ciphertext = {zero} WHERE sequence = 1");
    app.store().raw().execute(&damage).await;
    app.get(&path("r")).await.refused(500, "internal_error");
    let feed = app.get(&format!("/v1/records/{OWNER}")).await.is(200);
    assert_eq!(feed["items"][0]["damaged"], true);
    assert!(feed["items"][0].get("ciphertext").is_none());
    assert_eq!(feed["items"][1]["ciphertext"], sealed(b"whole")["ciphertext"]);
    assert!((app.metric("onceguard_records_damaged_total", &[]).await - 2.0).abs() < 0.1);
    // Its owner can replace it.
    let put = app.request("PUT", &path("r")).header("if-match", "*");
    put.json(&sealed(b"new")).send().await.is(200);
    app.get(&path("r")).await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_owner_is_read_and_erased_and_not_written(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    create(&app, "r", b"one").await;
    app.request("POST", &format!("/v1/dids/{OWNER}/revoke")).send().await.is(200);
    let put = app.request("PUT", &path("r")).header("if-match", "*").json(&sealed(b"two"));
    app.refuses(put, 403, "did_revoked").await;
    let delete = app.request("DELETE", &path("r")).header("if-match", "*");
    app.refuses(delete, 403, "did_revoked").await;
    app.get(&path("r")).await.is(200);
    let deleted = app.delete(&format!("/v1/records/{OWNER}")).await.is(200);
    assert_eq!(deleted["deleted"], 1);
    app.get(&path("r")).await.refused(404, "record_not_found");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn inactive_owners_are_listed_and_then_removed(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    create(&app, "r", b"one").await;
    app.store().pass(days(20)).await;
    let other = "/v1/records/did:web:other.example/sync/r";
    let put = app.request("PUT", other).header("if-none-match", "*").json(&sealed(b"x"));
    put.send().await.is(201);
    app.store().pass(minutes(1)).await;
    let listed = app.get("/v1/records?inactive_days=20").await.is(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!((&listed["items"][0]["did"], &listed["next_cursor"]), (&json!(OWNER), &Value::Null));
    for path in ["/v1/records", "/v1/records?inactive_days=0", "/v1/records?inactive_days=x"] {
        app.get(path).await.names(&["inactive_days"]);
        let delete = app.request("DELETE", path);
        app.refuses(delete, 422, "validation_failed").await.names(&["inactive_days"]);
    }
    let removed = app.delete("/v1/records?inactive_days=20").await.is(200);
    assert_eq!(*removed.json(), json!({"owners": 1, "records": 1}));
    assert_eq!(app.audited().await, ["records.deleted"]);
    assert_eq!(app.store().raw().number("count(*) FROM record_owners").await, 1);
    app.get(other).await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_keeps_its_own_records(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let path = format!("/v1/records/{}/sync/r", agent.did);
    let put = agent.json(&app, "PUT", &path, &sealed(b"mine")).header("if-none-match", "*");
    let created = put.send().await.is(201);
    let read = agent.request(&app, "GET", &path).send().await.is(200);
    assert_eq!(read["ciphertext"], sealed(b"mine")["ciphertext"]);
    let delete = agent.request(&app, "DELETE", &path).header("if-match", &tag_of(&created));
    delete.send().await.is(204);
    assert_eq!(app.store().raw().number("count(*) FROM record_owners WHERE agent = true").await, 1);
}
