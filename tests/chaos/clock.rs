//! Wrong clocks: the machine's clock is set back, or the process's clock differs from the
//! database's.

use std::time::Duration;

use onceguard::clock::Clock;
use onceguard::config::{DatabaseUrl, SqliteLocation};
use onceguard::domain::{Actor, Claim, Outcome, Refusal, Session, Timestamp};
use onceguard::jobs::{JobError, LeaseKeeper, purge};
use onceguard::storage::{ClaimLimits, PurgeStep, Purged, Store};
use rstest::rstest;
use serde_json::json;

use crate::services::metrics;
use crate::support::{
    Database, TestApp, a_did, a_nonce, a_session, by_signer, claim, claim_all, count,
    database_config, days, in_seconds, in_session, minutes, opened, purge_batch, wait_for,
};

/// The same file, opened by a machine whose clock shows this time.
async fn open(folder: &tempfile::TempDir, clock: &Clock) -> Store {
    let file = folder.path().join("test.db");
    let config = database_config(DatabaseUrl::Sqlite(SqliteLocation::File(file)));
    let limits = ClaimLimits { quota_per_signer: 1_000_000, quota_per_namespace: 1_000_000 };
    let store = Store::open(&config, limits, metrics(), clock.clone()).await.unwrap();
    store.migrate_up().await.unwrap();
    store
}

/// What a machine accepted before its clock was set back.
struct Accepted {
    session: Session,
    in_session: Vec<Claim>,
    by_signer: Vec<Claim>,
    /// A claim that had expired before it was made.
    late: Claim,
}

async fn accept(store: &Store) -> Accepted {
    let session = opened(store, a_session()).await;
    let signer = a_did();
    let expires_at = in_seconds(store, 60).await;
    let in_session: Vec<_> = (0..20).map(|_| in_session(session.id, a_nonce())).collect();
    let by_signer: Vec<_> = (0..20).map(|_| by_signer_until(&signer, expires_at)).collect();
    let late = by_signer_until(&signer, expires_at);
    for claims in [&in_session, &by_signer] {
        assert_eq!(count(&claim_all(store, claims).await, "accepted"), 20);
    }
    Accepted { session, in_session, by_signer, late }
}

fn by_signer_until(signer: &onceguard::domain::Did, expires_at: Timestamp) -> Claim {
    by_signer(signer, a_nonce(), expires_at)
}

/// Purges as the job does.
async fn purge(store: &Store) -> u64 {
    let mut removed = 0;
    for step in [
        PurgeStep::EndOverdueSessions,
        PurgeStep::DeleteEndedSessions { retention: days(7) },
        PurgeStep::DeleteSignerNonces { margin: minutes(5) },
    ] {
        let purged = purge_batch(store, step, 1000).await;
        removed += purged.session_nonces_deleted + purged.signer_nonces_deleted;
    }
    removed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_behind_a_purge_and_a_restart_reopens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let store = open(&folder, &clock).await;
    let before = accept(&store).await;
    clock.pass(chrono::Duration::hours(3));
    let late = claim(&store, &before.late).await;
    assert_eq!(late, Outcome::Refused(Refusal::Expired));
    assert_eq!(purge(&store).await, 20, "the signer's nonces are gone");
    store.close().await;

    // Now it is three hours earlier. By this clock, no claim has expired.
    let store = open(&folder, &Clock::system()).await;
    for by_signer in before.by_signer.iter().chain([&before.late]) {
        assert_eq!(claim(&store, by_signer).await, Outcome::Refused(Refusal::Expired));
    }
    let outcomes = claim_all(&store, &before.in_session).await;
    assert_eq!(count(&outcomes, "session_expired"), 20, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_deleted_before_the_clock_was_set_back_accepts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let store = open(&folder, &clock).await;
    let before = accept(&store).await;
    clock.pass(chrono::Duration::hours(3));
    purge(&store).await;
    clock.pass(chrono::Duration::days(8));
    assert_eq!(purge(&store).await, 20, "the session's nonces are gone");
    store.close().await;

    let store = open(&folder, &Clock::system()).await;
    assert_eq!(store.session(before.session.id).await.unwrap(), None);
    let outcomes = claim_all(&store, &before.in_session).await;
    assert_eq!(count(&outcomes, "session_not_found"), 20, "{outcomes:?}");
    let outcomes = claim_all(&store, &before.by_signer).await;
    assert_eq!(count(&outcomes, "expired"), 20, "{outcomes:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_in_a_running_process_reopens_nothing(
    #[values(false, true)] restarted: bool,
) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let mut store = open(&folder, &clock).await;
    let before = accept(&store).await;
    clock.step(chrono::Duration::hours(-5));
    if restarted {
        store.close().await;
        store = open(&folder, &clock).await;
    }
    for claims in [&before.in_session, &before.by_signer] {
        let outcomes = claim_all(&store, claims).await;
        assert_eq!(count(&outcomes, "replayed"), 20, "{outcomes:?}");
    }
    // Service goes on.
    let session = opened(&store, a_session()).await;
    let fresh = claim(&store, &in_session(session.id, a_nonce())).await;
    assert!(matches!(fresh, Outcome::Accepted(_)), "{fresh:?}");
}

/// With the right clock, claims are served at once, although a purge ran while the machine's clock
/// was two days ahead.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_for_a_moment_harms_nobody(#[values(false, true)] restarted: bool) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let mut store = open(&folder, &clock).await;
    let before = accept(&store).await;
    clock.step(chrono::Duration::days(2));
    assert_eq!(claim(&store, &before.late).await, Outcome::Refused(Refusal::Expired));
    assert_eq!(purge(&store).await, 20, "as if it were right");
    clock.step(chrono::Duration::days(-2));
    if restarted {
        store.close().await;
        store = open(&folder, &clock).await;
    }
    // Purged nonces are refused, and so are claims that expire no later.
    for by_signer in before.by_signer.iter().chain([&before.late]) {
        assert_eq!(claim(&store, by_signer).await, Outcome::Refused(Refusal::Expired));
    }
    let until = store.history().await.unwrap().purged_until.unwrap();
    let signer = a_did();
    let at_the_edge = claim(&store, &by_signer_until(&signer, until)).await;
    assert_eq!(at_the_edge, Outcome::Refused(Refusal::Expired));
    let later = by_signer_until(&signer, until + chrono::Duration::microseconds(1));
    assert!(matches!(claim(&store, &later).await, Outcome::Accepted(_)));
}

/// Removes what has expired, as a job would.
async fn purge_job(app: &TestApp) -> Result<Purged, JobError> {
    let (store, clock) = (&**app.store(), app.store().clock());
    let holder = "a test's".to_owned();
    let mut keeper = LeaseKeeper::take(store, "purge of a test", holder).await.unwrap().unwrap();
    let limits = purge::Limits::new(app.config());
    purge::run(store, &metrics(), clock, &limits, Actor::Operator, &mut keeper).await
}

/// A signer's claim that expires in a minute, and whether its nonce is still there.
async fn spend(app: &TestApp) {
    let expires_at = in_seconds(app.store(), 60).await;
    let spent = claim(app.store(), &by_signer_until(&a_did(), expires_at)).await;
    assert!(matches!(spent, Outcome::Accepted(_)), "{spent:?}");
}

/// Waits until the metric shows such a jump.
async fn told(app: &TestApp, jump: f64) {
    wait_for("the metric", async || {
        let seconds = app.metric("onceguard_clock_jump_seconds", &[]).await;
        ((seconds - jump).abs() < 60.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_purged_by_a_clock_that_jumped() {
    let app = TestApp::start(Database::Sqlite).await;
    let clock = app.store().clock();
    clock.pass(chrono::Duration::hours(1));
    assert_eq!(clock.jump(), None);
    spend(&app).await;
    for days in [2, -2] {
        clock.step(chrono::Duration::days(days.into()));
        let refused = purge_job(&app).await.unwrap_err();
        assert!(refused.to_string().contains("clock jumped"), "{refused}");
        let ready = app.ops().get("/readyz").await.is(200);
        assert_eq!(ready["status"], "degraded", "{ready:?}");
        assert!(ready.text().contains("the machine's clock jumped"), "{ready:?}");
        let jump = ready["clock"]["jump_seconds"].as_i64().unwrap();
        assert!((jump - i64::from(days * 86_400)).abs() < 60, "{jump}");
        told(&app, f64::from(days * 86_400)).await;
        clock.step(chrono::Duration::days((-days).into()));
        told(&app, 0.0).await;
        assert_eq!(app.ops().get("/readyz").await.is(200)["clock"]["jump_seconds"], json!(null));
    }
    assert_eq!(app.metric("onceguard_clock_jumps_total", &[]).await, 2.0);
    assert_eq!(app.store().raw().number("count(*) FROM signer_nonces").await, 1);
    spend(&app).await;

    // A new time is accepted after it has lasted for a while.
    clock.step(chrono::Duration::days(2));
    assert!(purge_job(&app).await.is_err());
    clock.pass(chrono::Duration::minutes(11));
    assert_eq!(purge_job(&app).await.unwrap().signer_nonces_deleted, 2);
}

/// Two clocks that differ cannot both be right.
#[rstest]
#[case::behind(-5)]
#[case::ahead(5)]
#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_nothing_is_purged_while_the_clocks_differ(#[case] hours: i64) {
    let app = TestApp::start(Database::Postgres).await;
    spend(&app).await;
    app.store().pass(Duration::from_hours(1)).await;
    app.store().clock().step(chrono::Duration::hours(hours));
    let refused = purge_job(&app).await.unwrap_err().to_string();
    assert!(refused.contains("the database's clock"), "{refused}");
    let ready = app.ops().get("/readyz").await.is(200);
    assert!(ready.text().contains("the clocks of the database and of this machine"), "{ready:?}");
    app.store().clock().step(chrono::Duration::hours(-hours));
    assert_eq!(purge_job(&app).await.unwrap().signer_nonces_deleted, 1);
}

/// PostgreSQL has a clock of its own, and the process's clock does not matter.
#[rstest]
#[case::behind(-5)]
#[case::ahead(5)]
#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_the_process_may_have_any_time(#[case] hours: i64) {
    let app = TestApp::start(Database::Postgres).await;
    app.store().clock().step(chrono::Duration::hours(hours));
    let opened = app.open_with(json!({ "ttl_seconds": 60 })).await;
    let session = format!("/v1/sessions/{}", opened.text_of("id"));
    app.get(&session).await.is(200);
    app.post(&format!("{session}/nonces"), &json!({ "nonce": "a" })).await.is(201);
    app.post(&format!("{session}/nonces"), &json!({ "nonce": "a" }))
        .await
        .refused(409, "nonce_replayed");

    let signer = a_did();
    let claim = |nonce: &str, expires_at: Timestamp| {
        let expires_at = expires_at.to_rfc3339();
        json!({ "signer": signer.as_str(), "nonce": nonce, "expires_at": expires_at })
    };
    let soon = in_seconds(app.store(), 60).await;
    let past = in_seconds(app.store(), -1).await;
    let claims = json!({ "claims": [claim("a", soon), claim("a", soon), claim("b", past)] });
    let answer = app.post("/v1/claims", &claims).await.is(200);
    let outcomes: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|result| &result["outcome"]).collect();
    assert_eq!(outcomes, ["accepted", "replayed", "expired"]);

    // Expired by the database's clock, but by no other.
    app.store().pass(Duration::from_secs(61)).await;
    app.get(&session).await.refused(410, "session_expired");
    app.post(&format!("{session}/nonces"), &json!({ "nonce": "b" }))
        .await
        .refused(410, "session_expired");
}
