//! Opening, reading, changing and touching one session.

use onceguard::domain::{Changed, End, EndReason, Metadata, Opened, SessionPatch, SessionState};
use rstest::rstest;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    a_sealed_key, a_session, an_event, claim, in_session, minutes, nonce, opened, read,
};

fn metadata(value: &Value) -> Metadata {
    Metadata::parse(&to_raw_value(value).unwrap()).unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_reads_as_it_was_opened(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let mut new = a_session();
    new.ttl_seconds = 600;
    new.max_ttl_seconds = 7_200;
    new.idle_timeout_seconds = Some(60);
    new.max_claims = Some(5);
    new.metadata = metadata(&json!({"a": [1, "ü", null, {"b": 1.5}], "": "", "big": u64::MAX}));
    new.user_agent = Some("agent/1 \"quoted\" ü".into());
    new.ip_address = Some("2001:db8::1".parse().unwrap());

    let before = store.now().await.unwrap();
    let session = opened(&store, new.clone()).await;
    let after = store.now().await.unwrap();

    assert!(before <= session.created_at && session.created_at <= after);
    assert_eq!(session.last_activity, session.created_at);
    assert_eq!(session.expires_at - session.created_at, chrono::Duration::seconds(600));
    assert_eq!(session.deadline - session.created_at, chrono::Duration::seconds(7_200));
    assert_eq!(session.state(), SessionState::Active);
    assert_eq!((session.id, &session.client_did), (new.id, &new.client_did));
    assert_eq!(session.server_did, new.server_did);
    assert_eq!((session.idle_timeout_seconds, session.max_claims), (Some(60), Some(5)));
    assert_eq!((session.claims, session.end), (0, None));
    assert_eq!(session.metadata, new.metadata);
    assert_eq!((&session.user_agent, session.ip_address), (&new.user_agent, new.ip_address));

    let mut again = read(&store, new.id).await;
    assert!(again.observed_at >= session.observed_at);
    again.observed_at = session.observed_at;
    assert_eq!(again, session);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_ipv4_address_reads_as_it_was_written(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let mut new = a_session();
    new.ip_address = Some("192.0.2.7".parse().unwrap());
    let id = opened(&store, new).await.id;
    assert_eq!(read(&store, id).await.ip_address, Some("192.0.2.7".parse().unwrap()));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_opened_is_not_there(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let id = a_session().id;
    assert_eq!(store.session(id).await.unwrap(), None);
    assert_eq!(store.session_key(id).await.unwrap(), None);
    assert_eq!(store.touch_session(id).await.unwrap(), Changed::NotFound);
    assert_eq!(store.update_session(id, SessionPatch::default()).await.unwrap(), Changed::NotFound);
    let ended = store.end_session(id, EndReason::Ended, None).await.unwrap();
    assert_eq!(ended, Changed::NotFound);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_id_opens_once(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let first = opened(&store, a_session()).await;
    let mut second = a_session();
    second.id = first.id;
    assert_eq!(store.open_session(second.clone()).await.unwrap(), Opened::Exists);
    assert_eq!(read(&store, first.id).await.client_did, first.client_did, "nothing changed");

    store.end_session(first.id, EndReason::Ended, None).await.unwrap();
    assert_eq!(store.open_session(second).await.unwrap(), Opened::Exists, "nor when it ended");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_sessions_id_stays_taken(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let first = opened(&store, a_session()).await;
    store.pass(minutes(120)).await;
    let mut second = a_session();
    second.id = first.id;
    assert_eq!(store.open_session(second).await.unwrap(), Opened::Exists);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_open_an_id_at_once_one_does(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for _ in 0..10 {
        let id = a_session().id;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let store = (*store).clone();
                let mut new = a_session();
                new.id = id;
                tokio::spawn(async move { store.open_session(new).await.unwrap() })
            })
            .collect();
        let mut created = 0;
        for task in tasks {
            match task.await.unwrap() {
                Opened::Created(session) => {
                    created += 1;
                    assert_eq!(read(&store, id).await.client_did, session.client_did);
                }
                other => assert_eq!(other, Opened::Exists),
            }
        }
        assert_eq!(created, 1);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_party_opens_nothing(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values("client", "server")] party: &str,
) {
    let store = on.store().await;
    let new = a_session();
    let revoked = if party == "client" { &new.client_did } else { &new.server_did }.clone();
    store.revoke_did(&revoked, an_event("onceguard.did.revoked", &revoked)).await.unwrap();
    assert_eq!(store.open_session(new.clone()).await.unwrap(), Opened::Revoked(revoked));
    assert_eq!(store.session(new.id).await.unwrap(), None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_changes_what_it_names(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    store.add_sealing_key("k1", b"check").await.unwrap();
    let mut new = a_session();
    new.metadata = metadata(&json!({"old": 1}));
    let key = a_sealed_key("k1");
    new.session_key = Some(key.clone());
    let before = opened(&store, new).await;

    let patch =
        SessionPatch { metadata: Some(metadata(&json!({"new": 2}))), ..SessionPatch::default() };
    let Changed::Done(after) = store.update_session(before.id, patch).await.unwrap() else {
        panic!("not done")
    };
    assert_eq!(after.metadata, metadata(&json!({"new": 2})), "replaced, not merged");
    assert_eq!(after.version, before.version + 1);
    assert_eq!(after.expires_at, before.expires_at);
    assert_eq!(store.session_key(before.id).await.unwrap().unwrap().1, Some(key));

    let other = a_sealed_key("k1");
    let patch = SessionPatch { session_key: Some(other.clone()), ..SessionPatch::default() };
    let Changed::Done(last) = store.update_session(before.id, patch).await.unwrap() else {
        panic!("not done")
    };
    assert_eq!((last.version, &last.metadata), (before.version + 2, &after.metadata));
    let (stored, key) = store.session_key(before.id).await.unwrap().unwrap();
    assert_eq!((stored.version, key), (last.version, Some(other)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_counts_from_now_and_ends_at_the_deadline(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let mut new = a_session();
    new.ttl_seconds = 600;
    new.max_ttl_seconds = 3_600;
    let session = opened(&store, new).await;
    let ttl = |seconds| SessionPatch { ttl_seconds: Some(seconds), ..SessionPatch::default() };

    let before = store.now().await.unwrap();
    let Changed::Done(longer) = store.update_session(session.id, ttl(1_200)).await.unwrap() else {
        panic!("not done")
    };
    let after = store.now().await.unwrap();
    let from = longer.expires_at - chrono::Duration::seconds(1_200);
    assert!(before <= from && from <= after);
    assert_eq!(longer.deadline, session.deadline);

    let Changed::Done(clamped) = store.update_session(session.id, ttl(86_400)).await.unwrap()
    else {
        panic!("not done")
    };
    assert_eq!(clamped.expires_at, session.deadline);

    let Changed::Done(shorter) = store.update_session(session.id, ttl(60)).await.unwrap() else {
        panic!("not done")
    };
    assert!(shorter.expires_at < longer.expires_at);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_patch_of_another_version_changes_nothing(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let patch = |version, value: i32| SessionPatch {
        metadata: Some(metadata(&json!({"value": value}))),
        expected_version: Some(version),
        ..SessionPatch::default()
    };

    let first = store.update_session(session.id, patch(session.version, 1)).await.unwrap();
    assert!(matches!(first, Changed::Done(_)), "{first:?}");
    let second = store.update_session(session.id, patch(session.version, 2)).await.unwrap();
    let Changed::VersionMismatch(current) = second else { panic!("{second:?}") };
    assert_eq!(current.version, session.version + 1);
    assert_eq!(read(&store, session.id).await.metadata, metadata(&json!({"value": 1})));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_patches_of_one_version_one_is_done(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let tasks: Vec<_> = (0..8)
        .map(|value| {
            let (store, id, version) = ((*store).clone(), session.id, session.version);
            let patch = SessionPatch {
                metadata: Some(metadata(&json!({"value": value}))),
                expected_version: Some(version),
                ..SessionPatch::default()
            };
            tokio::spawn(async move { store.update_session(id, patch).await.unwrap() })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        match task.await.unwrap() {
            Changed::Done(_) => done += 1,
            other => assert!(matches!(other, Changed::VersionMismatch(_)), "{other:?}"),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(read(&store, session.id).await.version, session.version + 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_changes_no_more(
    #[values(Sqlite, Memory, Postgres)] on: Database,
    #[values("ended", "expired")] how: &str,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    if how == "ended" {
        store.end_session(session.id, EndReason::Ended, None).await.unwrap();
    } else {
        store.pass(minutes(61)).await;
    }
    let before = read(&store, session.id).await;
    assert_eq!(before.state().as_str(), how);

    let patch = SessionPatch {
        metadata: Some(metadata(&json!({"late": true}))),
        ttl_seconds: Some(3_600),
        ..SessionPatch::default()
    };
    for changed in [
        store.update_session(session.id, patch).await.unwrap(),
        store.touch_session(session.id).await.unwrap(),
        store
            .end_session(
                session.id,
                EndReason::Ended,
                Some(an_event("onceguard.session.ended", &"x")),
            )
            .await
            .unwrap(),
    ] {
        let Changed::Over(over) = changed else { panic!("{changed:?}") };
        assert_eq!(over.state(), before.state());
    }
    let mut after = read(&store, session.id).await;
    after.observed_at = before.observed_at;
    assert_eq!(after, before);
    assert_eq!(store.newest_events(10).await.unwrap(), []);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_touch_moves_activity_beyond_the_granularity(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let mut new = a_session();
    new.idle_timeout_seconds = Some(600);
    let session = opened(&store, new).await;

    let touched = store.touch_session(session.id).await.unwrap();
    assert!(matches!(touched, Changed::Done(_)), "{touched:?}");
    let soon = read(&store, session.id).await;
    if soon.observed_at - session.last_activity < chrono::Duration::seconds(5) {
        assert_eq!(soon.last_activity, session.last_activity, "not rewritten at once");
    }

    store.pass(minutes(5)).await;
    let before = store.now().await.unwrap();
    let Changed::Done(touched) = store.touch_session(session.id).await.unwrap() else {
        panic!("not done")
    };
    assert!(touched.last_activity >= before);
    assert_eq!(read(&store, session.id).await.last_activity, touched.last_activity);

    store.pass(minutes(8)).await;
    assert_eq!(read(&store, session.id).await.state(), SessionState::Active, "touched in time");
    store.pass(minutes(3)).await;
    let idle = read(&store, session.id).await;
    let SessionState::Over(End { at, reason }) = idle.state() else { panic!("{idle:?}") };
    assert_eq!(reason, EndReason::Idle);
    assert_eq!(at, idle.last_activity + chrono::Duration::seconds(605), "timeout + granularity");
    assert!(matches!(store.touch_session(session.id).await.unwrap(), Changed::Over(_)));
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn activity_does_not_move_the_expiry(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    store.pass(minutes(50)).await;
    store.touch_session(session.id).await.unwrap();
    claim(&store, &in_session(session.id, nonce("n"))).await;
    store.pass(minutes(11)).await;
    let session = read(&store, session.id).await;
    assert_eq!(
        session.state(),
        SessionState::Over(End { at: session.expires_at, reason: EndReason::Expired })
    );
}
