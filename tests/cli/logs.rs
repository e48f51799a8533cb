//! What the log of a running service has, and what it never has.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use onceguard::clock::Clock;
use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Caller, Home, Message, Process, http_client, wait_for};

const ACCESS: &str = "onceguard::access";

fn admin(home: &Home, process: &Process) -> Caller {
    let base = format!("http://{}", process.api);
    Caller::new(http_client().build().unwrap(), base, Some(&home.token()))
}

fn ops(process: &Process) -> Caller {
    Caller::new(http_client().build().unwrap(), format!("http://{}", process.ops), None)
}

/// The lines so far, of which the last may not be whole.
fn lines(process: &Process) -> Vec<Value> {
    process.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The first line with this message that `is` the one.
async fn line(process: &Process, message: &str, is: impl Fn(&Value) -> bool) -> Value {
    let found = |line: &Value| line["message"] == message && is(line);
    wait_for(message, async || lines(process).into_iter().find(found)).await
}

/// The access line of the request with this id.
async fn access(process: &Process, id: &str) -> Value {
    line(process, "request", |line| line["target"] == ACCESS && line["request_id"] == id).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_line_that_a_request_causes_has_its_id(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await.set("database.slow_statement_milliseconds", 1);
    let process = home.start().await;
    let (admin, ops, raw) = (admin(&home, &process), ops(&process), home.raw().await);
    let path = format!("/v1/sessions/{}/nonces", admin.session().await);
    raw.execute(match on {
        Postgres => "BEGIN; LOCK TABLE nonces IN ACCESS EXCLUSIVE MODE",
        _ => "BEGIN IMMEDIATE",
    })
    .await;
    let claim = admin.request("POST", &path).json(&json!({ "nonce": "n" }));
    let claim = tokio::spawn(claim.header("x-request-id", "slow-claim").send());
    wait_for("the claim to be on its way", async || {
        let busy = ops.metric("onceguard_http_requests_in_flight", &[]).await;
        (busy >= 1.0).then_some(())
    })
    .await;
    raw.execute("ROLLBACK").await;
    claim.await.unwrap().is(201);
    let slow =
        line(&process, "slow database operation", |line| line["request_id"] == "slow-claim").await;
    assert!(slow["milliseconds"].as_u64().unwrap() >= 1, "{slow}");
    assert_eq!(access(&process, "slow-claim").await["status"], 201);

    // Nothing can be read of this name.
    let unreadable = admin.request("GET", "/v1/dids/did:web:nothing.invalid");
    unreadable.header("x-request-id", "unreadable").send().await.is(503);
    let message = "a DID could not be read from where it lives";
    line(&process, message, |line| line["request_id"] == "unreadable").await;
    process.stop().await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_numbers() {
    let home = Home::on(Sqlite).await;
    let process = home.start().await;
    let purged = line(&process, "purged", |_| true).await;
    for count in ["sessions_expired", "sessions_idle", "signer_nonces_deleted", "dids_deleted"] {
        assert_eq!(purged[count], 0, "{purged}");
    }
    let request = admin(&home, &process).request("GET", "/v1/stats");
    request.header("x-request-id", "r").send().await.is(200);
    let access = access(&process, "r").await;
    assert!(access["duration_us"].is_u64() && access["status"] == 200, "{access}");
    process.stop().await.success();
}

/// The whole line of a verdict, and its metric.
#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_says_of_whom_it_is_and_why() {
    let home = Home::on(Sqlite).await;
    let process = home.start().await;
    let (admin, ops) = (admin(&home, &process), ops(&process));
    let agent = Agent::new(KeyType::Ed25519);
    let now = Clock::system().now();
    let message = Message::new("GET", "https://service.example/x").signed(&agent, now);
    let verify = |id: &'static str, message: &Message| {
        let body = message.to_verify();
        admin.request("POST", "/v1/verify").json(&body).header("x-request-id", id)
    };
    let elsewhere = Message { url: "https://service.example/y".into(), ..message.clone() };
    verify("forged", &elsewhere).send().await.is(403);
    verify("good", &message).send().await.is(200);
    verify("replay", &message).send().await.is(403);
    for (id, code) in
        [("forged", "signature_invalid"), ("good", "accepted"), ("replay", "signature_replayed")]
    {
        let line = access(&process, id).await;
        assert_eq!(line["code"], code, "{line}");
        assert_eq!(line["profile"], "onceguard", "{line}");
        assert_eq!(line["signer"], agent.did.as_str(), "{line}");
        assert_eq!(line["caller"], "admin", "{line}");
        assert!(line["peer"].as_str().unwrap().starts_with("token "), "{line}");
        let labels = [format!("code=\"{code}\""), "profile=\"onceguard\"".to_owned()];
        let labels = labels.each_ref().map(String::as_str);
        assert_eq!(ops.metric("onceguard_verdicts_total", &labels).await, 1.0, "{code}");
    }

    // A signed call of the API, for this service, and for another one.
    let url = format!("{}/v1/sessions?client_did={}", admin.base(), agent.did);
    let anybody = admin.with_token(None);
    let call =
        |id: &str, url: &str| Message::new("GET", url).with("x-request-id", id).signed(&agent, now);
    call("call", &url).to_http(&anybody).send().await.is(200);
    let forged = call("forged-call", &url);
    Message { url: format!("{url}&limit=1"), ..forged }.to_http(&anybody).send().await.is(401);
    let line = access(&process, "call").await;
    assert_eq!((&line["code"], &line["caller"]), (&json!("accepted"), &json!(agent.did.as_str())));
    let line = access(&process, "forged-call").await;
    assert_eq!(line["code"], "signature_invalid");
    assert_eq!((&line["caller"], &line["peer"]), (&Value::Null, &json!("127.0.0.1")));
    process.stop().await.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_in_a_path_is_never_logged() {
    // Where no route matches, no credential is looked at.
    let home = Home::on(Sqlite).await.set("log.stranger_lines_per_second", 10_000);
    let process = home.start().await;
    let admin = admin(&home, &process);
    let session = admin.session().await;
    let nonce = "a-nonce-that-stays-secret";
    let paths = [
        format!("/v1/sessions/{session}/nonces/{nonce}"),
        format!("/v1/sessions/{session}/nonces/{nonce}/"),
        format!("/v1/sessions/{session}/nonces//{nonce}"),
        format!("/v1//sessions/{session}/nonces/{nonce}"),
        format!("/v1/sessions/{session}/nonces/{nonce}/more"),
        format!("/v1/Sessions/{session}/nonces/{nonce}"),
        format!("/v1/sessions/{session}/Nonces/{nonce}"),
        format!("/v1/sessions/{session}/%6Eonces/{nonce}"),
        format!("/v1/sessions/{session}/nonces%2F{nonce}"),
        format!("/v1/sessions/{session}/nonces/{nonce}?nonce={nonce}"),
        format!("/v1/forward-auth/{nonce}"),
        format!("/{nonce}"),
    ];
    for (number, path) in paths.iter().enumerate() {
        for method in ["GET", "POST", "BREW"] {
            let id = format!("{method}-{number}");
            admin.request(method, path).header("x-request-id", &id).send().await;
            access(&process, &id).await;
        }
    }
    let finished = process.stop().await;
    assert!(!finished.stderr.contains(nonce), "{}", finished.stderr);
    finished.success();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_counted_and_not_an_error() {
    let home = Home::on(Sqlite).await;
    let process = home.start().await;
    let ops = ops(&process);
    let bad = "GET / HTTP/1.1\r\nhost: x\r\nBad\x01H: v\r\n\r\n".to_owned();
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}\r\n\r\n", "x".repeat(200_000));
    for bytes in [bad, long] {
        let mut stream = TcpStream::connect(process.api).unwrap();
        // It may be cut off before it has sent, or read, everything.
        let _ = stream.write_all(bytes.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    }
    wait_for("both to be counted", async || {
        let count = ops.metric("onceguard_http_connections_broken_total", &[]).await;
        (count == 2.0).then_some(())
    })
    .await;
    let finished = process.stop().await;
    assert!(!finished.stderr.contains("\"ERROR\""), "{}", finished.stderr);
    assert!(!finished.stderr.contains("actix_http"), "{}", finished.stderr);
    finished.success();
}

/// Without a credential there are a few lines a second; with one there is a line for each request.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_fill_the_log() {
    let home = Home::on(Sqlite).await.set("log.stranger_lines_per_second", 20);
    let process = home.start().await;
    let (admin, ops) = (admin(&home, &process), ops(&process));
    let nobody = admin.with_token(Some("og_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    let dropped =
        async || ops.metric("onceguard_log_lines_dropped_total", &["reason=\"strangers\""]).await;
    let mut asked = 0.0;
    wait_for("lines about strangers to be left out", async || {
        for _ in 0..10 {
            nobody.get("/v1/stats").await.is(401);
            asked += 1.0;
        }
        (dropped().await > 0.0).then_some(())
    })
    .await;
    for number in 0..30 {
        let request = admin.request("GET", "/v1/stats");
        request.header("x-request-id", &format!("known-{number}")).send().await.is(200);
    }
    let dropped = dropped().await;
    let finished = process.stop().await;
    let of = |text: &str| finished.stderr.lines().filter(|line| line.contains(text)).count();
    assert_eq!(of("\"request_id\":\"known-"), 30);
    #[allow(clippy::cast_precision_loss, reason = "they are few")]
    let told = of("\"status\":401") as f64;
    assert_eq!(told + dropped, asked, "each is logged or counted");
    finished.success();
}
