//! PostgreSQL crashes, or cannot be reached at all.

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;

use crate::load::{Load, caller, ops};
use crate::support::{Home, PrivatePostgres, wait_for};

/// A home with a migrated PostgreSQL of its own, and a short time-out for connections.
async fn home_on(postgres: &PrivatePostgres) -> Home {
    let home = Home::at(postgres.url()).set("database.pool.acquire_timeout_seconds", 1);
    home.run(&["migrate", "up"]).await.success();
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_postgres_is_503_and_nothing_accepted_is_forgotten() {
    let postgres = PrivatePostgres::start();
    let home = home_on(&postgres).await;
    let process = home.start().await;
    let (caller, ops) = (caller(&home, &process), ops(&process));
    let id = caller.session().await;
    let mut ledgers = Vec::new();
    for round in 0..2 {
        let load = Load::start(from_ref(&caller), 24, &id, &format!("round-{round}"));
        load.accepts(300).await;
        // As a power failure does, and as an administrator does.
        if round == 0 {
            postgres.crash();
        } else {
            postgres.stop();
        }
        let before = load.counts().unavailable;
        load.until("refused claims", |counts| counts.unavailable >= before + 100).await;
        // A token that cannot be checked is not refused as invalid.
        let unknown = caller.with_token(Some(&format!("og_{}", "A".repeat(43))));
        unknown.get("/v1/sessions").await.refused(503, "storage_unavailable");
        caller.get(&format!("/v1/sessions/{id}")).await.refused(503, "storage_unavailable");
        ops.get("/livez").await.is(200);
        assert_eq!(ops.get("/readyz").await.status, 503);
        postgres.restart();
        load.accepts(300).await;
        let ledger = load.stop().await;
        assert_eq!(ledger.counts().nothing, 0, "every claim has an answer");
        for code in ledger.codes().keys() {
            let known = ["storage_unavailable", "outcome_unknown", "overloaded"];
            assert!(known.contains(&code.as_str()), "{code}");
        }
        ledger.verify(&caller, &id).await;
        ledgers.push(ledger);
    }
    for ledger in &ledgers {
        ledger.verify_accepted(&caller, &id).await;
    }
    wait_for("readiness", async || (ops.get("/readyz").await.status == 200).then_some(())).await;
    caller.session().await;
    assert_eq!(process.stop().await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_its_database_still_stops() {
    let postgres = PrivatePostgres::start();
    let home = home_on(&postgres).await;
    let process = home.start().await;
    let caller = caller(&home, &process);
    let id = caller.session().await;
    let load = Load::start(from_ref(&caller), 8, &id, "n");
    load.accepts(50).await;
    postgres.crash();
    load.until("refused claims", |counts| counts.unavailable >= 50).await;
    let stopped = process.stop().await;
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
    load.stop().await;
}

/// Takes connections and closes them, and counts.
struct NoDatabase {
    url: String,
    attempts: Arc<AtomicU64>,
}

const PASSWORD: &str = "a-secret-password";

impl NoDatabase {
    async fn listen() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let attempts = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&attempts);
        tokio::spawn(async move {
            loop {
                drop(socket.accept().await.unwrap());
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let url = format!("postgres://agent:{PASSWORD}@127.0.0.1:{port}/trust?sslmode=disable");
        Self { url, attempts }
    }

    fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_postgres_is_retried_and_then_refused() {
    let database = NoDatabase::listen().await;
    let home = Home::at(&database.url);
    let ended = home.run(&["serve"]).await;
    assert_eq!(ended.code(), 3, "{ended:?}");
    assert!(!home.has_listened());
    assert!(database.attempts() >= 4, "one try and three more: {}", database.attempts());
    assert!(ended.stderr.contains("database is not available"), "{}", ended.stderr);
    assert!(!ended.stderr.contains(PASSWORD), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_being_retried_can_be_stopped() {
    let database = NoDatabase::listen().await;
    let home = Home::at(&database.url);
    let starting = home.spawn(home.command(&["serve"]));
    wait_for("the first try", async || (database.attempts() > 0).then_some(())).await;
    starting.signal("TERM");
    let ended = starting.finished().await;
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(!home.has_listened());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_outlasts_a_postgres_that_comes_back_soon() {
    let postgres = PrivatePostgres::start();
    let home = home_on(&postgres).await;
    postgres.stop();
    let starting = home.start();
    let restarting = async { tokio::task::block_in_place(|| postgres.restart()) };
    let (process, ()) = tokio::join!(starting, restarting);
    caller(&home, &process).session().await;
}
