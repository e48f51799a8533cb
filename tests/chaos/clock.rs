//! Wrong clocks: the machine's clock is set back, or the process's clock is not the database's.

use std::time::Duration;

use onceguard::clock::Clock;
use onceguard::domain::{Claim, Outcome, Refusal, Session, Timestamp};
use onceguard::storage::{ClaimLimits, DatabaseUrl, PurgeStep, SqliteLocation, Store};
use rstest::rstest;
use serde_json::json;

use crate::services::metrics;
use crate::support::{
    Database, TestApp, a_did, a_nonce, a_session, by_signer, claim, claim_all, count,
    database_config, days, in_seconds, in_session, minutes, opened, purge_batch,
};

/// The same file, opened by a machine whose clock stands there.
async fn open(folder: &tempfile::TempDir, clock: &Clock) -> Store {
    let file = folder.path().join("test.db");
    let config = database_config(DatabaseUrl::Sqlite(SqliteLocation::File(file)));
    let limits = ClaimLimits { quota_per_signer: 1_000_000 };
    let store = Store::open(&config, limits, metrics(), clock.clone()).await.unwrap();
    store.migrate_up().await.unwrap();
    store
}

/// What a machine accepted before its clock was set back.
struct Accepted {
    session: Session,
    in_session: Vec<Claim>,
    by_signer: Vec<Claim>,
    /// A claim that had expired before it was ever made.
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
    clock.shift(chrono::Duration::hours(3));
    let late = claim(&store, &before.late).await;
    assert_eq!(late, Outcome::Refused(Refusal::Expired));
    assert_eq!(purge(&store).await, 20, "the signer's nonces are gone");
    store.close().await;

    // Now it is three hours earlier: by this clock, no claim has expired.
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
    clock.shift(chrono::Duration::hours(3));
    purge(&store).await;
    clock.shift(chrono::Duration::days(8));
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
    clock.shift(chrono::Duration::hours(-5));
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

/// PostgreSQL has a clock of its own, and the process's is of no importance.
#[rstest]
#[case::behind(-5)]
#[case::ahead(5)]
#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_the_process_may_have_any_time(#[case] hours: i64) {
    let app = TestApp::start(Database::Postgres).await;
    app.store().clock().shift(chrono::Duration::hours(hours));
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

    // Past its time by the database's clock, and by no other.
    app.store().pass(Duration::from_secs(61)).await;
    app.get(&session).await.refused(410, "session_expired");
    app.post(&format!("{session}/nonces"), &json!({ "nonce": "b" }))
        .await
        .refused(410, "session_expired");
}
