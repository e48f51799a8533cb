//! Recovery of a database that went back in time: what it ends, what it leaves alone, and that it
//! does all or nothing.

use std::time::Duration;

use onceguard::domain::{Actor, EndReason, NewSession, Opened, SessionId, SessionState, Timestamp};
use onceguard::storage::{OnLock, Recovered, Recovery, Store, Tried};
use rstest::rstest;
use uuid::Uuid;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    TestStore, a_did, a_new_did, a_nonce, a_reading, a_sealed_key, a_session, an_event, claim,
    days, in_seconds, in_session, minutes, opened, read,
};

/// A machine whose clock is `ahead` of the database's, and an instance that allows this `skew`.
async fn recover_with(store: &Store, skew: Duration, ahead: i64) -> Recovered {
    let now = in_seconds(store, ahead).await;
    store
        .recover(Recovery { skew, now, actor: Actor::Operator, remembered: Vec::new() })
        .await
        .unwrap()
}

pub(crate) async fn recover(store: &Store) -> Recovered {
    recover_with(store, Duration::ZERO, -3_600).await
}

fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    (to - from).num_seconds()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_begins_a_generation_that_names_its_ancestors(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let first = store.history().await.unwrap();
    assert_eq!((first.ancestors.len(), first.recovered_at, first.not_before), (0, None, None));

    let before = store.now().await.unwrap();
    let recovered = recover(&store).await;
    assert_eq!(recovered.ancestor, first.generation);
    assert_ne!(recovered.generation, first.generation);
    assert!(before <= recovered.at && recovered.at <= store.now().await.unwrap());
    let history = store.history().await.unwrap();
    assert_eq!(history.generation, recovered.generation);
    assert_eq!(history.ancestors, [first.generation]);
    assert_eq!(history.recovered_at, Some(recovered.at));
    assert_eq!(history.not_before, Some(recovered.not_before));
    assert_eq!(history.purged_until, first.purged_until);

    let again = recover(&store).await;
    let history = store.history().await.unwrap();
    assert_eq!(history.ancestors, [first.generation, recovered.generation]);
    assert_eq!(history.generation, again.generation);
}

/// What was accepted before the cut was issued no later than the clock said then, plus the skew.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_accepted_before_the_later_clock_and_the_larger_skew(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let history = store.history().await.unwrap();
    assert_eq!(history.skew, minutes(1), "what the shipped profiles allow");
    let recovered = recover_with(&store, Duration::from_secs(5), -3_600).await;
    assert_eq!(seconds_between(recovered.at, recovered.not_before), 60, "the database's skew");
    let recovered = recover_with(&store, minutes(10), -3_600).await;
    assert_eq!(seconds_between(recovered.at, recovered.not_before), 600);
    assert_eq!(store.history().await.unwrap().skew, minutes(10), "and it is kept");
    let ahead = recover_with(&store, Duration::ZERO, 3_600).await;
    assert_eq!(seconds_between(ahead.at, ahead.not_before) / 60, 69, "an hour ahead, and the skew");
    let after = recover(&store).await;
    assert_eq!(after.not_before, ahead.not_before, "it never goes back");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_skew_that_is_recorded_never_gets_smaller(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for (raised, kept) in [(30, 60), (90, 90), (60, 90)] {
        store.raise_skew(Duration::from_secs(raised)).await.unwrap();
        assert_eq!(store.history().await.unwrap().skew, Duration::from_secs(kept));
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn every_session_that_is_not_ended_ends_and_loses_its_key(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    store.add_sealing_key("k1", b"check").await.unwrap();
    let mut with_key = a_session();
    with_key.session_key = Some(a_sealed_key("k1"));
    let live = [opened(&store, with_key).await.id, opened(&store, a_session()).await.id];
    let ended = opened(&store, a_session()).await.id;
    store.end_session(ended, EndReason::Ended, None).await.unwrap();
    let ended_before = read(&store, ended).await;
    let nonce = a_nonce();
    claim(&store, &in_session(live[0], nonce.clone())).await;

    let recovered = recover(&store).await;
    assert_eq!(recovered.sessions_ended, 2);
    for id in live {
        let session = read(&store, id).await;
        let SessionState::Over(end) = session.state() else { panic!("it lives: {session:?}") };
        assert_eq!((end.at, end.reason), (recovered.at, EndReason::Restored));
        assert_eq!(session.version, 2);
        assert_eq!(store.session_key(id).await.unwrap().unwrap().1, None);
        for nonce in [nonce.clone(), a_nonce()] {
            let outcome = claim(&store, &in_session(id, nonce)).await;
            assert_eq!(outcome.as_str(), "session_ended");
        }
    }
    let ended_after = read(&store, ended).await;
    assert_eq!((ended_after.end, ended_after.version), (ended_before.end, ended_before.version));
    // Life goes on.
    let new = opened(&store, a_session()).await.id;
    assert_eq!(claim(&store, &in_session(new, a_nonce())).await.as_str(), "accepted");
    assert_eq!(recover(&store).await.sessions_ended, 1);
}

/// It may live again for a clock that is set back.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_without_a_record_of_it_ends_too(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = opened(&store, a_session()).await.id;
    if on == Postgres {
        let over = "UPDATE sessions SET created_at = now() - interval '2 hours', \
                    expires_at = now() - interval '1 hour'";
        store.raw().execute(over).await;
    } else {
        store.pass(minutes(61)).await;
    }
    assert_eq!(read(&store, id).await.end, None);
    assert_eq!(recover(&store).await.sessions_ended, 1);
    assert_eq!(read(&store, id).await.end.unwrap().reason, EndReason::Restored);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn cached_dids_are_stale_and_stored_ones_stay(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (fresh, revoked, stored) = (a_did(), a_did(), a_new_did());
    for did in [&fresh, &revoked] {
        store.record_did(a_reading(&store, did, 1).await).await.unwrap();
    }
    store.revoke_did(&revoked, an_event("onceguard.did.revoked", &revoked)).await.unwrap();
    store.put_did(stored.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    let revoked_before = store.did(&revoked).await.unwrap().unwrap();

    let recovered = recover(&store).await;
    assert_eq!(recovered.dids_stale, 1);
    let record = store.did(&fresh).await.unwrap().unwrap();
    assert_eq!(record.stale_at, Some(recovered.at));
    assert!(record.document.is_some(), "it is there while its home cannot be asked");
    let revoked_after = store.did(&revoked).await.unwrap().unwrap();
    assert_eq!(revoked_after.revoked_at, revoked_before.revoked_at);
    let kept = store.did(&stored.did).await.unwrap().unwrap();
    assert_eq!((kept.key, kept.stale_at), (Some(stored.key), None));
    // Its home is believed again.
    store.record_did(a_reading(&store, &fresh, 2).await).await.unwrap();
    let record = store.did(&fresh).await.unwrap().unwrap();
    assert!(record.stale_at.unwrap() > recovered.at);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn leases_are_free_and_keep_when_their_job_was_done(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    store.take_lease("done", "a", days(1)).await.unwrap();
    store.release_lease("done", "a", true).await.unwrap();
    store.take_lease("purge", "a", days(1)).await.unwrap();
    assert!(!store.take_lease("purge", "b", days(1)).await.unwrap());
    assert_eq!(recover(&store).await.leases_released, 1);
    assert!(store.take_lease("purge", "b", days(1)).await.unwrap());
    assert!(store.lease("done").await.unwrap().unwrap().finished_at.is_some());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_is_an_event(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    opened(&store, a_session()).await;
    let recovered = recover(&store).await;
    let event = store.newest_events(1).await.unwrap().remove(0);
    assert_eq!(
        (event.actor.as_deref(), &*event.kind),
        (Some("operator"), "onceguard.database.recovered")
    );
    assert_eq!(event.subject, Some(recovered.generation.to_string()));
    assert_eq!(event.data.to_value()["ancestor"], recovered.ancestor.to_string());
    assert_eq!(event.data.to_value()["sessions"], 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_fails_changes_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let id = opened(&store, a_session()).await.id;
    store.raw().break_audit_log().await;
    let (before, history) = (store.raw().data().await, store.history().await.unwrap());
    let recovery = Recovery {
        skew: minutes(1),
        now: in_seconds(&store, 0).await,
        actor: Actor::Operator,
        remembered: Vec::new(),
    };
    store.recover(recovery).await.unwrap_err();
    assert_eq!(store.raw().data().await, before);
    assert_eq!(store.history().await.unwrap(), history);
    assert_eq!(claim(&store, &in_session(id, a_nonce())).await.as_str(), "accepted");
}

fn chosen(id: Uuid) -> NewSession {
    NewSession { id: SessionId(id), id_is_chosen: true, ..a_session() }
}

/// A UUIDv7 that was made this many seconds after a time.
fn made(at: Timestamp, seconds: i64) -> Uuid {
    let at = at + chrono::Duration::seconds(seconds);
    let fraction = at.timestamp_subsec_nanos();
    let at = uuid::Timestamp::from_unix(uuid::NoContext, at.timestamp().unsigned_abs(), fraction);
    Uuid::new_v7(at)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_a_later_time_is_refused_so_that_newer_ids_are_new(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let now = store.now().await.unwrap();
    let ahead = chosen(made(now, 120));
    assert_eq!(store.open_session(ahead.clone()).await.unwrap(), Opened::Ahead);
    assert_eq!(store.session(ahead.id).await.unwrap(), None);
    for id in [made(now, 30), made(now, -86_400 * 365), Uuid::new_v4()] {
        opened(&store, chosen(id)).await;
    }
    // The service's own clock may be ahead of the database's.
    opened(&store, NewSession { id_is_chosen: false, ..ahead }).await;
    store.raise_skew(minutes(10)).await.unwrap();
    opened(&store, chosen(made(now, 120))).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_a_lost_session_may_have_had_is_refused(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let kept = opened(&store, a_session()).await.id;
    let copy = store.copy().await;
    let lost = store.another().await;
    let now = lost.now().await.unwrap();
    let forgotten = [made(now, 0), made(now, 50), made(now, -3_600), Uuid::new_v4()];
    for id in forgotten {
        let id = opened(&lost, chosen(id)).await.id;
        assert_eq!(claim(&lost, &in_session(id, a_nonce())).await.as_str(), "accepted");
    }
    lost.close().await;

    let not_before = recover(&copy).await.not_before;
    for id in forgotten.into_iter().chain([Uuid::new_v4()]) {
        let answer = copy.open_session(chosen(id)).await.unwrap();
        assert_eq!(answer, Opened::BeforeRestore);
    }
    assert_eq!(copy.open_session(chosen(kept.0)).await.unwrap(), Opened::Exists);
    // Together with what may be opened.
    let news = [chosen(forgotten[1]), a_session(), chosen(made(not_before, 3_600)), a_session()];
    let answers = copy.open_each(&news, OnLock::Wait).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers[0], Tried::Done(Opened::BeforeRestore));
    assert_eq!(answers[2], Tried::Done(Opened::Ahead));
    for index in [1, 3] {
        assert!(matches!(answers[index], Tried::Done(Opened::Created(_))), "{answers:?}");
    }

    copy.pass(minutes(2)).await;
    opened(&copy, chosen(made(copy.now().await.unwrap(), 0))).await;
    // The longest session has ended and was purged by now, had it not been lost.
    copy.pass(minutes(8 * 24 * 60 - 2)).await;
    let not_before = copy.history().await.unwrap().not_before.unwrap();
    for id in [made(not_before, -1), forgotten[3]] {
        let answer = copy.open_session(chosen(id)).await.unwrap();
        assert_eq!(answer, Opened::BeforeRestore, "however long ago");
    }
    copy.pass(minutes(2)).await;
    opened(&copy, chosen(forgotten[3])).await;
}

/// A copy that was made before the loss, as the operator puts it back; what the lost database
/// accepted since then is replayed to it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_nonce_of_a_session_is_accepted_again_by_a_copy(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (id, ended) = (opened(&store, a_session()).await.id, opened(&store, a_session()).await.id);
    let before = a_nonce();
    assert_eq!(claim(&store, &in_session(id, before.clone())).await.as_str(), "accepted");
    let copy: TestStore = store.copy().await;
    let lost = store.another().await;
    let after = a_nonce();
    assert_eq!(claim(&lost, &in_session(id, after.clone())).await.as_str(), "accepted");
    lost.end_session(ended, EndReason::Ended, None).await.unwrap();

    assert_eq!(copy.history().await.unwrap(), lost.history().await.unwrap());
    recover(&copy).await;
    for (session, nonce) in [(id, before), (id, after), (id, a_nonce()), (ended, a_nonce())] {
        let outcome = claim(&copy, &in_session(session, nonce)).await;
        assert_eq!(outcome.as_str(), "session_ended");
    }
    let mut again = a_session();
    again.id = id;
    assert_eq!(copy.open_session(again).await.unwrap(), Opened::Exists);
    lost.close().await;
}
