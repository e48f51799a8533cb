//! Two instances over one PostgreSQL are one service.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::task::JoinSet;

use crate::load::{Load, caller, caller_with, ops};
use crate::support::{Caller, Database, Home, PostgresDatabase, Process, a_did, wait_for};

/// Two serving processes, and a caller of each with the same token.
pub struct Pair {
    homes: [Home; 2],
    processes: [Process; 2],
    pub callers: [Caller; 2],
}

impl Pair {
    pub async fn start(home: Home) -> Self {
        let homes = [home.another(), home];
        let first = homes[0].start().await;
        let second = homes[1].start().await;
        let token = homes[0].token();
        let callers = [caller_with(&token, &first), caller_with(&token, &second)];
        Self { homes, processes: [first, second], callers }
    }

    /// Freezes the first one until it is thawed.
    pub async fn freeze_first(&self) {
        self.processes[0].freeze().await;
    }

    pub fn thaw_first(&self) {
        self.processes[0].signal("CONT");
    }

    /// Callers of their operations listeners.
    pub fn ops(&self) -> [Caller; 2] {
        self.processes.each_ref().map(ops)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_claimed_through_both_has_one_winner() {
    let pair = Pair::start(Home::on(Database::Postgres).await).await;
    let id = pair.callers[0].session().await;
    let signer = a_did();
    let expires_at = pair.callers[0].get(&format!("/v1/sessions/{id}")).await.text_of("expires_at");
    let mut calls = JoinSet::new();
    for round in 0..150 {
        // Both at once, in opposite orders, so that each instance is first with one of the nonces.
        for (index, caller) in pair.callers.iter().enumerate() {
            let mut claims: Vec<_> = (0..8)
                .map(|number| json!({ "session_id": id, "nonce": format!("{round}-{number}") }))
                .collect();
            claims.push(json!({ "signer": signer.as_str(), "nonce": format!("{round}"), "expires_at": expires_at }));
            if index == 1 {
                claims.reverse();
            }
            let (caller, body) = (caller.clone(), json!({ "claims": claims }));
            calls.spawn(async move {
                let answer = caller.post("/v1/claims", &body).await.is(200);
                let results = answer["results"].as_array().unwrap().clone();
                let claims = body["claims"].as_array().unwrap().clone();
                claims.into_iter().zip(results).collect::<Vec<_>>()
            });
        }
        if calls.len() >= 16 {
            tokio::task::yield_now().await;
        }
    }
    let mut winners: BTreeMap<String, u32> = BTreeMap::new();
    for (claim, result) in calls.join_all().await.into_iter().flatten() {
        let scope = if claim["signer"].is_null() { "session" } else { "signer" };
        let accepted = match result["outcome"].as_str().unwrap() {
            "accepted" => 1,
            "replayed" => 0,
            other => panic!("{claim}: {other}"),
        };
        *winners.entry(format!("{scope} {}", claim["nonce"])).or_default() += accepted;
    }
    assert_eq!(winners.len(), 150 * 9);
    assert!(winners.values().all(|count| *count == 1), "{winners:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_goes_on_when_one_is_killed_under_load() {
    let Pair { homes, processes: [one, other], callers } =
        Pair::start(Home::on(Database::Postgres).await).await;
    let id = callers[0].session().await;
    let load = Load::start(&callers, 24, &id, "n");
    load.accepts(300).await;
    one.kill().await;
    load.accepts(300).await;
    let one = homes[0].start().await;
    load.accepts(100).await;
    let ledger = load.stop().await;
    assert!(ledger.codes().is_empty(), "nothing was unavailable: {:?}", ledger.codes());
    ledger.verify(&callers[1], &id).await;
    ledger.verify_accepted(&caller(&homes[0], &one), &id).await;
    for process in [one, other] {
        assert_eq!(process.stop().await.code(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_does_holds_on_the_other_at_once() {
    let pair = Pair::start(Home::on(Database::Postgres).await).await;
    let [one, other] = &pair.callers;

    // A session that is opened on one instance is used, read and ended on the other.
    let id = one.session().await;
    let (session, nonces) = (format!("/v1/sessions/{id}"), format!("/v1/sessions/{id}/nonces"));
    other.post(&nonces, &json!({ "nonce": "a" })).await.is(201);
    one.post(&nonces, &json!({ "nonce": "a" })).await.refused(409, "nonce_replayed");
    one.get(&format!("{nonces}/a")).await.is(200);
    other.delete(&session).await.is(204);
    one.post(&nonces, &json!({ "nonce": "b" })).await.refused(410, "session_ended");
    one.get(&session).await.refused(410, "session_ended");

    // The job that finishes revocations runs at the start, and then not for a minute. Beside it, a
    // revocation may find its sessions ended already.
    for ops in &pair.ops() {
        wait_for("the first run of the job", async || {
            let runs = ops.metric("onceguard_job_runs_total", &["job=\"revocations\""]).await;
            (runs >= 1.0).then_some(())
        })
        .await;
    }
    // A DID that is revoked on one instance is revoked on the other, even if that has cached it.
    for _ in 0..10 {
        let client = a_did();
        let opened = one.open_with(json!({ "client_did": client.as_str() })).await;
        let nonces = format!("/v1/sessions/{}/nonces", opened.text_of("id"));
        one.post(&nonces, &json!({ "nonce": "a" })).await.is(201);
        let revoked = other.post(&format!("/v1/dids/{client}/revoke"), &json!({})).await.is(200);
        assert_eq!(revoked["sessions_ended"], 1);
        let ended = one.post(&nonces, &json!({ "nonce": "b" })).await.refused(410, "session_ended");
        assert_eq!(ended["end_reason"], "did_revoked");
        let parties = json!({ "client_did": client.as_str(), "server_did": a_did().as_str() });
        one.post("/v1/sessions", &parties).await.refused(403, "did_revoked");
        let expires_at = opened.text_of("expires_at");
        let claim = json!({ "signer": client.as_str(), "nonce": "c", "expires_at": expires_at });
        let answer = one.post("/v1/claims", &json!({ "claims": [claim] })).await.is(200);
        assert_eq!(answer["results"][0]["outcome"], "did_revoked");
    }

    // Tokens, too. One that is revoked is forgotten within 5 seconds.
    let created =
        pair.homes[1].run(&["token", "create", "--name", "x", "--scope", "sessions", "--json"]);
    let created: serde_json::Value = serde_json::from_str(&created.await.success()).unwrap();
    let newcomers = pair
        .callers
        .each_ref()
        .map(|caller| caller.with_token(Some(created["token"].as_str().unwrap())));
    for newcomer in &newcomers {
        newcomer.get("/v1/sessions").await.is(200);
    }
    pair.homes[0].run(&["token", "revoke", created["id"].as_str().unwrap()]).await.success();
    for newcomer in &newcomers {
        wait_for("the token to be forgotten", async || {
            (newcomer.get("/v1/sessions").await.status == 401).then_some(())
        })
        .await;
    }
    for process in pair.processes {
        assert_eq!(process.stop().await.code(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_start_at_once_on_an_empty_database_migrate_it_once() {
    for _ in 0..3 {
        let token = format!("og_{}", "A".repeat(43));
        let home = Home::with(PostgresDatabase::create(false).await)
            .set("database.migrate_on_start", true)
            .set("auth.admin_token", &token);
        let other = home.another();
        let (one, two) = tokio::join!(home.start(), other.start());
        let callers = [caller_with(&token, &one), caller_with(&token, &two)];
        let id = callers[0].session().await;
        callers[1].get(&format!("/v1/sessions/{id}")).await.is(200);
        let admins = home.raw().await.number("count(*) FROM api_tokens").await;
        assert_eq!(admins, 1, "there must be one admin token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_first_starts_at_once_leave_a_token_that_works() {
    let home = Home::on(Database::Postgres).await;
    let other = home.another();
    let (one, two) = tokio::join!(home.start(), other.start());
    let mut works = 0;
    for (home, process) in [(&home, &one), (&other, &two)] {
        if home.folder().join("admin.token").exists() {
            // Its holder can use it on every instance.
            for process in [&one, &two] {
                caller_with(&home.token(), process).session().await;
            }
            works += 1;
        }
        ops(process).get("/readyz").await.is(200);
    }
    assert!(works >= 1, "no admin token works");
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_migrations_stop_the_start() {
    let home = Home::with(PostgresDatabase::create(false).await);
    let ended = home.run(&["serve"]).await;
    assert_ne!(ended.code(), 0);
    assert!(ended.stderr.contains("onceguard migrate up"), "{}", ended.stderr);
    assert!(!home.has_listened());
    home.run(&["migrate", "up"]).await.success();
    let process = home.start().await;
    caller(&home, &process).session().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_purge_runs_in_one_of_them() {
    let home = Home::on(Database::Postgres)
        .await
        .set("jobs.purge_interval_seconds", 1)
        .set("jobs.purge_batch", 7)
        .set("jobs.purge_pause_milliseconds", 0);
    let raw = home.raw().await;
    // Another holder has the lease, and 500 nonces are long past their retention.
    raw.execute(
        "INSERT INTO leases (name, holder, taken_at, until) \
         VALUES ('purge', 'somebody else', now(), now() + interval '1 day')",
    )
    .await;
    raw.execute(
        r"INSERT INTO signers (signer, did, live)
          VALUES ('\x00112233445566778899aabbccddeeff', 'did:web:gone.example', 500);
          INSERT INTO signer_nonces (signer, nonce, used_at, expires_at)
          SELECT '\x00112233445566778899aabbccddeeff', 'n' || n, now() - interval '2 days',
          now() - interval '1 day' FROM generate_series(1, 500) AS n",
    )
    .await;
    let pair = Pair::start(home).await;
    let all = pair.processes.each_ref().map(ops);
    for ops in &all {
        let labels = ["job=\"purge\"", "result=\"elsewhere\""];
        wait_for("the job to be elsewhere", async || {
            (ops.metric("onceguard_job_runs_total", &labels).await >= 2.0).then_some(())
        })
        .await;
    }
    assert_eq!(raw.number("count(*) FROM signer_nonces").await, 500);

    raw.execute("UPDATE leases SET until = now() WHERE name = 'purge'").await;
    wait_for("the purge", async || {
        (raw.number("count(*) FROM signer_nonces").await == 0).then_some(())
    })
    .await;
    // The lease is returned after the last batch, and the count comes before that.
    wait_for("the end of the purge", async || {
        let finished = "count(*) FROM leases WHERE name = 'purge' AND finished_at IS NOT NULL";
        (raw.number(finished).await == 1).then_some(())
    })
    .await;
    let mut purged = 0.0;
    for ops in &all {
        purged += ops.metric("onceguard_purged_rows_total", &["kind=\"signer_nonces\""]).await;
    }
    assert!((purged - 500.0).abs() < 0.5, "{purged} rows in both together");
}
