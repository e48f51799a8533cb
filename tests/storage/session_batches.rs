//! Openings, endings, touches and readings that are asked together: each has its own answer.

use onceguard::domain::{Changed, EndReason, NewSession, Opened, SessionId, SessionState};
use onceguard::storage::{Ending, Held, OnLock, Result, Store, StoreError, Tried};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{TestStore, a_did, a_sealed_key, a_session, an_event, minutes, opened, read};

fn ending(id: SessionId) -> Ending {
    Ending { id, reason: EndReason::Ended, audit: None }
}

fn audited(id: SessionId) -> Ending {
    Ending { audit: Some(an_event("onceguard.session.ended", &id)), ..ending(id) }
}

async fn open(store: &Store, new: &[NewSession]) -> Vec<Result<Opened>> {
    done(store.open_each(new, OnLock::Skip).await)
}

async fn end(store: &Store, endings: &[Ending]) -> Vec<Result<Changed>> {
    done(store.end_each(endings, OnLock::Skip).await)
}

async fn touch(store: &Store, ids: &[SessionId]) -> Vec<Result<Changed>> {
    done(store.touch_each(ids, OnLock::Skip).await)
}

/// Nothing is locked.
fn done<T: std::fmt::Debug>(answers: Vec<Result<Tried<T>>>) -> Vec<Result<T>> {
    let done = |tried| match tried {
        Tried::Done(answer) => answer,
        Tried::Busy(held) => panic!("nobody holds {held:?}"),
    };
    answers.into_iter().map(|answer| answer.map(done)).collect()
}

fn is_unexpected<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(StoreError::Unexpected(_)))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_opening_has_its_own_answer(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let [mut taken, mut once_ended, by_revoked, with_revoked, mut twin] =
        std::array::from_fn(|_| a_session());
    let plain = a_session();
    taken.id = opened(&store, a_session()).await.id;
    once_ended.id = opened(&store, a_session()).await.id;
    store.end_session(once_ended.id, EndReason::Ended, None).await.unwrap();
    let revoked = [by_revoked.client_did.clone(), with_revoked.server_did.clone()];
    for did in &revoked {
        store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
    }
    twin.id = plain.id;
    // Of two with one id the first is refused, so the second is opened.
    let mut heir = a_session();
    heir.id = by_revoked.id;
    let mut everything = a_session();
    everything.idle_timeout_seconds = Some(60);
    everything.max_claims = Some(u64::MAX);
    everything.session_key = Some(a_sealed_key("k"));
    everything.user_agent = Some("agent".into());
    everything.ip_address = Some("2001:db8::1".parse().unwrap());

    let new = [
        plain.clone(),
        taken.clone(),
        by_revoked.clone(),
        twin,
        with_revoked,
        heir.clone(),
        once_ended,
        everything.clone(),
    ];
    let answers: Vec<_> = open(&store, &new).await.into_iter().map(|a| a.unwrap()).collect();
    assert_eq!(answers.len(), new.len());
    for (index, new) in [(0, &plain), (5, &heir), (7, &everything)] {
        let Opened::Created(session) = &answers[index] else { panic!("{:?}", answers[index]) };
        assert_eq!((session.id, &session.client_did), (new.id, &new.client_did));
        assert_eq!(session.server_did, new.server_did);
        assert_eq!(session.idle_timeout_seconds, new.idle_timeout_seconds);
        assert_eq!((&session.user_agent, session.ip_address), (&new.user_agent, new.ip_address));
        let mut stored = read(&store, new.id).await;
        stored.observed_at = session.observed_at;
        assert_eq!(&stored, session);
    }
    let (_, key) = store.session_key(everything.id).await.unwrap().unwrap();
    assert_eq!(key, everything.session_key);
    for index in [1, 3, 6] {
        assert_eq!(answers[index], Opened::Exists, "{index}");
    }
    assert_eq!(answers[2], Opened::Revoked(revoked[0].clone()));
    assert_eq!(answers[4], Opened::Revoked(revoked[1].clone()));
    assert_ne!(read(&store, taken.id).await.client_did, taken.client_did, "nothing changed");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refuses_fails_its_own_opening(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let mut new: Vec<_> = (0..5).map(|_| a_session()).collect();
    // It would expire when it begins.
    new[2].ttl_seconds = 0;
    for (index, answer) in open(&store, &new).await.into_iter().enumerate() {
        if index == 2 {
            assert!(is_unexpected(&answer), "{answer:?}");
            assert_eq!(store.session(new[index].id).await.unwrap(), None);
        } else {
            assert!(matches!(answer, Ok(Opened::Created(_))), "{answer:?}");
            read(&store, new[index].id).await;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_ending_has_its_own_answer(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let mut short = a_session();
    short.ttl_seconds = 60;
    let expired = opened(&store, short).await.id;
    store.pass(minutes(2)).await;
    let mut keyed = a_session();
    keyed.session_key = Some(a_sealed_key("k"));
    let (live, keyed) = (opened(&store, a_session()).await.id, opened(&store, keyed).await.id);
    let (ended, missing) = (opened(&store, a_session()).await.id, a_session().id);
    store.end_session(ended, EndReason::DidRevoked, None).await.unwrap();

    let endings =
        [live, ended, keyed, missing, live, expired].map(audited).into_iter().collect::<Vec<_>>();
    let answers: Vec<_> = end(&store, &endings).await.into_iter().map(|a| a.unwrap()).collect();
    for (index, id) in [(0, live), (2, keyed)] {
        let Changed::Done(session) = &answers[index] else { panic!("{:?}", answers[index]) };
        assert_eq!((session.id, session.end.unwrap().reason), (id, EndReason::Ended));
        assert_eq!(read(&store, id).await.end, session.end);
    }
    assert_eq!(store.session_key(keyed).await.unwrap().unwrap().1, None, "its key is wiped");
    assert_eq!(answers[3], Changed::NotFound);
    for (index, id, reason) in [
        (1, ended, EndReason::DidRevoked),
        (4, live, EndReason::Ended),
        (5, expired, EndReason::Expired),
    ] {
        let Changed::Over(session) = &answers[index] else { panic!("{:?}", answers[index]) };
        let SessionState::Over(end) = session.state() else { panic!("{session:?}") };
        assert_eq!((session.id, end.reason), (id, reason));
    }
    let mut subjects: Vec<_> = store
        .newest_events(10)
        .await
        .unwrap()
        .into_iter()
        .filter_map(|event| event.subject)
        .collect();
    subjects.sort();
    let mut expected = [live, keyed].map(|id| id.to_string());
    expected.sort();
    assert_eq!(subjects, expected, "what was ended is written down, once");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_ending_that_cannot_be_written_down_fails_and_no_other_does(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let [first, refused, last] = [
        opened(&store, a_session()).await.id,
        opened(&store, a_session()).await.id,
        opened(&store, a_session()).await.id,
    ];
    let event = an_event("test.refused", &refused);
    let once = "CREATE UNIQUE INDEX refused ON events (type) WHERE type = 'test.refused'";
    store.raw().execute(once).await;
    store.publish(vec![event.clone()]).await.unwrap();
    let endings = [audited(first), Ending { audit: Some(event), ..ending(refused) }, audited(last)];
    let answers = end(&store, &endings).await;
    assert!(is_unexpected(&answers[1]), "{answers:?}");
    assert_eq!(read(&store, refused).await.state(), SessionState::Active);
    for (index, id) in [(0, first), (2, last)] {
        assert!(matches!(answers[index], Ok(Changed::Done(_))), "{answers:?}");
        assert_ne!(read(&store, id).await.state(), SessionState::Active);
    }
    assert_eq!(store.newest_events(10).await.unwrap().len(), 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_touch_has_its_own_answer(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let (stale, ended) = (opened(&store, a_session()).await, opened(&store, a_session()).await);
    store.end_session(ended.id, EndReason::Ended, None).await.unwrap();
    store.pass(minutes(2)).await;
    let (fresh, missing) = (opened(&store, a_session()).await, a_session().id);
    let before = store.now().await.unwrap();

    let ids = [stale.id, missing, ended.id, fresh.id, stale.id];
    let answers: Vec<_> = touch(&store, &ids).await.into_iter().map(|a| a.unwrap()).collect();
    for index in [0, 4] {
        let Changed::Done(session) = &answers[index] else { panic!("{:?}", answers[index]) };
        assert_eq!(session.id, stale.id);
        assert!(session.last_activity >= before, "{session:?}");
        assert_eq!(read(&store, stale.id).await.last_activity, session.last_activity);
    }
    assert_eq!(answers[1], Changed::NotFound);
    assert!(matches!(&answers[2], Changed::Over(session) if session.id == ended.id));
    let Changed::Done(session) = &answers[3] else { panic!("{:?}", answers[3]) };
    assert_eq!((session.id, session.last_activity), (fresh.id, fresh.last_activity));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn each_reading_has_its_own_answer(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let (one, other) = (opened(&store, a_session()).await, opened(&store, a_session()).await);
    let (broken, missing) = (opened(&store, a_session()).await.id, a_session().id);
    break_session(&store, broken).await;
    let ids = [one.id, missing, broken, other.id, one.id];
    let answers = store.read_each(&ids).await;
    for (index, session) in [(0, &one), (3, &other), (4, &one)] {
        let found = answers[index].as_ref().unwrap().as_ref().unwrap();
        assert_eq!((found.id, &found.client_did), (session.id, &session.client_did));
    }
    assert_eq!(answers[1], Ok(None));
    assert!(is_unexpected(&answers[2]), "{:?}", answers[2]);

    // The same of those that change it.
    let answers = touch(&store, &[one.id, broken]).await;
    assert!(matches!(answers[0], Ok(Changed::Done(_))), "{answers:?}");
    assert!(is_unexpected(&answers[1]), "{answers:?}");
    let answers = end(&store, &[one.id, broken].map(ending)).await;
    assert!(matches!(answers[0], Ok(Changed::Done(_))), "{answers:?}");
    assert!(is_unexpected(&answers[1]), "{answers:?}");
}

/// Gives a session a client that is no DID.
async fn break_session(store: &TestStore, id: SessionId) {
    let id = store.raw().id(id);
    let set = format!("UPDATE sessions SET client_did = 'nobody' WHERE id = {id}");
    store.raw().execute(&set).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_party_is_skipped_with_its_openings_only() {
    let store = Postgres.store().await;
    let did = a_did();
    let (mut as_client, mut as_server) = (a_session(), a_session());
    as_client.client_did = did.clone();
    as_server.server_did = did.clone();
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('{did}', 0))");
    store.raw().execute(&lock).await;
    let new = [a_session(), as_client, a_session(), as_server];
    let answers = store.open_each(&new, OnLock::Skip).await;
    for index in [0, 2] {
        assert!(matches!(answers[index], Ok(Tried::Done(Opened::Created(_)))), "{answers:?}");
    }
    for index in [1, 3] {
        assert_eq!(answers[index], Ok(Tried::Busy(Held::Party(did.clone()))));
        assert_eq!(store.session(new[index].id).await.unwrap(), None);
    }
    store.raw().execute("ROLLBACK").await;
    for answer in store.open_each(&[new[1].clone(), new[3].clone()], OnLock::Skip).await {
        assert!(matches!(answer, Ok(Tried::Done(Opened::Created(_)))), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_session_is_skipped_with_its_calls_only() {
    let store = Postgres.store().await;
    let locked = opened(&store, a_session()).await.id;
    let free = opened(&store, a_session()).await.id;
    store.pass(minutes(2)).await;
    let id = store.raw().id(locked);
    let lock = format!("BEGIN; UPDATE sessions SET metadata = metadata WHERE id = {id}");
    store.raw().execute(&lock).await;
    let (ids, busy) = ([free, locked], Ok(Tried::Busy(Held::Session(locked))));
    for sessions in store.read_each(&ids).await {
        assert!(matches!(sessions, Ok(Some(_))), "readings need no lock: {sessions:?}");
    }
    for answers in [
        store.touch_each(&ids, OnLock::Skip).await,
        store.end_each(&ids.map(ending), OnLock::Skip).await,
    ] {
        assert!(matches!(answers[0], Ok(Tried::Done(Changed::Done(_)))), "{answers:?}");
        assert_eq!(answers[1], busy);
    }
    store.raw().execute("ROLLBACK").await;
    let answers = store.end_each(&[ending(locked)], OnLock::Skip).await;
    assert!(matches!(answers[0], Ok(Tried::Done(Changed::Done(_)))), "{answers:?}");
}
