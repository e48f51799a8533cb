//! The database lost commits that it had acknowledged: a standby was promoted that lacked them, or a
//! copy was put in its place. Each instance may notice first: nothing is accepted twice, and where nothing was
//! lost, nothing ends.

use std::path::PathBuf;
use std::process::Command;

use rstest::rstest;
use serde_json::{Value, json};

use crate::load::{caller, caller_with, ops};
use crate::support::{
    Answer, Caller, ChaosProxy, Database, Home, PostgresDatabase, PrivatePostgres, Process, a_did,
    unique, wait_for,
};

/// What a service accepted: of each kind that it could accept again.
struct Accepted {
    session: String,
    nonces: Vec<String>,
    claims: Vec<Value>,
    chosen: Value,
}

impl Accepted {
    /// Has the service accept a few things.
    async fn by(caller: &Caller, session: &str) -> Self {
        let nonces: Vec<_> = (0..5).map(|_| format!("n-{}", unique())).collect();
        for nonce in &nonces {
            spend(caller, session, nonce).await.is(201);
        }
        let session_view = caller.get(&format!("/v1/sessions/{session}")).await.is(200);
        let (at, until) = (session_view.text_of("created_at"), session_view.text_of("expires_at"));
        let claims: Vec<_> = [Some(at), None]
            .into_iter()
            .map(|issued_at| {
                let mut claim = json!({
                    "signer": a_did().as_str(), "nonce": "signed-once-and-only", "expires_at": until,
                });
                if let Some(at) = issued_at {
                    claim["issued_at"] = at.into();
                }
                claim
            })
            .collect();
        assert_eq!(outcomes(caller, &claims).await, ["accepted", "accepted"]);
        let chosen = json!({
            "id": uuid::Uuid::new_v4(),
            "client_did": a_did().as_str(), "server_did": a_did().as_str(),
        });
        let opened = caller.post("/v1/sessions", &chosen).await.is(201).text_of("id");
        spend(caller, &opened, "in-the-chosen-session").await.is(201);
        Self { session: session.to_owned(), nonces, claims, chosen }
    }

    /// Asks for all of it again.
    async fn is_refused_by(&self, caller: &Caller) {
        for nonce in &self.nonces {
            let again = spend(caller, &self.session, nonce).await;
            assert!([404, 409, 410].contains(&again.status), "{again:?}");
        }
        for outcome in outcomes(caller, &self.claims).await {
            let refused = ["issued_before_restore", "replayed"];
            assert!(refused.contains(&outcome.as_str()), "{outcome}");
        }
        let again = caller.post("/v1/sessions", &self.chosen).await;
        assert_eq!(again.status, 409, "{again:?}");
    }
}

async fn outcomes(caller: &Caller, claims: &[Value]) -> Vec<String> {
    let answer = caller.post("/v1/claims", &json!({ "claims": claims })).await.is(200);
    let results = answer["results"].as_array().unwrap().iter();
    results.map(|result| result["outcome"].as_str().unwrap().to_owned()).collect()
}

async fn spend(caller: &Caller, session: &str, nonce: &str) -> Answer {
    caller.post(&format!("/v1/sessions/{session}/nonces"), &json!({ "nonce": nonce })).await
}

/// Waits until the service opens a session, and returns its id.
async fn serves(caller: &Caller) -> String {
    let parties = json!({ "client_did": a_did().as_str(), "server_did": a_did().as_str() });
    wait_for("the service to serve", async || {
        let answer = caller.post("/v1/sessions", &parties).await;
        (answer.status == 201).then(|| answer.text_of("id"))
    })
    .await
}

/// Waits until the service refuses because the database went back.
async fn refuses(caller: &Caller) {
    let parties = json!({ "client_did": a_did().as_str(), "server_did": a_did().as_str() });
    wait_for("the service to notice", async || {
        let answer = caller.post("/v1/sessions", &parties).await;
        assert_ne!(answer.status, 201, "{answer:?}");
        (answer.code() == "storage_went_back").then_some(())
    })
    .await;
}

/// Waits until the standby has everything.
async fn catches_up(primary: &PrivatePostgres) {
    let raw = primary.raw().await;
    let caught_up = "count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()";
    wait_for("the standby", async || (raw.number(caught_up).await > 0).then_some(())).await;
}

/// A home whose instances reach the server through the proxy.
async fn home(proxy: &ChaosProxy, primary: &PrivatePostgres) -> Home {
    let home = Home::at(&proxy.url(primary.url())).set("database.pool.acquire_timeout_seconds", 1);
    home.run(&["migrate", "up"]).await.success();
    home
}

async fn lead(proxy: &ChaosProxy, to: &PrivatePostgres) {
    proxy.lead_to(to.url()).await;
    proxy.cut();
}

async fn generations(server: &PrivatePostgres) -> i64 {
    server.raw().await.number("1 + cardinality(ancestors) FROM history").await
}

async fn recovered_at(ops: &Caller) -> Value {
    ops.get("/readyz").await["database"]["recovered_at"].clone()
}

#[rstest]
#[case::the_one_that_accepted_notices_first(0, false)]
#[case::another_notices_first(1, false)]
#[case::the_one_that_accepted_is_dead(1, true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_that_lost_commits_reopens_nothing(#[case] first: usize, #[case] dead: bool) {
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    let proxy = ChaosProxy::in_front_of(primary.url()).await;
    let home = home(&proxy, &primary).await;
    let homes = [home.another(), home];
    let mut processes: [Option<Process>; 2] =
        [Some(homes[0].start().await), Some(homes[1].start().await)];
    let (token, other) = (homes[0].token(), 1 - first);
    let callers =
        processes.each_ref().map(|process| caller_with(&token, process.as_ref().unwrap()));
    let each_ops = processes.each_ref().map(|process| ops(process.as_ref().unwrap()));
    let session = callers[0].session().await;
    let kept = Accepted::by(&callers[0], &session).await;
    catches_up(&primary).await;

    standby.stop();
    let lost = Accepted::by(&callers[0], &session).await;
    let lost_session = callers[0].session().await;
    let lost_too = Accepted::by(&callers[0], &lost_session).await;
    primary.crash();
    standby.restart();
    standby.promote();
    if dead {
        processes[0].take().unwrap().kill().await;
    } else {
        processes[other].as_ref().unwrap().freeze().await;
    }
    lead(&proxy, &standby).await;
    serves(&callers[first]).await;
    for accepted in [&kept, &lost, &lost_too] {
        accepted.is_refused_by(&callers[first]).await;
    }
    assert_eq!(each_ops[first].metric("onceguard_database_cuts_total", &[]).await, 1.0);
    let at = recovered_at(&each_ops[first]).await;
    assert!(at.is_string(), "{at}");

    if !dead {
        processes[other].as_ref().unwrap().signal("CONT");
        let session = serves(&callers[other]).await;
        for accepted in [&kept, &lost, &lost_too] {
            accepted.is_refused_by(&callers[other]).await;
        }
        assert_eq!(each_ops[other].metric("onceguard_database_cuts_total", &[]).await, 0.0);
        wait_for("the other to tell", async || {
            (recovered_at(&each_ops[other]).await == at).then_some(())
        })
        .await;
        spend(&callers[first], &session, "new").await.is(201);
        spend(&callers[other], &session, "new").await.is(409);
    }
    assert_eq!(generations(&standby).await, 2, "it was recovered once");
    for process in processes.into_iter().flatten() {
        assert_eq!(process.stop().await.code(), 0);
    }
    // The marks of both fit: they start again as they are.
    for home in &homes[usize::from(dead)..] {
        assert_eq!(home.start().await.stop().await.code(), 0);
    }
    assert_eq!(generations(&standby).await, 2);
}

/// It has neither the new generation nor, where no commit was lost, the new timeline.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_that_comes_back_is_not_served(
    #[values("asynchronous", "synchronous")] replication: &str,
) {
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    if replication == "synchronous" {
        primary.wait_for_standby().await;
    }
    let proxy = ChaosProxy::in_front_of(primary.url()).await;
    let home = home(&proxy, &primary).await.set("recovery.replication", replication);
    let process = home.start().await;
    let (caller, ops) = (caller(&home, &process), ops(&process));
    let session = caller.session().await;
    let accepted = Accepted::by(&caller, &session).await;
    catches_up(&primary).await;
    if replication == "synchronous" {
        // A heartbeat that only the old primary has: nothing of it was acknowledged.
        standby.stop();
        let raw = primary.raw().await;
        let waits = "count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
                     AND application_name = 'onceguard'";
        wait_for("a heartbeat", async || (raw.number(waits).await > 0).then_some(())).await;
    }
    primary.crash();
    if replication == "synchronous" {
        standby.restart();
    }
    standby.promote();
    lead(&proxy, &standby).await;
    let session = serves(&caller).await;
    // As an instance leaves it that is killed right after its first answer.
    let mark = home.folder().join("mark");
    let first = std::fs::read(&mark).unwrap();
    spend(&caller, &session, "on-the-new-primary").await.is(201);

    primary.restart();
    lead(&proxy, &primary).await;
    refuses(&caller).await;
    spend(&caller, &session, "x").await.refused(503, "storage_went_back");
    caller.get("/v1/sessions").await.refused(503, "storage_went_back");
    wait_for("/readyz to say why", async || {
        let ready = ops.get("/readyz").await.is(503);
        ready["reasons"][0].as_str().unwrap().contains("went back in time").then_some(())
    })
    .await;
    assert_eq!(ops.metric("onceguard_database_went_back", &[]).await, 1.0);
    assert_eq!(generations(&primary).await, 1, "nothing is recovered there");

    lead(&proxy, &standby).await;
    serves(&caller).await;
    spend(&caller, &session, "x").await.is(201);
    spend(&caller, &session, "on-the-new-primary").await.is(409);
    assert_eq!(ops.metric("onceguard_database_went_back", &[]).await, 0.0);
    accepted.is_refused_by(&caller).await;
    process.kill().await;
    std::fs::write(&mark, first).unwrap();
    lead(&proxy, &primary).await;
    let started = home.run(&["serve"]).await;
    assert_eq!(started.code(), 4, "{started:?}");
    let old = ["on an old primary", "Set database.url to the new primary", "mark"];
    let other = ["is another one", "set database.url to that one", "mark"];
    for word in if replication == "synchronous" { old } else { other } {
        assert!(started.stderr.contains(word), "{started:?}");
    }
    let doctor = home.run(&["doctor"]).await;
    assert_eq!(doctor.code(), 1, "{doctor:?}");
    assert!(doctor.stdout.to_lowercase().contains("set database.url to"), "{doctor:?}");
    assert_eq!(generations(&primary).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_that_lost_nothing_ends_nothing() {
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    primary.wait_for_standby().await;
    let proxy = ChaosProxy::in_front_of(primary.url()).await;
    let home = home(&proxy, &primary).await.set("recovery.replication", "synchronous");
    let process = home.start().await;
    let caller = caller(&home, &process);
    let session = caller.session().await;
    let accepted = Accepted::by(&caller, &session).await;
    primary.crash();
    standby.promote();
    lead(&proxy, &standby).await;
    wait_for("claims to be accepted", async || {
        let answer = spend(&caller, &session, &format!("later-{}", unique())).await;
        (answer.status == 201).then_some(())
    })
    .await;
    accepted.is_refused_by(&caller).await;
    assert_eq!(generations(&standby).await, 1);
    let raw = standby.raw().await;
    assert_eq!(raw.number("timeline FROM history").await, 2);
    assert_eq!(process.stop().await.code(), 0);
    // Another fail-over, while no instance runs, and then a start.
    assert_eq!(home.start().await.stop().await.code(), 0);
    assert_eq!(generations(&standby).await, 1);
}

/// The configuration says that nothing can be lost. What an instance remembers says otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_cannot_be_is_noticed_all_the_same() {
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    let proxy = ChaosProxy::in_front_of(primary.url()).await;
    let home = home(&proxy, &primary).await.set("recovery.replication", "synchronous");
    let process = home.start().await;
    let caller = caller(&home, &process);
    let session = caller.session().await;
    catches_up(&primary).await;
    standby.stop();
    let lost = Accepted::by(&caller, &session).await;
    primary.crash();
    standby.restart();
    standby.promote();
    lead(&proxy, &standby).await;
    serves(&caller).await;
    lost.is_refused_by(&caller).await;
    assert_eq!(generations(&standby).await, 2);
    assert_eq!(process.stop().await.code(), 0);
}

/// The server is the same in everything that it says of itself: its disk was put back.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_put_back_is_noticed_by_what_is_missing() {
    let primary = PrivatePostgres::start();
    let proxy = ChaosProxy::in_front_of(primary.url()).await;
    let home = home(&proxy, &primary).await;
    let process = home.start().await;
    let caller = caller(&home, &process);
    let session = caller.session().await;
    // A base backup that is started without a word of recovery goes on as the same server.
    let copy = primary.standby();
    copy.stop();
    copy.remove_file("standby.signal");
    let lost = Accepted::by(&caller, &session).await;
    primary.crash();
    copy.restart();
    assert_eq!(copy.raw().await.number("timeline FROM server_identity()").await, 1);
    lead(&proxy, &copy).await;
    serves(&caller).await;
    lost.is_refused_by(&caller).await;
    assert_eq!(generations(&copy).await, 2);
    // The mark is written each second.
    let generation = copy.raw().await.text("generation FROM history").await;
    wait_for("the mark of the new generation", async || {
        let mark = std::fs::read_to_string(home.folder().join("mark")).unwrap();
        mark.contains(&generation).then_some(())
    })
    .await;
    process.kill().await;

    // The same while no instance runs: the mark of the data folder tells.
    lead(&proxy, &primary).await;
    primary.restart();
    let started = home.run(&["serve"]).await;
    assert_eq!(started.code(), 4, "{started:?}");
    assert!(started.stderr.contains("onceguard recover"), "{started:?}");
    home.run(&["recover", "--yes"]).await.success();
    assert_eq!(home.start().await.stop().await.code(), 0);
}

/// It holds the lock of the history, for which the others wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_stops_in_a_recovery_does_not_stop_the_others() {
    let home = Home::on(Database::Postgres).await;
    home.run(&["migrate", "up"]).await.success();
    let other_home = home.another();
    let (first, second) = (home.start().await, other_home.start().await);
    let (token, raw) = (home.token(), home.raw().await);
    let second_caller = caller_with(&token, &second);
    second_caller.session().await;
    second.freeze().await;
    raw.execute("UPDATE history SET system_identifier = system_identifier + 1").await;
    let others = home.raw().await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'onceguard'";
    // The recovery waits in its midst.
    raw.execute("BEGIN; LOCK TABLE leases IN SHARE MODE").await;
    others.execute(cut).await;
    let waiting = "count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) \
                   WHERE NOT granted AND query LIKE '%leases%'";
    wait_for("the recovery", async || (others.number(waiting).await > 0).then_some(())).await;
    first.freeze().await;
    raw.execute("COMMIT").await;
    second.signal("CONT");
    serves(&second_caller).await;
    first.signal("CONT");
    let session = serves(&caller_with(&token, &first)).await;
    spend(&second_caller, &session, "n").await.is(201);
    assert_eq!(raw.number("cardinality(ancestors) FROM history").await, 1);
    for process in [first, second] {
        assert_eq!(process.stop().await.code(), 0);
    }
}

/// An operator decides. Until then, nothing is decided but what can only refuse.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_halts_revokes_and_does_nothing_else() {
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    let proxy = ChaosProxy::in_front_of(primary.url()).await;
    let home = home(&proxy, &primary).await.set("recovery.on_cut", "halt");
    let process = home.start().await;
    let (caller, ops) = (caller(&home, &process), ops(&process));
    let session = caller.session().await;
    let accepted = Accepted::by(&caller, &session).await;
    catches_up(&primary).await;
    primary.crash();
    standby.promote();
    lead(&proxy, &standby).await;
    refuses(&caller).await;
    spend(&caller, &session, "x").await.refused(503, "storage_went_back");
    outcomes_are_refused(&caller, &accepted.claims).await;
    caller.get("/v1/stats").await.refused(503, "storage_went_back");
    ops.get("/livez").await.is(200);
    wait_for("/readyz to reach the database", async || {
        let ready = ops.get("/readyz").await.is(503);
        (ready["database"]["reachable"] == true).then_some(())
    })
    .await;
    let did = a_did();
    wait_for("a revocation", async || {
        let answer = caller.post(&format!("/v1/dids/{did}/revoke"), &json!({})).await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(generations(&standby).await, 1);
    let another = home.another();
    let started = another.run(&["serve"]).await;
    assert_eq!(started.code(), 4, "{started:?}");
    assert!(started.stderr.contains("onceguard recover"), "{started:?}");

    home.run(&["recover", "--yes"]).await.success();
    serves(&caller).await;
    accepted.is_refused_by(&caller).await;
    // What the last test write showed holds for a second.
    wait_for("readiness", async || (ops.get("/readyz").await.status == 200).then_some(())).await;
    let revoked = json!({ "client_did": did.as_str(), "server_did": a_did().as_str() });
    caller.post("/v1/sessions", &revoked).await.refused(403, "did_revoked");
    assert_eq!(generations(&standby).await, 2);
    assert_eq!(process.stop().await.code(), 0);
}

async fn outcomes_are_refused(caller: &Caller, claims: &[Value]) {
    let answer = caller.post("/v1/claims", &json!({ "claims": claims })).await;
    answer.refused(503, "storage_went_back");
}

/// A program of PostgreSQL's clients.
fn program(name: &str) -> Command {
    let folders = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = folders.flatten().map(|entry| entry.path().join("bin").join(name));
    let newest: Option<PathBuf> = newest.filter(|path| path.exists()).max();
    Command::new(newest.unwrap_or_else(|| PathBuf::from(name)))
}

/// A new server, too, has other numbers.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_dump_is_noticed(#[values("recover", "halt")] on_cut: &str) {
    let home = Home::on(Database::Postgres).await;
    let process = home.start().await;
    let caller = caller(&home, &process);
    let session = caller.session().await;
    let dump = home.folder().join("dump");
    let dumped =
        program("pg_dump").arg("-Fc").arg("-f").arg(&dump).arg(home.url()).output().unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
    let lost = Accepted::by(&caller, &session).await;
    assert_eq!(process.stop().await.code(), 0);

    let copy = PostgresDatabase::create(false).await;
    let restored = program("pg_restore").arg("-d").arg(copy.url()).arg(&dump).output().unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let moved = Home::with(copy).set("recovery.on_cut", on_cut);
    let token = home.token();
    if on_cut == "halt" {
        let started = moved.run(&["serve"]).await;
        assert_eq!(started.code(), 4, "{started:?}");
        assert!(started.stderr.contains("it is a copy"), "{started:?}");
        moved.run(&["recover", "--yes"]).await.success();
    }
    let process = moved.start().await;
    let caller = caller_with(&token, &process);
    lost.is_refused_by(&caller).await;
    serves(&caller).await;
    assert_eq!(process.stop().await.code(), 0);
}

/// What `pg_upgrade` makes, or a copy after a clean stop, has everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_moved_database_from_which_nothing_is_missing_goes_on() {
    let home = Home::on(Database::Postgres).await;
    let process = home.start().await;
    let session = caller(&home, &process).session().await;
    assert_eq!(process.stop().await.code(), 0);
    let dump = home.folder().join("dump");
    let dumped =
        program("pg_dump").arg("-Fc").arg("-f").arg(&dump).arg(home.url()).output().unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
    let copy = PostgresDatabase::create(false).await;
    let restored = program("pg_restore").arg("-d").arg(copy.url()).arg(&dump).output().unwrap();
    assert!(restored.status.success(), "{restored:?}");
    let moved = Home::with(copy);
    let refused = moved.run(&["recover", "--nothing-lost"]).await;
    assert_eq!(refused.code(), 4, "{refused:?}");
    moved.run(&["recover", "--nothing-lost", "--yes"]).await.success();
    let process = moved.start().await;
    spend(&caller_with(&home.token(), &process), &session, "x").await.is(201);
    assert_eq!(process.stop().await.code(), 0);
}

/// Recovery to a point in time, by PostgreSQL's own means.
#[tokio::test(flavor = "multi_thread")]
async fn a_point_in_time_recovery_is_noticed() {
    let primary = PrivatePostgres::start();
    let home = Home::at(primary.url());
    home.run(&["migrate", "up"]).await.success();
    let process = home.start().await;
    let caller = caller(&home, &process);
    let session = caller.session().await;
    let copy = primary.standby();
    let lost = Accepted::by(&caller, &session).await;
    copy.stop();
    process.kill().await;
    copy.remove_file("standby.signal");
    copy.write_file("recovery.signal", "");
    copy.restart_with("restore_command = 'false'\nrecovery_target_action = 'promote'\n");
    let moved = Home::at(copy.url());
    let process = moved.start().await;
    let caller = caller_with(&home.token(), &process);
    lost.is_refused_by(&caller).await;
    assert_eq!(generations(&copy).await, 2);
    assert_eq!(process.stop().await.code(), 0);
}
