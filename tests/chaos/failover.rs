//! The database's address leads to a standby for a while, or its synchronous standby goes away. The
//! service says that it cannot write, piles up no work, and recovers by itself.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::load::{caller, ops};
use crate::support::{Answer, Caller, ChaosProxy, Home, PrivatePostgres, a_did, wait_for};

async fn claim(caller: &Caller, session: &str, nonce: &str) -> Answer {
    caller.post(&format!("/v1/sessions/{session}/nonces"), &json!({ "nonce": nonce })).await
}

async fn ready(ops: &Caller) {
    wait_for("/readyz to answer 200", async || {
        (ops.get("/readyz").await.status == 200).then_some(())
    })
    .await;
}

/// The first unready answer may come while every connection waits, and tell no more than that.
async fn unready_because(ops: &Caller, words: [&str; 2]) -> Answer {
    wait_for(&format!("/readyz to say {words:?}"), async || {
        let answer = ops.get("/readyz").await;
        let reason = answer["reasons"][0].as_str().unwrap_or_default();
        words.iter().all(|word| reason.contains(word)).then_some(answer)
    })
    .await
    .is(503)
}

/// The result of a test write holds for a second.
async fn readiness_without_writes(ops: &Caller) {
    wait_for("/readyz to have tried a write", async || {
        (ops.get("/readyz").await["database"]["writable"] == false).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_leads_to_a_standby_is_not_ready_until_it_leads_back() {
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    let proxy = ChaosProxy::in_front_of(primary.url()).await;
    let home = Home::at(&proxy.url(primary.url())).set("database.pool.acquire_timeout_seconds", 1);
    home.run(&["migrate", "up"]).await.success();
    let process = home.start().await;
    let (caller, ops) = (caller(&home, &process), ops(&process));
    let session = caller.session().await;
    claim(&caller, &session, "before").await.is(201);
    ready(&ops).await;

    for round in 0..2 {
        proxy.lead_to(standby.url()).await;
        proxy.cut();
        unready_because(&ops, ["read-only", "standby"]).await;
        readiness_without_writes(&ops).await;
        claim(&caller, &session, &format!("during-{round}"))
            .await
            .refused(503, "storage_unavailable");
        let doctor = home.run(&["doctor", "--json"]).await;
        assert_eq!(doctor.code(), 1, "{doctor:?}");
        let report: Value = serde_json::from_str(&doctor.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let database = checks.iter().find(|check| check["check"] == "database").unwrap();
        assert!(database["detail"].as_str().unwrap().contains("read-only"), "{database}");

        proxy.lead_to(primary.url()).await;
        proxy.cut();
        ready(&ops).await;
        wait_for("claims to be accepted", async || {
            let answer = claim(&caller, &session, &format!("after-{round}")).await;
            // A lost answer may have been an accepted claim.
            [201, 409].contains(&answer.status).then_some(())
        })
        .await;
        caller.session().await;
    }
    assert_eq!(process.stop().await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_is_away_is_seen_and_nothing_piles_up() {
    const POOL: usize = 4;
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    primary.wait_for_standby().await;
    let home = Home::at(primary.url())
        .set("database.pool.max", POOL)
        .set("database.statement_timeout_seconds", 1)
        .set("database.pool.acquire_timeout_seconds", 1);
    home.run(&["migrate", "up"]).await.success();
    let process = home.start().await;
    let (caller, ops) = (caller(&home, &process), ops(&process));
    let session = caller.session().await;
    ready(&ops).await;

    standby.stop();
    let unready = unready_because(&ops, ["takes no writes", "synchronous standby"]).await;
    assert_eq!(unready["database"]["reachable"], true, "{unready:?}");
    assert_eq!(unready["database"]["writable"], false, "{unready:?}");
    let raw = primary.raw().await;
    let waiting = "count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
                   AND query LIKE '%COMMIT%'";
    let mut most = 0;
    for _ in 0..4 {
        let open = json!({ "client_did": a_did().as_str(), "server_did": a_did().as_str() });
        let answers = join_all((0..2 * POOL).map(|_| caller.post("/v1/sessions", &open)));
        for answer in answers.await {
            assert_eq!(answer.status, 503, "{answer:?}");
        }
        most = most.max(raw.number(waiting).await);
    }
    assert!(most <= 4, "{most} of the server's processes wait for the standby");

    standby.restart();
    ready(&ops).await;
    caller.session().await;
    wait_for("claims to be accepted", async || {
        (claim(&caller, &session, "after").await.status == 201).then_some(())
    })
    .await;
    assert_eq!(process.stop().await.code(), 0);
}

/// A commit without its standby waits without an end: a start and the commands that may take long say
/// so first, and change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_the_standby_says_what_it_waits_for() {
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    primary.wait_for_standby().await;
    let home = Home::at(primary.url());
    home.run(&["migrate", "up"]).await.success();
    let raw = primary.raw().await;
    let past = || raw.text("row_to_json(h) FROM history h");
    let before = past().await;

    standby.stop();
    // No time of its own limits the last one but that of statements.
    let told = home.another().set("database.statement_timeout_seconds", 1);
    let (named, guessed) =
        ("synchronous_standby_names = 'standby'): start the", "synchronous standby?");
    let commands: [(&Home, &[&str], i32, &str); 7] = [
        (&home, &["serve"], 3, named),
        (&home, &["recover", "--yes"], 3, named),
        (&home, &["migrate", "up"], 3, named),
        (&home, &["migrate", "redo", "--yes"], 3, named),
        (&home, &["migrate", "rls"], 3, named),
        (&home, &["doctor"], 1, named),
        (&told, &["token", "create", "--name", "a", "--scope", "nonces"], 1, guessed),
    ];
    join_all(commands.map(async |(home, command, code, why)| {
        let told = home.run(command).await;
        assert_eq!(told.code(), code, "{command:?}: {told:?}");
        let text = if command == ["doctor"] { &told.stdout } else { &told.stderr };
        assert!(text.contains(why), "{command:?}: {told:?}");
    }))
    .await;
    assert_eq!(past().await, before);
    assert_eq!(raw.number("count(*) FROM instances").await, 0);
    let waiting = "count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait_for("what waits to be given up", async || (raw.number(waiting).await == 0).then_some(()))
        .await;

    standby.restart();
    primary.wait_for_standby().await;
    assert_eq!(home.start().await.stop().await.code(), 0);
}
