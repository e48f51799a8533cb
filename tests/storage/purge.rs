//! The purge: what each step ends or removes, in which bounds, and what it must not touch.

use std::time::Duration;

use onceguard::domain::{Cursor, Did, EndReason, Gone, Opened, SessionId};
use onceguard::storage::{Answer, PurgeBatch, PurgeStep, Purged, Reading, Store};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    TestStore, a_did, a_new_did, a_nonce, a_reading, a_sealed_key, a_session, an_event, by_signer,
    claim, claim_all, count, days, in_seconds, in_session, minutes, opened, purge_batch, read,
};

const END: PurgeStep = PurgeStep::EndOverdueSessions;
const DELETE: PurgeStep = PurgeStep::DeleteEndedSessions { retention: days(7) };
const NONCES: PurgeStep = PurgeStep::DeleteSignerNonces { margin: minutes(1) };
const AUDIT: PurgeStep = PurgeStep::DeleteEvents { retention: days(180), undelivered: days(90) };
const CALLERS: PurgeStep = PurgeStep::EmptyEvents { retention: days(30), undelivered: days(90) };
const DIDS: PurgeStep = PurgeStep::DeleteUnusedDids { unused: days(7) };
const RECORDS: PurgeStep = PurgeStep::ExpireRecords;
const TOMBSTONES: PurgeStep = PurgeStep::DeleteTombstones { retention: days(180) };
const ERASED: PurgeStep = PurgeStep::DeleteErasedRecords;
const STEPS: [PurgeStep; 9] =
    [END, DELETE, NONCES, AUDIT, CALLERS, DIDS, RECORDS, TOMBSTONES, ERASED];

/// Runs a step to its end; returns the sum, and checks each batch's bounds.
async fn run(store: &Store, step: PurgeStep, limit: u32) -> Purged {
    run_from(store, step, Cursor::default(), limit).await
}

async fn run_from(store: &Store, step: PurgeStep, from: Cursor, limit: u32) -> Purged {
    let mut sum = Purged::default();
    let mut from = Some(from);
    while let Some(cursor) = from {
        let PurgeBatch { purged, next } = store.purge(step, &cursor, limit).await.unwrap();
        assert!(purged.rows() <= u64::from(limit), "{purged:?}");
        sum += purged;
        from = next;
    }
    sum
}

async fn ended_session(store: &Store, nonces: usize) -> SessionId {
    let id = opened(store, a_session()).await.id;
    let claims: Vec<_> = (0..nonces).map(|_| in_session(id, a_nonce())).collect();
    assert_eq!(count(&claim_all(store, &claims).await, "accepted"), nonces);
    store.end_session(id, EndReason::Ended, None).await.unwrap();
    id
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_has_nothing_to_purge(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    opened(&store, a_session()).await;
    for step in STEPS {
        assert_eq!(purge_batch(&store, step, 10).await, Purged::default());
    }
    assert_eq!(store.purge_preview(&STEPS).await.unwrap(), Purged::default());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn overdue_sessions_are_recorded_as_what_they_were(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    store.add_sealing_key("k1", b"check").await.unwrap();
    let mut ids = Vec::new();
    for number in 0..7 {
        let mut new = a_session();
        new.session_key = Some(a_sealed_key("k1"));
        if number < 3 {
            (new.ttl_seconds, new.idle_timeout_seconds) = (36_000, Some(60));
        }
        ids.push(opened(&store, new).await.id);
    }
    // Idles before it expires, and both are past: it is over for the earlier reason.
    let mut both = a_session();
    both.idle_timeout_seconds = Some(600);
    ids.push(opened(&store, both).await.id);
    store.pass(minutes(61)).await;
    let live = opened(&store, a_session()).await;
    let mut before = Vec::new();
    for id in &ids {
        let session = read(&store, *id).await;
        assert_eq!((session.end, session.state().as_str()), (None, "expired"));
        before.push(session);
    }

    let purged = run(&store, END, 3).await;
    assert_eq!(purged, Purged { sessions_expired: 4, sessions_idle: 4, ..Purged::default() });
    for session in before {
        let after = read(&store, session.id).await;
        assert_eq!(after.state(), session.state(), "reads as before");
        assert!(after.end.is_some());
        assert_eq!(after.version, session.version + 1);
        assert_eq!(store.session_key(session.id).await.unwrap().unwrap().1, None);
    }
    assert_eq!(read(&store, live.id).await.end, None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_is_kept_for_its_retention(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let mut new = a_session();
    new.ttl_seconds = 86_400;
    let live = opened(&store, new).await;
    claim(&store, &in_session(live.id, a_nonce())).await;
    let id = ended_session(&store, 3).await;
    store.pass(days(6)).await;
    assert_eq!(run(&store, DELETE, 10).await, Purged::default());
    let mut again = a_session();
    again.id = id;
    assert_eq!(store.open_session(again.clone()).await.unwrap(), Opened::Exists);

    store.pass(days(1)).await;
    let purged = run(&store, DELETE, 10).await;
    assert_eq!((purged.sessions_deleted, purged.session_nonces_deleted), (1, 3));
    assert_eq!(store.session(id).await.unwrap(), None);
    assert!(store.session(live.id).await.unwrap().is_some(), "its end was not recorded yet");
    let opened = store.open_session(again).await.unwrap();
    assert!(matches!(opened, Opened::Created(_)), "{opened:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_many_nonces_is_emptied_in_chunks(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    for nonces in [25, 0, 10, 11, 1] {
        ended_session(&store, nonces).await;
    }
    let kept = opened(&store, a_session()).await;
    claim(&store, &in_session(kept.id, a_nonce())).await;
    store.pass(days(8)).await;
    let purged = run(&store, DELETE, 10).await;
    assert_eq!(
        purged,
        Purged { sessions_deleted: 5, session_nonces_deleted: 47, ..Purged::default() }
    );
    assert_eq!(store.raw().number("count(*) FROM nonces").await, 1);
    assert_eq!(store.raw().number("count(*) FROM sessions").await, 1);
}

/// While a session is emptied in chunks, its nonces are gone but its end is not: nothing that
/// was spent becomes acceptable.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_half_emptied_accepts_nothing(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let id = ended_session(&store, 25).await;
    store.pass(days(8)).await;
    let batch = purge_batch(&store, DELETE, 10).await;
    assert_eq!((batch.sessions_deleted, batch.session_nonces_deleted), (0, 10));
    let outcome = claim(&store, &in_session(id, a_nonce())).await;
    assert_eq!(outcome.as_str(), "session_ended");
}

/// Each signer's counter, and the rows it should count.
async fn counters_are_exact(store: &TestStore) {
    let wrong = "count(*) FROM signers WHERE live <> \
                 (SELECT count(*) FROM signer_nonces n WHERE n.signer = signers.signer)";
    assert_eq!(store.raw().number(wrong).await, 0);
    let uncounted = "count(*) FROM signer_nonces n WHERE NOT EXISTS \
                     (SELECT 1 FROM signers s WHERE s.signer = n.signer)";
    assert_eq!(store.raw().number(uncounted).await, 0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn signers_nonces_leave_after_the_margin_and_their_counters_follow(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let signers = [a_did(), a_did(), a_did()];
    let (soon, late) = (in_seconds(&store, 60).await, in_seconds(&store, 3_600).await);
    let claims: Vec<_> = (0..30)
        .map(|number| {
            let expires_at = if number % 2 == 0 { soon } else { late };
            by_signer(&signers[number % 3], a_nonce(), expires_at)
        })
        .collect();
    claim_all(&store, &claims).await;
    counters_are_exact(&store).await;

    store.pass(Duration::from_secs(90)).await;
    assert_eq!(run(&store, NONCES, 4).await, Purged::default(), "expired, within the margin");
    store.pass(minutes(1)).await;
    let batch = purge_batch(&store, NONCES, 4).await;
    assert_eq!(batch, Purged { signer_nonces_deleted: 4, ..Purged::default() });
    counters_are_exact(&store).await;
    assert_eq!(run(&store, NONCES, 4).await.signer_nonces_deleted, 11);
    counters_are_exact(&store).await;
    assert_eq!(store.raw().number("count(*) FROM signer_nonces").await, 15);
    assert_eq!(store.raw().number("sum(live) FROM signers").await, 15);
}

/// There are more rows than one batch looks at.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn expired_nonces_are_found_behind_many_live_ones(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let fill = if store.backend() == "sqlite" {
        "INSERT INTO signers VALUES (zeroblob(16), 'did:web:live', 100000);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
         INSERT INTO signer_nonces SELECT zeroblob(16), i, 0, 9e18, NULL FROM n"
    } else {
        "INSERT INTO signers VALUES (decode(repeat('00', 16), 'hex'), 'did:web:live', 100000);
         INSERT INTO signer_nonces SELECT decode(repeat('00', 16), 'hex'), i, now(), 'infinity'
             FROM generate_series(1, 100000) i"
    };
    store.raw().execute(fill).await;
    let (signer, soon) = (a_did(), in_seconds(&store, 60).await);
    let claims: Vec<_> = (0..3).map(|_| by_signer(&signer, a_nonce(), soon)).collect();
    claim_all(&store, &claims).await;
    store.pass(minutes(10)).await;
    let batch = store.purge(NONCES, &Cursor::default(), 10).await.unwrap();
    assert_eq!(batch.purged, Purged::default(), "that is beyond them");
    assert_eq!(run(&store, NONCES, 10).await.signer_nonces_deleted, 3);
    counters_are_exact(&store).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_begins_where_the_one_before_ended_and_a_run_at_the_beginning(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (signer, soon, late) =
        (a_did(), in_seconds(&store, 60).await, in_seconds(&store, 3_600).await);
    let claims: Vec<_> = (0..20)
        .map(|number| by_signer(&signer, a_nonce(), if number % 2 == 0 { soon } else { late }))
        .collect();
    claim_all(&store, &claims).await;
    store.pass(minutes(10)).await;
    let PurgeBatch { purged, next } = store.purge(NONCES, &Cursor::default(), 4).await.unwrap();
    assert_eq!(purged.signer_nonces_deleted, 4);
    let next = next.expect("there is more");
    assert_eq!(run_from(&store, NONCES, next, 4).await.signer_nonces_deleted, 6);
    store.pass(minutes(60)).await;
    assert_eq!(run(&store, NONCES, 4).await.signer_nonces_deleted, 10, "they had been passed");
    counters_are_exact(&store).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_leaves_with_its_signers_last_nonce(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let (gone, kept) = (a_did(), a_did());
    let (soon, late) = (in_seconds(&store, 60).await, in_seconds(&store, 3_600).await);
    let claims = [
        by_signer(&gone, a_nonce(), soon),
        by_signer(&kept, a_nonce(), soon),
        by_signer(&kept, a_nonce(), late),
    ];
    claim_all(&store, &claims).await;
    store.pass(minutes(10)).await;
    assert_eq!(run(&store, NONCES, 10).await.signer_nonces_deleted, 2);
    counters_are_exact(&store).await;
    assert_eq!(store.raw().number("count(*) FROM signers").await, 1);
    // The signer starts anew.
    let later = in_seconds(&store, 60).await;
    assert_eq!(claim(&store, &by_signer(&gone, a_nonce(), later)).await.as_str(), "accepted");
    counters_are_exact(&store).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn counters_stay_exact_while_claims_and_the_purge_cross(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let signers = [a_did(), a_did()];
    for _ in 0..10 {
        let expires_at = in_seconds(&store, 30).await;
        let old: Vec<_> =
            (0..20).map(|n| by_signer(&signers[n % 2], a_nonce(), expires_at)).collect();
        claim_all(&store, &old).await;
        store.pass(minutes(2)).await;
        let expires_at = in_seconds(&store, 3_600).await;
        let new: Vec<_> =
            (0..20).map(|n| by_signer(&signers[n % 2], a_nonce(), expires_at)).collect();
        let (purged, one, other) = tokio::join!(
            run(&store, NONCES, 7),
            claim_all(&store, &new[..10]),
            claim_all(&store, &new[10..]),
        );
        assert_eq!(purged.signer_nonces_deleted, 20);
        assert_eq!(count(&one, "accepted") + count(&other, "accepted"), 20);
        counters_are_exact(&store).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn events_leave_after_their_retention_up_to_a_signed_head(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for _ in 0..5 {
        store.publish(vec![an_event("test.old", &"x")]).await.unwrap();
    }
    store.pass(days(1)).await;
    let head = store.sign_head().await;
    store.publish(vec![an_event("test.unsigned", &"x")]).await.unwrap();
    store.pass(days(169)).await;
    assert_eq!(run(&store, AUDIT, 2).await, Purged::default());
    store.publish(vec![an_event("test.new", &"x")]).await.unwrap();
    store.pass(days(11)).await;
    assert_eq!(run(&store, AUDIT, 2).await.events_deleted, 5);
    let left = store.newest_events(10).await.unwrap();
    let kinds: Vec<_> = left.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["onceguard.log.cut", "test.new", "test.unsigned"]);
    assert_eq!(left[0].data.to_value()["sequence"], 5);
    let chain = store.event_chain().await.unwrap();
    assert_eq!((chain.cut_sequence, chain.cut_hash), (5, head.head.hash));
    assert_eq!(store.event_heads(0, 10).await.unwrap().len(), 1, "the head of the cut stays");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn dids_that_nobody_asks_for_leave(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let record = async |did: &Did| {
        let reading = a_reading(&store, did, 1).await;
        store.record_did(reading).await.unwrap();
    };
    let (used, revoked, stored) = (a_did(), a_did(), a_new_did());
    let unused: Vec<_> = (0..5).map(|_| a_did()).collect();
    for did in unused.iter().chain([&used, &revoked]) {
        record(did).await;
    }
    let gone = a_reading(&store, &unused[0], 1).await;
    let gone = Reading { answer: Answer::Gone(Gone::NotFound), ..gone };
    store.record_did(gone).await.unwrap();
    store.put_did(stored.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
    for did in [&revoked, &a_did()] {
        store.revoke_did(did, an_event("onceguard.did.revoked", did)).await.unwrap();
    }
    store.pass(days(6)).await;
    record(&used).await;
    assert_eq!(run(&store, DIDS, 2).await, Purged::default());
    store.pass(days(1)).await;
    let purged = run(&store, DIDS, 2).await;
    assert_eq!(purged, Purged { dids_deleted: 5, ..Purged::default() });
    for did in &unused {
        assert_eq!(store.did(did).await.unwrap(), None);
    }
    for did in [&used, &revoked, &stored.did] {
        assert!(store.did(did).await.unwrap().is_some(), "{did}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_that_is_read_or_revoked_while_the_purge_runs_stays(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let instance = if on == Postgres { store.another().await } else { (*store).clone() };
    for _ in 0..5 {
        let dids: Vec<_> = (0..30).map(|_| a_did()).collect();
        for did in &dids {
            store.record_did(a_reading(&store, did, 1).await).await.unwrap();
        }
        store.pass(days(8)).await;
        let use_them = async {
            for (number, did) in dids.iter().enumerate() {
                if number % 2 == 0 {
                    instance.record_did(a_reading(&instance, did, 2).await).await.unwrap();
                } else {
                    let event = an_event("onceguard.did.revoked", did);
                    instance.revoke_did(did, event).await.unwrap();
                }
            }
        };
        tokio::join!(run(&store, DIDS, 3), use_them);
        for (number, did) in dids.iter().enumerate() {
            let record = store.did(did).await.unwrap().unwrap();
            assert_eq!(record.revoked_at.is_none(), number % 2 == 0);
        }
        assert_eq!(run(&store, DIDS, 10).await, Purged::default());
    }
}

/// Something for every step to do, and something for none.
async fn fill(store: &TestStore) {
    let (unused, used) = (a_did(), a_did());
    for did in [&unused, &used] {
        store.record_did(a_reading(store, did, 1).await).await.unwrap();
    }
    ended_session(store, 13).await;
    let signer = a_did();
    let soon = in_seconds(store, 60).await;
    let claims: Vec<_> = (0..5).map(|_| by_signer(&signer, a_nonce(), soon)).collect();
    claim_all(store, &claims).await;
    store.publish(vec![an_event("test.old", &"x")]).await.unwrap();
    store.sign_head().await;
    store.publish(vec![an_event("test.unsigned", &"x")]).await.unwrap();
    store.pass(days(200)).await;
    ended_session(store, 4).await;
    store.publish(vec![an_event("test.new", &"x")]).await.unwrap();
    for idle in [None, Some(60), Some(60)] {
        let mut new = a_session();
        new.idle_timeout_seconds = idle;
        let id = opened(store, new).await.id;
        claim(store, &in_session(id, a_nonce())).await;
    }
    store.pass(minutes(61)).await;
    let late = in_seconds(store, 300).await;
    claim(store, &by_signer(&signer, a_nonce(), late)).await;
    store.record_did(a_reading(store, &used, 1).await).await.unwrap();
    opened(store, a_session()).await;
    store.link_events().await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_preview_is_what_the_purge_then_does(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    fill(&store).await;
    let preview = store.purge_preview(&STEPS).await.unwrap();
    assert_eq!(store.purge_preview(&STEPS).await.unwrap(), preview, "a preview changes nothing");
    let mut purged = Purged::default();
    for step in STEPS {
        purged += run(&store, step, 5).await;
    }
    let expected = Purged {
        sessions_expired: 1,
        sessions_idle: 2,
        sessions_deleted: 1,
        session_nonces_deleted: 13,
        signer_nonces_deleted: 5,
        events_deleted: 1,
        events_emptied: 1,
        dids_deleted: 1,
        records_expired: 0,
        tombstones_deleted: 0,
        erased_rows_deleted: 0,
        publications_forgotten: 0,
        deliveries_deleted: 0,
    };
    assert_eq!(purged, expected);
    assert_eq!(preview, expected);
    assert_eq!(store.purge_preview(&STEPS).await.unwrap(), Purged::default());
}

/// A purge that did not run for weeks ends sessions and then deletes the same ones.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_preview_sees_what_the_steps_do_to_each_other(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for idle in [None, Some(60)] {
        let mut new = a_session();
        new.idle_timeout_seconds = idle;
        let id = opened(&store, new).await.id;
        claim(&store, &in_session(id, a_nonce())).await;
    }
    store.pass(days(30)).await;
    let preview = store.purge_preview(&STEPS).await.unwrap();
    let mut purged = Purged::default();
    for step in STEPS {
        purged += run(&store, step, 5).await;
    }
    assert_eq!((purged.sessions_expired, purged.sessions_idle), (1, 1));
    assert_eq!(preview, purged);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_preview_of_one_step_tells_of_that_step(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    fill(&store).await;
    let nonces = store.purge_preview(&[NONCES]).await.unwrap();
    assert_eq!(nonces, Purged { signer_nonces_deleted: 5, ..Purged::default() });
    let ends = store.purge_preview(&[END]).await.unwrap();
    assert_eq!(ends, Purged { sessions_expired: 1, sessions_idle: 2, ..Purged::default() });
}
