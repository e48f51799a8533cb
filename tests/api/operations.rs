//! What operators and their machines read: probes, metrics, statistics; and stopping.

use std::time::{Duration, Instant};

use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::dids::ed25519;
use crate::records::sealed;
use crate::sessions::{members, time};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    Agent, Answer, ChaosProxy, DEADLINE, PostgresDatabase, TestApp, a_did, database_url,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_is_alive_and_ready(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let live = app.ops().get("/livez").await.is(200);
    assert_eq!(*live.json(), json!({"status": "alive"}));
    let ready = app.ops().get("/readyz").await.is(200);
    assert_eq!((&ready["status"], &ready["reasons"]), (&json!("healthy"), &json!([])));
    assert_eq!(
        (&ready["draining"], &ready["version"]),
        (&json!(false), &json!(env!("CARGO_PKG_VERSION")))
    );
    let backend = if on == Postgres { "postgresql" } else { "sqlite" };
    assert_eq!(ready["database"]["backend"], backend);
    assert_eq!(ready["database"]["reachable"], true);
    assert_eq!(ready["database"]["pending_migrations"], 0);
    assert!(ready["database"]["milliseconds"].as_f64().unwrap() > 0.0);
    for member in ["max", "open", "in_use", "utilisation"] {
        assert!(ready["pool"][member].is_number(), "{ready:?}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert!(app.ops().request("HEAD", path).send().await.is(200).body.is_empty());
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn pending_migrations_are_not_ready(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    app.store().migrate_down(Some(1)).await.unwrap();
    let ready = app.ops().get("/readyz").await.is(503);
    assert_eq!(
        (&ready["status"], &ready["database"]["pending_migrations"]),
        (&json!("unhealthy"), &json!(1))
    );
    assert!(ready["reasons"][0].as_str().unwrap().contains("migrate"), "{ready:?}");
    app.ops().get("/livez").await.is(200);
    app.store().migrate_up().await.unwrap();
    app.ops().get("/readyz").await.is(200);
}

/// Claims are refused, so no proxy must send any.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_moved_is_not_ready(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    app.ops().get("/readyz").await.is(200);
    if on == Sqlite {
        app.store().drain("elsewhere").await.unwrap();
    } else {
        // As a transfer does that did not notice the instance.
        let drain = "INSERT INTO transfers (direction, id, peer, began_at)
                VALUES ('to', gen_random_uuid(), 'elsewhere', now());
            CREATE TRIGGER moved BEFORE INSERT ON sessions
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_changes()";
        app.store().raw().execute(drain).await;
    }
    let session = json!({"client_did": "did:web:a", "server_did": "did:web:b"});
    app.post("/v1/sessions", &session).await.is(503);
    let ready = app.ops().get("/readyz").await.is(503);
    assert_eq!(
        (&ready["status"], &ready["database"]["reachable"], &ready["database"]["writable"]),
        (&json!("unhealthy"), &json!(true), &json!(false))
    );
    assert!(ready["reasons"][0].as_str().unwrap().contains("onceguard transfer"), "{ready:?}");
    assert!(!ready.text().contains("elsewhere"), "{ready:?}");
    app.ops().get("/livez").await.is(200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_lags_is_degraded_and_still_ready(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let store = app.store();
    store.release_lease("purge", "the test", true).await.unwrap();
    assert!(store.take_lease("purge", "the test", crate::support::days(36_500)).await.unwrap());
    let ready = app.ops().get("/readyz").await.is(200);
    assert_eq!(ready["status"], "healthy", "{ready:?}");
    store.pass(crate::support::minutes(60)).await;
    let ready = app.ops().get("/readyz").await.is(200);
    assert_eq!(ready["status"], "degraded");
    assert!(ready["purge"]["lag_seconds"].as_i64().unwrap() >= 3600, "{ready:?}");
    assert!(ready["reasons"][0].as_str().unwrap().contains("purge"), "{ready:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_has_never_finished_is_degraded_too() {
    let app = TestApp::start(Sqlite).await;
    let store = app.store();
    assert!(store.take_lease("purge", "the test", crate::support::days(36_500)).await.unwrap());
    store.raw().execute("UPDATE leases SET finished_at = NULL WHERE name = 'purge'").await;
    assert_eq!(app.ops().get("/readyz").await.is(200)["status"], "healthy");
    store.pass(crate::support::minutes(60)).await;
    let ready = app.ops().get("/readyz").await.is(200);
    assert_eq!(ready["status"], "degraded", "{ready:?}");
    assert!(ready["purge"]["lag_seconds"].is_null(), "{ready:?}");
}

/// A database that is gone is 503 everywhere, and never "no", "unknown" or "accepted".
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_unavailable_and_comes_back() {
    let database = PostgresDatabase::create(true).await;
    let proxy = ChaosProxy::in_front_of(&database.url()).await;
    let url = database_url(&proxy.url(&database.url()));
    let app = TestApp::start_with(Postgres, |config| {
        config.database.url = url;
        config.database.pool.acquire_timeout = Duration::from_secs(1);
    })
    .await;
    let session = app.session().await;
    let path = format!("/v1/sessions/{session}");
    app.put("/v1/dids/did:web:a", &ed25519(1)).await.is(201);
    app.post(&format!("{path}/nonces"), &json!({"nonce": "before"})).await.is(201);

    proxy.refuse(true);
    proxy.cut();
    let open = json!({"client_did": "did:web:a", "server_did": "did:web:b"});
    for (method, path, body) in [
        ("GET", path.clone(), None),
        ("GET", "/v1/sessions".to_owned(), None),
        ("POST", "/v1/sessions".to_owned(), Some(open)),
        ("DELETE", path.clone(), None),
        ("POST", format!("{path}/nonces"), Some(json!({"nonce": "during"}))),
        ("POST", format!("{path}/nonces"), Some(json!({"nonce": "before"}))),
        ("GET", "/v1/dids/did:web:unknown".to_owned(), None),
        ("POST", "/v1/dids/did:web:a/revoke".to_owned(), None),
        ("GET", "/v1/stats".to_owned(), None),
        ("GET", "/v1/events".to_owned(), None),
        ("POST", "/v1/events".to_owned(), Some(json!({"type": "a", "subject": "b"}))),
    ] {
        let mut request = app.request(method, &path);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let answer = request.send().await.is(503);
        assert!(["storage_unavailable", "outcome_unknown"].contains(&answer.code()), "{answer:?}");
    }
    let ready = app.ops().get("/readyz").await.is(503);
    assert_eq!(
        (&ready["status"], &ready["database"]["reachable"]),
        (&json!("unhealthy"), &json!(false))
    );
    app.ops().get("/livez").await.is(200);
    app.ops().get("/metrics").await.is(200);

    proxy.refuse(false);
    // By itself, each pool in its own time; a claim is refused or unavailable until then.
    until(async || app.ops().get("/readyz").await.status == 200).await;
    let again = async || app.post(&format!("{path}/nonces"), &json!({"nonce": "before"})).await;
    until(async || again().await.status != 503).await;
    again().await.refused(409, "nonce_replayed");
    app.get(&path).await.is(200);
    app.post(&format!("{path}/nonces"), &json!({"nonce": "after"})).await.is(201);
}

/// Stopping: not ready any more, no new connections, and who was being served gets an answer.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_turns_unready_and_answers_who_waits(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let body = json!({"client_did": "did:web:a", "server_did": "did:web:b"}).to_string();
    let head = format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        app.token_text(),
        body.len()
    );
    let mut waiting = TcpStream::connect(app.api_address()).await.unwrap();
    waiting.write_all(head.as_bytes()).await.unwrap();
    until(async || app.metric("onceguard_http_requests_in_flight", &[]).await == 1.0).await;

    let (address, ops) = (app.api_address(), app.ops().clone());
    let stopping = tokio::spawn(app.take_application().stop());
    let unready = async || {
        let ready = ops.get("/readyz").await;
        ready.status == 503 && ready["draining"] == true
    };
    until(unready).await;
    until(async || TcpStream::connect(address).await.is_err()).await;
    assert!(!stopping.is_finished(), "a request is in flight");

    waiting.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    waiting.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    stopping.await.unwrap();
    assert_eq!(app.store().raw().number("count(*) FROM sessions").await, 1);
}

async fn until(happened: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !happened().await {
        assert!(started.elapsed() < DEADLINE, "it did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a scraper reads, as families of name, type and series.
fn families(exposition: &Answer) -> Vec<(String, String, Vec<String>)> {
    let mut families: Vec<(String, String, Vec<String>)> = Vec::new();
    for line in exposition.text().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.push((name.to_owned(), kind.to_owned(), Vec::new()));
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.split_once(' ').is_some_and(|(_, help)| help.len() > 5), "{line}");
        } else {
            families.last_mut().unwrap().2.push(line.to_owned());
        }
    }
    families
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_named_by_the_rules_and_hold_no_ids(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let opened = app.open_with(json!({})).await;
    let (id, client) = (opened.text_of("id"), opened.text_of("client_did"));
    let path = format!("/v1/sessions/{id}");
    app.post(&format!("{path}/nonces"), &json!({"nonce": "a-nonce-in-no-label"})).await.is(201);
    app.get(&format!("{path}/nonces/a-nonce-in-no-label")).await.is(200);
    app.get(&format!("/v1/dids/{client}")).await.is(404);
    app.get("/v1/nothing/at-all").await.is(404);
    app.request("BREW", "/v1/sessions").send().await.is(405);

    let exposition = app.ops().get("/metrics").await.is(200);
    assert!(exposition.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = exposition.text();
    for id in [
        id.as_str(),
        client.as_str(),
        "a-nonce-in-no-label",
        "did:",
        "at-all",
        "BREW",
        app.token_text(),
    ] {
        assert!(!text.contains(id), "{id} is in the metrics");
    }
    let found = families(&exposition);
    let mut names: Vec<_> = found.iter().map(|(name, _, _)| name.clone()).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "a family is there twice");
    for (name, kind, series) in &found {
        assert!(name.starts_with("onceguard_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(
            !["_ms", "_milliseconds", "_count", "_sum"].iter().any(|end| name.ends_with(end)),
            "{name}"
        );
        if kind == "histogram" {
            assert!(name.ends_with("_seconds") || name.ends_with("_size"), "{name}: no base unit");
        }
        assert!(!series.is_empty(), "{name}");
    }
    for name in [
        "http_requests_total",
        "http_request_duration_seconds",
        "http_requests_in_flight",
        "claims_total",
        "claim_queue_depth",
        "claim_batch_size",
        "claim_commit_duration_seconds",
        "sessions_opened_total",
        "sessions_ended_total",
        "sessions_active",
        "nonces_live",
        "did_cache_hits_total",
        "did_cache_misses_total",
        "did_cache_loads_total",
        "build_info",
    ] {
        assert!(names.contains(&format!("onceguard_{name}")), "{name} is missing");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let session = format!("/v1/sessions/{}", app.session().await);
    app.post(&format!("{session}/nonces"), &json!({"nonce": "n"})).await.is(201);
    app.post(&format!("{session}/nonces"), &json!({"nonce": "n"})).await.is(409);
    app.anybody().get(&session).await.is(401);
    app.delete(&session).await.is(204);
    let did = format!("/v1/dids/{}", a_did());
    app.put(&did, &ed25519(1)).await.is(201);
    for _ in 0..3 {
        app.get(&did).await.is(200);
    }
    let requests = "onceguard_http_requests_total";
    let nonces = "route=\"/v1/sessions/{id}/nonces\"";
    for (name, labels, value) in [
        (requests, &[nonces, "status=\"201\"", "method=\"POST\""][..], 1.0),
        (requests, &[nonces, "status=\"409\""], 1.0),
        (requests, &["route=\"/v1/sessions/{id}\"", "status=\"401\""], 1.0),
        ("onceguard_http_request_duration_seconds_count", &[nonces], 2.0),
        ("onceguard_claims_total", &["outcome=\"accepted\""], 1.0),
        ("onceguard_claims_total", &["outcome=\"replayed\""], 1.0),
        ("onceguard_claims_total", &[], 2.0),
        ("onceguard_claim_queue_depth", &[], 0.0),
        ("onceguard_claim_batch_size_sum", &[], 2.0),
        ("onceguard_sessions_opened_total", &[], 1.0),
        ("onceguard_sessions_ended_total", &["reason=\"ended\""], 1.0),
        ("onceguard_build_info", &[env!("CARGO_PKG_VERSION")], 1.0),
    ] {
        assert_eq!(app.metric(name, labels).await, value, "{name} {labels:?}");
    }
    // What the cache has is not used before changes are heard, and once more after its own.
    let misses = app.metric("onceguard_did_cache_misses_total", &[]).await;
    let hits = app.metric("onceguard_did_cache_hits_total", &[]).await;
    assert!(misses >= 1.0, "{misses}");
    assert_eq!(misses + hits, 3.0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn statistics_tell_an_operator_what_is_there(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let busy = a_did();
    for _ in 0..3 {
        app.open_with(json!({"client_did": busy.as_str()})).await;
    }
    let ended = app.session().await;
    app.delete(&format!("/v1/sessions/{ended}")).await.is(204);
    let session = app.session().await;
    app.post(&format!("/v1/sessions/{session}/nonces"), &json!({"nonce": "n"})).await.is(201);
    app.put(&format!("/v1/dids/{}", a_did()), &ed25519(1)).await.is(201);
    app.request("POST", &format!("/v1/dids/{}/revoke", a_did())).send().await.is(200);

    let agent = Agent::new(KeyType::Ed25519);
    for (kind, id) in [("sync", "a"), ("sync", "b"), ("key", "c")] {
        let path = format!("/v1/records/{}/{kind}/{id}", agent.did);
        let put = agent.json(&app, "PUT", &path, &sealed(b"four"));
        put.header("if-none-match", "*").send().await.is(201);
    }
    let put = app.request("PUT", &format!("/v1/records/{}/key/d", a_did()));
    put.header("if-none-match", "*").json(&sealed(b"seven..")).send().await.is(201);

    let stats = app.get("/v1/stats").await.is(200);
    assert_eq!(
        members(stats.json()),
        [
            "backend",
            "database",
            "dids",
            "last_backup_at",
            "live_nonces",
            "records",
            "sessions",
            "started_at",
            "top_clients",
            "uptime_seconds",
            "version",
            "webhooks",
        ]
    );
    let webhooks = json!({
        "active": 0, "paused": 0, "disabled": 0,
        "pending": 0, "dead": 0, "oldest_pending_seconds": 0,
    });
    assert_eq!(stats["webhooks"], webhooks);
    assert_eq!(stats["sessions"], json!({"active": 4, "ended": 1}));
    assert_eq!(stats["dids"], json!({"stored": 2, "revoked": 1}));
    // Three of them are of the agent's signatures.
    assert_eq!(stats["live_nonces"], 4);
    let records = json!({
        "owners": 2, "records": 4, "bytes": 19,
        "agents": {"records": 3, "bytes": 12},
        "top_kinds": [{"kind": "key", "records": 2}, {"kind": "sync", "records": 2}],
    });
    assert_eq!(stats["records"], records);
    assert_eq!(stats["top_clients"][0], json!({"client_did": busy.as_str(), "active_sessions": 3}));
    assert_eq!(stats["top_clients"].as_array().unwrap().len(), 2);
    assert_eq!(stats["backend"], if on == Postgres { "postgresql" } else { "sqlite" });
    assert!(stats["database"]["bytes"].as_u64().unwrap() > 0);
    let tables = stats["database"]["tables"].as_array().unwrap();
    let names: Vec<&Value> = tables.iter().map(|table| &table["name"]).collect();
    for name in ["sessions", "nonces", "dids", "signer_nonces", "events"] {
        assert!(names.contains(&&json!(name)), "{names:?}");
    }
    assert!(time(&stats["started_at"]) <= app.store().clock().now());
    assert!(stats["uptime_seconds"].as_i64().unwrap() >= 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn records_are_among_the_sampled_gauges(#[values(Sqlite, Postgres)] on: Database) {
    let mut app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let path = format!("/v1/records/{}/sync/a", agent.did);
    let put = agent.json(&app, "PUT", &path, &sealed(b"four"));
    put.header("if-none-match", "*").send().await.is(201);
    let put = app.request("PUT", &format!("/v1/records/{}/key/b", a_did()));
    put.header("if-none-match", "*").json(&sealed(b"seven..")).send().await.is(201);
    // The next sample is taken at the start.
    app.restart().await;
    until(async || app.metric("onceguard_record_owners", &[]).await == 2.0).await;
    for (name, value) in [
        ("records_stored", 2.0),
        ("records_stored_bytes", 11.0),
        ("agents_records_stored", 1.0),
        ("agents_records_stored_bytes", 4.0),
    ] {
        assert_eq!(app.metric(&format!("onceguard_{name}"), &[]).await, value, "{name}");
    }
}
