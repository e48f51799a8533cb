//! Recovery of a database whose clock was ahead, and is right again: times of then do not refuse what
//! is new, and what was accepted then is not accepted again.

use std::time::Duration;

use onceguard::config::OnCut::Recover;
use onceguard::config::Replication::Asynchronous;
use onceguard::domain::{Actor, Claim, NewSession, Opened, Scope, SessionId, Timestamp};
use onceguard::storage::{Compared, Mark, Recovered, Recovery, Store};
use rstest::rstest;
use uuid::Uuid;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    TestStore, a_did, a_new_did, a_nonce, a_session, an_event, by_signer, claim, days, in_seconds,
    issued, joining, minutes, opened,
};

const BEFORE: &str = "issued_before_restore";
const AHEAD: Duration = Duration::from_hours(48);
const DAY: i64 = 86_400;

/// A recovery that believes what the mark says of the clock, or does not.
async fn recover(store: &Store, mark: &Mark, clock_was_ahead: bool) -> Recovered {
    let now = in_seconds(store, 0).await;
    let (now, clock_was_at) =
        if clock_was_ahead { (now, Some(mark.at)) } else { (now.max(mark.at), None) };
    let recovery = Recovery {
        skew: Duration::ZERO,
        now,
        issued_until: mark.issued_until,
        clock_was_at,
        actor: Actor::Operator,
        remembered: Vec::new(),
    };
    store.recover(recovery).await.unwrap()
}

/// The message again, whose times are now said like this.
fn again(sent: &Claim, time: impl Fn(Timestamp) -> Timestamp) -> Claim {
    let mut sent = sent.clone();
    if let Scope::Signer { expires_at, issued_at, .. } = &mut sent.scope {
        (*expires_at, *issued_at) = (time(*expires_at), issued_at.map(&time));
    }
    sent
}

/// A message that lasts for a day, and was issued this many seconds from now, or does not say when.
async fn message(store: &Store, seconds: Option<i64>) -> Claim {
    let claim = by_signer(&a_did(), a_nonce(), in_seconds(store, DAY).await);
    match seconds {
        Some(seconds) => issued(claim, in_seconds(store, seconds).await),
        None => claim,
    }
}

async fn is_before(store: &TestStore, sent: &[Claim]) {
    for sent in sent {
        assert_eq!(claim(store, sent).await.as_str(), BEFORE, "{sent:?}");
    }
}

/// A store, what it accepted while its clock was ahead, and its last mark; and a copy from before,
/// whose clock is right, with the purge's record of the time when it was ahead.
struct Cut {
    copy: TestStore,
    lost: Vec<Claim>,
    mark: Mark,
}

impl Cut {
    async fn of(on: Database, issued: &[Option<i64>]) -> Self {
        let store = on.store().await;
        let copy = store.copy().await;
        let serving = store.another().await;
        serving.join(joining(Asynchronous, Recover)).await.unwrap();
        let mut lost = Vec::new();
        for seconds in issued {
            let sent = message(&serving, *seconds).await;
            assert_eq!(claim(&serving, &sent).await.as_str(), "accepted");
            lost.push(sent);
        }
        // Refused, so it says nothing of what was accepted.
        let early = message(&serving, Some(3_600)).await;
        assert_eq!(claim(&serving, &early).await.as_str(), "expired");
        let mark = serving.heartbeat().await.unwrap();
        serving.close().await;
        copy.raw()
            .execute(match on {
                Postgres => "UPDATE history SET purged_until = now()",
                _ => "UPDATE history SET purged_until = unixepoch() * 1000000",
            })
            .await;
        let time = copy.set_clock_back(AHEAD).await;
        let lost = lost.iter().map(|sent| again(sent, &time)).collect();
        let issued_until = mark.issued_until.map(&time);
        let mark = Mark { at: time(mark.at), issued_until, ..mark };
        Self { copy, lost, mark }
    }

    /// What was lost, as the copy sees it now.
    fn lost(&self) -> Vec<Claim> {
        let now = |time: Timestamp| time - (self.copy.steady(time) - time);
        self.lost.iter().map(|sent| again(sent, now)).collect()
    }
}

/// Its signers had the right time.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_accepted_and_nothing_of_then_is(#[values(Sqlite, Postgres)] on: Database) {
    let issued = [Some(-2 * DAY - 3_600), Some(-2 * DAY), None];
    let cut = Cut::of(on, &issued).await;
    let (copy, mark) = (&cut.copy, &cut.mark);
    let first = copy.history().await.unwrap().generation;
    assert!(copy.history().await.unwrap().purged_until > Some(in_seconds(copy, DAY).await));

    recover(copy, mark, false).await;
    copy.pass(minutes(2)).await;
    let fresh = message(copy, Some(0)).await;
    // The purge's record comes first.
    assert_eq!(claim(copy, &fresh).await.as_str(), "expired", "by the clock of then");
    copy.raw().execute("UPDATE history SET purged_until = NULL").await;
    assert_eq!(claim(copy, &fresh).await.as_str(), BEFORE, "by the clock of then");

    let recovered = recover(copy, mark, true).await;
    let ahead = recovered.not_before - recovered.at;
    assert!(ahead <= chrono::Duration::minutes(1), "{ahead}");
    let history = copy.history().await.unwrap();
    assert_eq!(history.purged_until, None);
    assert_eq!(history.not_before, Some(recovered.not_before));
    assert!(history.ahead_until >= Some(in_seconds(copy, 2 * DAY - 3_600).await));
    is_before(copy, &cut.lost()).await;
    // Of another data folder: it does not stop a start.
    let theirs = Mark { generation: first, ..mark.clone() };
    assert_eq!(copy.compare(&theirs).await.unwrap(), Compared::Holds);
    let later = mark.at + chrono::Duration::minutes(10);
    let later = Mark { generation: first, at: later, ..mark.clone() };
    assert_eq!(copy.compare(&later).await.unwrap(), Compared::Behind);

    copy.pass(minutes(2)).await;
    is_before(copy, &cut.lost()).await;
    let fresh = message(copy, Some(0)).await;
    assert_eq!(claim(copy, &fresh).await.as_str(), "accepted");
    assert_eq!(claim(copy, &fresh).await.as_str(), "replayed");
    is_before(copy, &[message(copy, None).await]).await;

    // A day after the recovery, and the message of then has not expired.
    copy.pass(days(1) + minutes(30)).await;
    is_before(copy, &cut.lost()).await;
    copy.pass(days(1)).await;
    is_before(copy, &cut.lost()).await;
    copy.pass(days(1)).await;
    for sent in cut.lost() {
        assert_eq!(claim(copy, &sent).await.as_str(), "expired");
    }
    copy.pass(minutes(5)).await;
    let unstated = message(copy, None).await;
    assert_eq!(claim(copy, &unstated).await.as_str(), "accepted");
}

/// A signer's clock was ahead, too: until then, no time says that a message is new.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_new_before_the_latest_time_that_a_message_stated(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let cut = Cut::of(on, &[Some(-2 * DAY), Some(-3_600), None]).await;
    let stated = cut.mark.issued_until.unwrap();
    let recovered = recover(&cut.copy, &cut.mark, true).await;
    assert_eq!(recovered.not_before, stated);
    for time in [minutes(0), days(1), minutes(23 * 60 + 10)] {
        cut.copy.pass(time).await;
        for sent in cut.lost() {
            let word = claim(&cut.copy, &sent).await.as_str();
            // What says a time that is still to come is refused for that.
            assert!([BEFORE, "expired"].contains(&word), "{word}: {sent:?}");
        }
    }
    is_before(&cut.copy, &cut.lost()).await;
    let fresh = message(&cut.copy, Some(0)).await;
    assert_eq!(claim(&cut.copy, &fresh).await.as_str(), "accepted");
}

/// What the instances of the restored database knew counts as well as the mark.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_database_knows_what_its_instances_knew(
    #[values(Sqlite, Postgres)] on: Database,
    #[values(false, true)] clock_was_ahead: bool,
) {
    let store = on.store().await;
    store.join(joining(Asynchronous, Recover)).await.unwrap();
    let sent = message(&store, Some(50)).await;
    assert_eq!(claim(&store, &sent).await.as_str(), "accepted");
    let mark = store.heartbeat().await.unwrap();
    assert!(mark.issued_until.is_some());
    let time = store.set_clock_back(AHEAD).await;
    let nothing = Mark { at: in_seconds(&store, 0).await, issued_until: None, ..mark.clone() };
    let recovered = recover(&store, &nothing, clock_was_ahead).await;
    assert_eq!(Some(recovered.not_before), mark.issued_until.map(&time));
    let knows_the_clock = recovered.ahead_until >= Some(time(mark.at));
    assert_eq!(knows_the_clock, clock_was_ahead, "{recovered:?}");
}

/// Rows with times that others are compared with.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_the_future_hold_nothing_up(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    store.join(joining(Asynchronous, Recover)).await.unwrap();
    assert!(store.take_lease("job", "one", minutes(1)).await.unwrap());
    store.release_lease("job", "one", true).await.unwrap();
    let stored = a_new_did();
    store.put_did(stored.clone(), an_event("onceguard.did.stored", &stored.did)).await.unwrap();
    let mut kept = message(&store, Some(-2 * DAY)).await;
    kept.idempotency = Some([7; 16]);
    assert_eq!(claim(&store, &kept).await.as_str(), "accepted");
    assert_eq!(claim(&store, &kept).await.as_str(), "accepted", "its outcome is repeated");
    let mark = store.heartbeat().await.unwrap();
    let session = opened(&store, a_session()).await;
    let time = store.set_clock_back(AHEAD).await;

    let mark = Mark { at: time(mark.at), issued_until: None, ..mark };
    recover(&store, &mark, true).await;
    let now = in_seconds(&store, 0).await;
    let lease = store.lease("job").await.unwrap().unwrap();
    assert!(lease.finished_at.unwrap() <= now && lease.taken_at <= now, "{lease:?}");
    let record = store.did(&stored.did).await.unwrap().unwrap();
    assert!(record.fetched_at.unwrap() <= now, "{record:?}");
    let latest = store.raw().number(match on {
        Postgres => "count(*) FROM instances WHERE heartbeat_at > now()",
        _ => "count(*) FROM instances WHERE heartbeat_at > (SELECT recovered_at FROM history)",
    });
    assert_eq!(latest.await, 0);
    let kept = again(&kept, time);
    assert_eq!(claim(&store, &kept).await.as_str(), "replayed", "its outcome is not repeated");

    // An id of then says a time that is still to come.
    let chosen = |at: Timestamp| {
        let at = uuid::Timestamp::from_unix(uuid::NoContext, at.timestamp().unsigned_abs(), 0);
        NewSession { id: SessionId(Uuid::new_v7(at)), id_is_chosen: true, ..a_session() }
    };
    let ahead = chosen(now + chrono::Duration::days(1));
    assert_eq!(store.open_session(ahead).await.unwrap(), Opened::Ahead);
    store.pass(days(1) + minutes(5)).await;
    let of_then = chosen(in_seconds(&store, -60).await);
    assert_eq!(store.open_session(of_then).await.unwrap(), Opened::BeforeRestore);
    store.pass(days(1)).await;
    opened(&store, chosen(in_seconds(&store, 0).await)).await;
    assert!(store.session(session.id).await.unwrap().unwrap().end.is_some());
}
