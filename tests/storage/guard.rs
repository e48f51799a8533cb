//! Instances, what they remember of the database, and that a connection decides nothing before that
//! is compared. `tests/chaos/cuts.rs` does the same with real servers.

use std::sync::{Arc, Mutex};

use onceguard::config::OnCut::{self, Halt, Recover};
use onceguard::config::Replication::{self, Asynchronous, Synchronous};
use onceguard::domain::Actor;
use onceguard::storage::{
    Act, Compared, Joining, Mark, Marks, Memory as Remember, Remembered, Server, Store, StoreError,
};
use rstest::rstest;
use uuid::Uuid;

use crate::recovery::recover;
use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    TestStore, a_did, a_nonce, a_session, an_event, ask_all, claim, days, in_session, joining,
    opened, wait_for,
};

pub(crate) async fn serving(on: Database, on_cut: OnCut) -> TestStore {
    let store = on.store().await;
    store.join(joining(Asynchronous, on_cut)).await.unwrap();
    store
}

/// Breaks every connection to the database but the test's own.
pub(crate) async fn cut(store: &TestStore) {
    let others = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    store.raw().execute(others).await;
}

/// The first answer that does not come of the broken connections.
pub(crate) async fn opens(store: &Store) -> Result<(), StoreError> {
    wait_for("an answer", async || match store.open_session(a_session()).await {
        Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) => None,
        answer => Some(answer.map(drop)),
    })
    .await
}

fn went_back<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::WentBack(why)) => why,
        other => panic!("it decided: {other:?}"),
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_tells_that_it_lives_and_that_it_stopped(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = serving(on, Recover).await;
    let one = "count(*) FROM instances WHERE state = 'serving' AND ended_at IS NULL \
               AND name = '127.0.0.1:8080' AND host = 'test'";
    assert_eq!(store.raw().number(one).await, 1);
    let first = store.heartbeat().await.unwrap();
    opened(&store, a_session()).await;
    let second = store.heartbeat().await.unwrap();
    assert_eq!(second.counter, first.counter + 1);
    assert_eq!((second.generation, second.instance), (first.generation, first.instance));
    assert!(second.at >= first.at);
    let last = store.depart().await.unwrap();
    assert_eq!(last.counter, second.counter + 1);
    let stopped = "count(*) FROM instances WHERE state = 'stopped' AND ended_at = heartbeat_at";
    assert_eq!(store.raw().number(stopped).await, 1);
    assert_eq!(store.raw().number("counter FROM instances").await, last.counter.cast_signed());
}

/// It would wake the disk each second.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_writes_no_heartbeat_for_nothing(#[values(Sqlite, Memory)] on: Database) {
    let store = serving(on, Recover).await;
    let first = store.heartbeat().await.unwrap();
    assert_eq!(store.heartbeat().await.unwrap(), first);
    store.pass(std::time::Duration::from_mins(2)).await;
    assert_eq!(store.heartbeat().await.unwrap().counter, first.counter + 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_known_for_a_week(#[values(Sqlite, Postgres)] on: Database) {
    let store = serving(on, Recover).await;
    let mark = store.depart().await.unwrap();
    store.pass(days(6)).await;
    let next = store.another().await;
    next.join(joining(Asynchronous, Recover)).await.unwrap();
    assert_eq!(store.raw().number("count(*) FROM instances").await, 2);
    store.pass(days(2)).await;
    next.depart().await.unwrap();
    let third = store.another().await;
    third.join(joining(Asynchronous, Recover)).await.unwrap();
    let left = "count(*) FROM instances WHERE state = 'stopped'";
    assert_eq!(store.raw().number(left).await, 1);
    // Its mark says nothing any more.
    let mark = Mark { at: mark.at - chrono::Duration::days(8), ..mark };
    assert_eq!(store.compare(&mark).await.unwrap(), Compared::Holds);
    let young = Mark { at: store.now().await.unwrap(), ..mark };
    assert_eq!(store.compare(&young).await.unwrap(), Compared::Behind);
    for store in [next, third] {
        store.close().await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_behind_the_mark_until_it_is_recovered(#[values(Sqlite, Postgres)] on: Database) {
    let store = serving(on, Recover).await;
    let copied = store.heartbeat().await.unwrap();
    let copy = store.copy().await;
    let lost = store.another().await;
    lost.join(joining(Asynchronous, Recover)).await.unwrap();
    opened(&lost, a_session()).await;
    let mark = lost.heartbeat().await.unwrap();
    lost.close().await;

    assert_eq!(copy.compare(&copied).await.unwrap(), Compared::Holds);
    assert_eq!(copy.compare(&mark).await.unwrap(), Compared::Behind);
    recover(&copy).await;
    assert_eq!(copy.compare(&mark).await.unwrap(), Compared::Holds);
    let later = Mark { at: mark.at + chrono::Duration::minutes(5), ..mark };
    assert_eq!(copy.compare(&later).await.unwrap(), Compared::Behind, "it is not covered");
    let other = Mark { generation: Uuid::now_v7(), ..mark };
    assert_eq!(copy.compare(&other).await.unwrap(), Compared::Foreign);
    let unmigrated = on.unmigrated().await;
    assert_eq!(unmigrated.compare(&mark).await.unwrap(), Compared::Behind);
}

/// A row that is missing says nothing only if the database has seen the week after which it goes.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_is_behind_an_old_mark(#[values(Sqlite, Postgres)] on: Database) {
    let store = serving(on, Recover).await;
    let mark = store.depart().await.unwrap();
    let later = Mark { instance: Uuid::now_v7(), at: mark.at + chrono::Duration::days(2), ..mark };
    store.pass(days(10)).await;
    // Where the rows moved into the past, so did the mark.
    let later = Mark { at: later.at - (store.steady(mark.at) - mark.at), ..later };
    assert_eq!(store.compare(&later).await.unwrap(), Compared::Behind);
}

/// One heartbeat by a clock that is ahead makes nothing a week old.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_forgets_no_instance(#[values(Sqlite, Postgres)] on: Database) {
    let store = serving(on, Recover).await;
    let mark = store.depart().await.unwrap();
    store.pass(days(8)).await;
    let next = store.another().await;
    next.join(joining(Asynchronous, Recover)).await.unwrap();
    assert_eq!(next.compare(&mark).await.unwrap(), Compared::Holds);
    let ahead = Mark { counter: mark.counter + 1, ..mark };
    assert_eq!(next.compare(&ahead).await.unwrap(), Compared::Behind);
    next.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_server_that_was_not_checked_decides_nothing() {
    let store = Postgres.store().await;
    let (raw, decide) = (store.raw(), "SELECT mark_commit()");
    let refused = raw.try_execute(decide).await.unwrap_err();
    assert!(refused.contains("the connection is not checked"), "{refused}");
    let generation = raw.text("generation FROM history").await;
    raw.execute(&format!("SET onceguard.checked = '{generation}'")).await;
    raw.execute(decide).await;
    recover(&store).await;
    raw.try_execute(decide).await.unwrap_err();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_from_before_a_recovery_is_checked_again(#[values(false, true)] serves: bool) {
    let store = Postgres.store().await;
    if serves {
        store.join(joining(Asynchronous, Recover)).await.unwrap();
    }
    let session = opened(&store, a_session()).await;
    claim(&store, &in_session(session.id, a_nonce())).await;
    let other = store.another().await;
    let recovered = recover(&other).await;
    assert_eq!(claim(&store, &in_session(session.id, a_nonce())).await.as_str(), "session_ended");
    let session = opened(&store, a_session()).await;
    assert_eq!(claim(&store, &in_session(session.id, a_nonce())).await.as_str(), "accepted");
    assert_eq!(store.recovered_at(), serves.then_some(recovered.at));
    other.close().await;
}

#[rstest]
#[case::its_own("UPDATE instances SET counter = counter - 1")]
#[case::another_ones("DELETE FROM instances WHERE state = 'serving' AND name = 'other'")]
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_heartbeat_is_noticed(#[case] loss: &str) {
    let store = serving(Postgres, Recover).await;
    let other = store.another().await;
    let mut named = joining(Asynchronous, Recover);
    named.name = "other".into();
    other.join(named).await.unwrap();
    store.heartbeat().await.unwrap();
    other.close().await;
    cut(&store).await;
    opens(&store).await.unwrap();
    assert_eq!(store.recovered_at(), None);

    store.raw().execute(loss).await;
    cut(&store).await;
    opens(&store).await.unwrap();
    assert!(store.recovered_at().is_some());
}

/// Marks are few: a heartbeat stands for those of closed connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_removes_the_marks_of_closed_connections() {
    let store = serving(Postgres, Recover).await;
    for _ in 0..5 {
        opens(&store).await.unwrap();
        cut(&store).await;
    }
    wait_for("the marks to go", async || {
        if store.heartbeat().await.is_err() {
            return None;
        }
        (store.raw().number("count(*) FROM marks").await <= 4).then_some(())
    })
    .await;
    assert_eq!(store.recovered_at(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_halts_only_revokes() {
    let store = serving(Postgres, Halt).await;
    let session = opened(&store, a_session()).await;
    store.heartbeat().await.unwrap();
    store.raw().execute("UPDATE instances SET counter = counter - 1").await;
    cut(&store).await;
    assert!(went_back(opens(&store).await).contains("onceguard recover"));
    let asked = ask_all(&store, &[in_session(session.id, a_nonce())]).await.remove(0);
    went_back(asked);
    went_back(store.session(session.id).await);
    went_back(store.prove_write().await);
    went_back(store.heartbeat().await);
    assert!(store.pool_status().refusal.is_some());
    let revoked = a_did();
    store.revoke_did(&revoked, an_event("onceguard.did.revoked", &revoked)).await.unwrap();
    store.now().await.unwrap();

    let other = store.another().await;
    let recovered = recover(&other).await;
    store.heartbeat().await.unwrap();
    opens(&store).await.unwrap();
    assert_eq!(store.recovered_at(), Some(recovered.at));
    assert_eq!(store.pool_status().refusal, None);
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_on_another_server_decides_nothing_before_it_is_recovered() {
    let store = serving(Postgres, Recover).await;
    let session = opened(&store, a_session()).await;
    let copy = store.copy().await;
    assert!(copy.is_elsewhere().await.unwrap());
    // Not even for a command.
    let asked = ask_all(&copy, &[in_session(session.id, a_nonce())]).await.remove(0);
    went_back(asked);
    assert!(went_back(copy.join(joining(Asynchronous, Halt)).await).contains("it is a copy"));
    assert_eq!(copy.history().await.unwrap().recovered_at, None, "nothing was changed");

    let serving = copy.another().await;
    serving.join(joining(Asynchronous, Recover)).await.unwrap();
    assert!(serving.recovered_at().is_some());
    let outcome = claim(&serving, &in_session(session.id, a_nonce())).await;
    assert_eq!(outcome.as_str(), "session_ended");
    assert!(!copy.is_elsewhere().await.unwrap());
    serving.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_database_is_taken_as_it_is() {
    let store = serving(Postgres, Recover).await;
    let session = opened(&store, a_session()).await;
    let copy = store.copy().await;
    copy.adopt(Actor::Operator).await.unwrap();
    copy.join(joining(Asynchronous, Halt)).await.unwrap();
    let outcome = claim(&copy, &in_session(session.id, a_nonce())).await;
    assert_eq!(outcome.as_str(), "accepted");
    assert_eq!(copy.recovered_at(), None);
    let event = copy.newest_events(1).await.unwrap().remove(0);
    assert_eq!(event.kind, "onceguard.database.adopted");
}

/// An earlier state of the database, or another one, comes behind the same address.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_does_not_follow_is_never_used() {
    let store = serving(Postgres, Recover).await;
    let generation = store.raw().text("generation FROM history").await;
    store.raw().execute("UPDATE history SET generation = gen_random_uuid()").await;
    assert!(went_back(opens(&store).await).contains("does not follow"));
    went_back(store.now().await);
    assert_eq!(store.raw().number("cardinality(ancestors) FROM history").await, 0);
    store.raw().execute(&format!("UPDATE history SET generation = '{generation}'")).await;
    store.heartbeat().await.unwrap();
    opens(&store).await.unwrap();
}

/// A copy is a cut: the first instance on it recovers it.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_recovers_revokes_again_what_it_remembers() {
    let store = serving(Postgres, Recover).await;
    let copy = store.copy().await;
    let revoked = a_did();
    let act = Act::RevokeDid(revoked.clone());
    let memory = Remember::new(move || {
        let at = onceguard::clock::Clock::system().now();
        vec![Remembered { at, act: act.clone() }]
    });
    copy.join(Joining { memory, ..joining(Asynchronous, Recover) }).await.unwrap();
    assert!(copy.did(&revoked).await.unwrap().unwrap().revoked_at.is_some());
    let event = "count(*) FROM events WHERE type = 'onceguard.database.recovered' AND \
                 jsonb_array_length(data -> 'done_again') = 1";
    assert_eq!(copy.raw().number(event).await, 1);
}

/// Every mark that the store keeps.
async fn join_and_keep(store: &Store, replication: Replication) -> Arc<Mutex<Vec<Mark>>> {
    let kept: Arc<Mutex<Vec<Mark>>> = Arc::default();
    let marks = Marks::new({
        let kept = Arc::clone(&kept);
        move |mark| kept.lock().unwrap().push(mark.clone())
    });
    store.join(Joining { marks, ..joining(replication, Recover) }).await.unwrap();
    kept
}

/// Or an instance that is killed right after a recovery would take the old primary for the right one.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_of_the_new_generation_before_anything_is_decided_in_it() {
    let store = Postgres.store().await;
    let kept = join_and_keep(&store, Asynchronous).await;
    let second = store.another().await;
    let kept_by_second = join_and_keep(&second, Asynchronous).await;
    let before = store.history().await.unwrap().generation;
    for kept in [&kept, &kept_by_second] {
        assert_eq!(kept.lock().unwrap().last().unwrap().generation, before);
    }
    store.raw().execute("UPDATE instances SET counter = 0").await;
    cut(&store).await;
    // No heartbeat is sent meanwhile but what a connection sends before it decides.
    opens(&store).await.unwrap();
    let generation = store.history().await.unwrap().generation;
    assert_ne!(generation, before);
    opens(&second).await.unwrap();
    for (store, kept) in [(&*store, &kept), (&second, &kept_by_second)] {
        let mark = kept.lock().unwrap().last().unwrap().clone();
        assert_eq!(mark.generation, generation);
        assert_eq!(store.compare(&mark).await.unwrap(), Compared::Holds);
    }
    second.close().await;
}

/// A fail-over that lost nothing makes no generation. Only a newer mark tells the new primary from the
/// old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_of_the_new_server_before_anything_is_decided_there() {
    let store = Postgres.store().await;
    let kept = join_and_keep(&store, Synchronous).await;
    let marks = || kept.lock().unwrap().clone();
    let before = marks();
    store
        .raw()
        .execute(
            "ALTER FUNCTION server_identity RENAME TO server_before;
             CREATE FUNCTION server_identity(
                 OUT system_identifier bigint, OUT timeline integer, OUT database_oid bigint,
                 OUT nonces_oid bigint
             ) LANGUAGE sql AS $$
                 SELECT system_identifier, timeline + 1, database_oid, nonces_oid
                 FROM server_before()
             $$",
        )
        .await;
    cut(&store).await;
    // No heartbeat is sent meanwhile but what a connection sends before it decides.
    opens(&store).await.unwrap();
    let (last, after) = (before.last().unwrap(), marks());
    let mark = after.last().unwrap();
    assert_eq!(mark.generation, last.generation, "nothing was recovered");
    assert!(mark.counter > last.counter, "{after:?}");
    let (known, before) = (mark.server.unwrap(), last.server.unwrap());
    assert_eq!(known, Server { timeline: before.timeline + 1, ..before });
    // As a start compares it.
    let starting = store.another().await;
    assert_eq!(starting.compare(mark).await.unwrap(), Compared::Holds);

    // The old primary may have as many heartbeats, though none of the last was acknowledged there.
    let old =
        "DROP FUNCTION server_identity; ALTER FUNCTION server_before RENAME TO server_identity";
    store.raw().execute(old).await;
    assert_eq!(starting.compare(mark).await.unwrap(), Compared::OldPrimary);
    // A mark of an earlier version does not say it, and what was moved has another past of servers.
    let others = [
        Server { system_identifier: known.system_identifier ^ 1, ..known },
        Server { database_oid: known.database_oid ^ 1, ..known },
        Server { nonces_oid: known.nonces_oid ^ 1, ..known },
        before,
    ];
    for server in others.map(Some).into_iter().chain([None]) {
        let mark = Mark { server, ..mark.clone() };
        assert_eq!(starting.compare(&mark).await.unwrap(), Compared::Holds, "{server:?}");
    }
    starting.close().await;
}

/// The next start compares the database with it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_leaves_a_mark_when_it_begins_to_serve(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let kept = join_and_keep(&store, Asynchronous).await;
    let mark = kept.lock().unwrap().last().unwrap().clone();
    assert_eq!(store.compare(&mark).await.unwrap(), Compared::Holds);
    opened(&store, a_session()).await;
    let returned = store.heartbeat().await.unwrap();
    assert_eq!(kept.lock().unwrap().last(), Some(&returned));
    let last = store.depart().await.unwrap();
    assert_eq!(kept.lock().unwrap().last(), Some(&last));
}
