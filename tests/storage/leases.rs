//! Leases: one instance runs a job.

use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{days, minutes};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_has_one_holder(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    assert_eq!(store.lease("purge").await.unwrap(), None);
    let before = store.now().await.unwrap();
    assert!(store.take_lease("purge", "a", minutes(5)).await.unwrap());
    let lease = store.lease("purge").await.unwrap().unwrap();
    assert_eq!((lease.name.as_str(), lease.holder.as_str()), ("purge", "a"));
    assert!(before <= lease.taken_at && lease.taken_at <= lease.observed_at);
    assert_eq!(lease.until, lease.taken_at + minutes(5));
    assert_eq!(lease.finished_at, None);

    assert!(!store.take_lease("purge", "b", minutes(5)).await.unwrap());
    assert!(store.take_lease("other", "b", minutes(5)).await.unwrap(), "another job's");
    assert_eq!(store.lease("purge").await.unwrap().unwrap().holder, "a");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_and_runs_out(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    store.take_lease("purge", "a", minutes(5)).await.unwrap();
    store.pass(minutes(4)).await;
    assert!(store.take_lease("purge", "a", minutes(5)).await.unwrap(), "renewed");
    store.pass(minutes(4)).await;
    assert!(!store.take_lease("purge", "b", minutes(5)).await.unwrap(), "it was renewed");
    store.pass(minutes(2)).await;
    assert!(store.take_lease("purge", "b", minutes(5)).await.unwrap(), "it ran out");
    assert!(!store.take_lease("purge", "a", minutes(5)).await.unwrap());
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_given_back_is_free(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    store.take_lease("purge", "a", minutes(5)).await.unwrap();
    store.release_lease("purge", "b", true).await.unwrap();
    assert!(!store.take_lease("purge", "b", minutes(5)).await.unwrap(), "only its holder can");
    assert_eq!(store.lease("purge").await.unwrap().unwrap().finished_at, None);

    store.release_lease("purge", "a", false).await.unwrap();
    assert_eq!(store.lease("purge").await.unwrap().unwrap().finished_at, None);
    assert!(store.take_lease("purge", "b", minutes(5)).await.unwrap());

    let before = store.now().await.unwrap();
    store.release_lease("purge", "b", true).await.unwrap();
    let finished = store.lease("purge").await.unwrap().unwrap().finished_at.unwrap();
    assert!(finished >= before);
    assert!(store.take_lease("purge", "a", minutes(5)).await.unwrap());
    let lease = store.lease("purge").await.unwrap().unwrap();
    assert_eq!(lease.finished_at, Some(finished), "kept while the next one works");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_take_a_lease_at_once_one_has_it(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for round in 0..10 {
        let name = format!("job-{round}");
        let tasks: Vec<_> = (0..8)
            .map(|holder| {
                let (store, name) = ((*store).clone(), name.clone());
                tokio::spawn(async move {
                    store.take_lease(&name, &holder.to_string(), minutes(5)).await.unwrap()
                })
            })
            .collect();
        let mut taken = 0;
        for task in tasks {
            taken += u32::from(task.await.unwrap());
        }
        assert_eq!(taken, 1);
    }
}

/// One that was taken while the clock was ahead must not hold the job back until it is so late.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_clock_that_was_ahead_is_free(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    store.take_lease("purge", "a", minutes(1)).await.unwrap();
    let lease = store.lease("purge").await.unwrap().unwrap();
    let [taken, until] = [lease.taken_at, lease.until].map(|time| store.raw().time(time + days(2)));
    store.raw().execute(&format!("UPDATE leases SET taken_at = {taken}, until = {until}")).await;
    assert!(store.take_lease("purge", "b", minutes(1)).await.unwrap());
    assert!(!store.take_lease("purge", "a", minutes(1)).await.unwrap());
}
