//! SIGTERM: every request that the service has begun is answered, and its answers are on disk.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rstest::rstest;
use serde_json::json;

use crate::load::{Load, caller, ops};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Home, wait_for};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn under_load_every_claim_that_was_begun_is_answered(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let home = Home::on(on).await;
    let mut process = home.start().await;
    let id = caller(&home, &process).session().await;
    for round in 0..4 {
        let load = Load::start(&[caller(&home, &process)], 32, &id, &format!("round-{round}"));
        load.accepts(300).await;
        // The clients go on as fast as they can until the service no longer listens.
        let stopped = process.stop().await;
        assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
        let ledger = load.stop().await;
        assert!(ledger.codes().is_empty(), "nothing was unavailable: {:?}", ledger.codes());
        process = home.start().await;
        let untold = ledger.verify(&caller(&home, &process), &id).await;
        assert_eq!(untold, [""; 0], "claims that were carried out and not answered");
    }
    assert_eq!(process.stop().await.code(), 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn readiness_goes_first_and_who_waits_is_answered(#[values(Sqlite, Postgres)] on: Database) {
    let home = Home::on(on).await.set("server.shutdown_timeout_seconds", 3600);
    let process = home.start().await;
    let (caller, ops, raw) = (caller(&home, &process), ops(&process), home.raw().await);
    let id = caller.session().await;
    let path = format!("/v1/sessions/{id}/nonces");
    ops.get("/readyz").await.is(200);

    // Idle connections, which must not delay the stop.
    let mut idle: Vec<_> = (0..3).map(|_| TcpStream::connect(process.api).unwrap()).collect();
    for stream in idle.iter_mut().take(2) {
        stream.write_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 12]).unwrap() > 0);
    }

    raw.execute(match on {
        Postgres => "BEGIN; LOCK TABLE nonces IN ACCESS EXCLUSIVE MODE",
        _ => "BEGIN IMMEDIATE",
    })
    .await;
    let request = caller.request("POST", &path).json(&json!({ "nonce": "waits" }));
    let waiting = tokio::spawn(request.send());
    wait_for("the claim to be on its way", async || {
        let busy = ops.metric("onceguard_http_requests_in_flight", &[]).await;
        (busy >= 1.0).then_some(())
    })
    .await;
    process.signal("TERM");
    wait_for("readiness to turn 503", async || {
        (ops.get("/readyz").await.status == 503).then_some(())
    })
    .await;
    ops.get("/livez").await.is(200);
    wait_for("the listener to be closed", async || TcpStream::connect(process.api).err()).await;
    assert!(!waiting.is_finished(), "it waits for the database");
    raw.execute("ROLLBACK").await;
    waiting.await.unwrap().is(201);
    let stopped = process.ended().await;
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
    drop(idle);

    let process = home.start().await;
    let nonces = crate::load::caller(&home, &process);
    nonces.post(&path, &json!({ "nonce": "waits" })).await.refused(409, "nonce_replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_half_sent_connections_do_not_delay_the_stop() {
    let home = Home::on(Sqlite).await.set("server.shutdown_timeout_seconds", 3600);
    let process = home.start().await;
    let mut streams: Vec<_> = (0..4).map(|_| TcpStream::connect(process.api).unwrap()).collect();
    // Nothing sent; half a head; a request answered and kept alive.
    streams[1].write_all(b"POST /v1/claims HTTP/1.1\r\nhost:").unwrap();
    streams[2].write_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(streams[2].read(&mut [0; 12]).unwrap() > 0);
    assert_eq!(process.stop().await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_as_sigterm_does() {
    let home = Home::on(Sqlite).await;
    let process = home.start().await;
    process.signal("INT");
    assert_eq!(process.ended().await.code(), 0);
}

/// An answer that a slow client has not taken yet is in flight, and a stop waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn long_answers_arrive_whole() {
    let home = Home::on(Sqlite).await;
    let process = home.start().await;
    let (caller, ops) = (caller(&home, &process), ops(&process));
    let metadata = json!({ "text": "x".repeat(16_000) });
    for _ in 0..60 {
        caller.open_with(json!({ "metadata": metadata })).await;
    }
    // Nearly a MiB each: together more than the sockets' buffers hold.
    let mut stream = TcpStream::connect(process.api).unwrap();
    let token = home.token();
    let request = format!(
        "GET /v1/sessions?limit=60 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.repeat(60).as_bytes()).unwrap();
    let route = ["method=\"GET\"", "route=\"/v1/sessions\""];
    let begun = wait_for("lists to be answered", async || {
        let answered = ops.metric("onceguard_http_requests_total", &route).await;
        let in_flight = ops.metric("onceguard_http_requests_in_flight", &[]).await;
        (answered >= 1.0 && in_flight >= 1.0).then_some(answered)
    })
    .await;
    process.signal("TERM");
    let reading = tokio::task::spawn_blocking(move || {
        let mut answers = Vec::new();
        stream.read_to_end(&mut answers).map(|_| String::from_utf8(answers).unwrap())
    });
    let answers = reading.await.unwrap().unwrap();
    let mut whole = 0.0;
    for answer in answers.split("HTTP/1.1 200 OK").skip(1) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        assert!(body.len() > 900_000 && body.ends_with('}'), "{} bytes", body.len());
        whole += 1.0;
    }
    assert!(whole >= begun, "{whole} of {begun}");
    assert_eq!(process.ended().await.code(), 0);
}
