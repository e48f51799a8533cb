//! How jobs share a transaction, and how the failure of one affects the others.

use std::sync::mpsc::{SyncSender, sync_channel};

use diesel::result::{DatabaseErrorKind, Error};

use super::*;
use crate::clock::Clock;
use crate::config::SqliteLocation;
use crate::domain::{Ask, Claim, Did, Nonce, Scope};
use crate::storage::sqlite::connection::target::{Role, Target};
use crate::storage::sqlite::migrations;

struct Harness {
    writer: Writer,
    jobs: SyncSender<Job>,
    clock: Clock,
}

fn harness() -> Harness {
    let target = Target::prepare(&SqliteLocation::Memory).unwrap();
    let mut conn = target.connect(Role::Writer).unwrap();
    migrations::up(&mut conn).unwrap();
    let (jobs, waiting) = sync_channel(16);
    let clock = Clock::system();
    let writer = Writer {
        conn,
        jobs: waiting,
        clock: Arc::new(DatabaseClock::new(clock.clone())),
        limits: ClaimLimits { quota_per_signer: 100, quota_per_namespace: 100 },
        tally: Arc::new(NonceTally::new()),
        changes: watch::channel(0).0,
        checkpointer: None,
    };
    Harness { writer, jobs, clock }
}

impl Harness {
    fn add(&self, sql: &'static str) -> oneshot::Receiver<Result<Timestamp>> {
        let (job, answer) = write(move |conn, now| conn.batch_execute(sql).map(|()| now));
        self.jobs.send(job).unwrap();
        answer
    }

    fn add_claim(&self, nonce: &str) -> oneshot::Receiver<Result<Vec<Result<Facts>>>> {
        let did = Did::parse("did:web:a").unwrap();
        let expires_at = self.clock.now() + chrono::Duration::hours(1);
        let claim = Claim {
            scope: Scope::Signer { did, expires_at, issued_at: None, session: None },
            nonce: Nonce::parse(nonce).unwrap(),
            idempotency: None,
        };
        let (reply, answer) = oneshot::channel();
        let asks = vec![OwnedAsk::from(&Ask { claim: &claim, wants_row: false, counted: false })];
        self.jobs.send(Job::Claims(Claims { asks, reply })).unwrap();
        answer
    }

    /// Runs one group of the waiting jobs.
    fn work(&mut self) {
        let first = self.writer.jobs.try_recv().unwrap();
        self.writer.work(first);
    }

    fn keys(&mut self) -> Vec<String> {
        use crate::storage::sqlite::schema::sealing_keys::dsl::{key_id, sealing_keys};
        sealing_keys.select(key_id).order(key_id).load(&mut self.writer.conn).unwrap()
    }
}

const ADD_A: &str = "INSERT INTO sealing_keys VALUES ('a', x'00')";
const ADD_B: &str = "INSERT INTO sealing_keys VALUES ('b', x'00')";

#[test]
fn what_waits_is_one_group_with_one_time() {
    let mut harness = harness();
    let mut claim = harness.add_claim("n");
    let (mut a, mut b) = (harness.add(ADD_A), harness.add(ADD_B));
    let mut again = harness.add_claim("n");
    harness.work();
    let first = claim.try_recv().unwrap().unwrap().pop().unwrap().unwrap();
    let second = again.try_recv().unwrap().unwrap().pop().unwrap().unwrap();
    assert!(first.inserted && !second.inserted);
    assert_eq!(second.row, first.row);
    assert_eq!(second.at, first.at);
    assert_eq!(a.try_recv().unwrap(), Ok(first.at));
    assert_eq!(b.try_recv().unwrap(), Ok(first.at));
    assert_eq!(harness.keys(), ["a", "b"]);
}

#[test]
fn a_refused_write_fails_alone() {
    let mut harness = harness();
    let mut a = harness.add(ADD_A);
    let mut bad = harness.add("INSERT INTO sealing_keys VALUES ('x', x'00'), ('a', x'00')");
    let mut b = harness.add(ADD_B);
    let mut claim = harness.add_claim("n");
    harness.work();
    assert!(a.try_recv().unwrap().is_ok());
    assert!(matches!(bad.try_recv().unwrap(), Err(StoreError::Unexpected(_))));
    assert!(b.try_recv().unwrap().is_ok());
    assert!(claim.try_recv().unwrap().is_ok());
    assert_eq!(harness.keys(), ["a", "b"]);
}

#[test]
fn a_failure_of_the_database_fails_all_and_keeps_nothing() {
    let mut harness = harness();
    let mut a = harness.add(ADD_A);
    let mut claim = harness.add_claim("n");
    let (job, mut broken) = write(|conn, _| -> QueryResult<()> {
        conn.batch_execute("ROLLBACK")?;
        let message = Box::new("disk I/O error".to_owned());
        Err(Error::DatabaseError(DatabaseErrorKind::Unknown, message))
    });
    harness.jobs.send(job).unwrap();
    let mut b = harness.add(ADD_B);
    harness.work();
    assert!(matches!(a.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
    assert!(matches!(b.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
    assert!(matches!(broken.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
    assert!(matches!(claim.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
    assert!(harness.keys().is_empty());

    let (mut again, mut fresh) = (harness.add(ADD_A), harness.add_claim("n"));
    harness.work();
    assert!(again.try_recv().unwrap().is_ok());
    assert!(fresh.try_recv().unwrap().unwrap().pop().unwrap().unwrap().inserted);
}

#[test]
fn a_commit_that_fails_fails_all_and_keeps_nothing() {
    let mut harness = harness();
    let mut a = harness.add(ADD_A);
    let mut dangling = harness.add(
        "PRAGMA defer_foreign_keys = ON;
         INSERT INTO session_nonces VALUES (0, 'n', 1, NULL)",
    );
    harness.work();
    assert!(matches!(a.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
    assert!(matches!(dangling.try_recv().unwrap(), Err(StoreError::Unavailable(_))));
    assert!(harness.keys().is_empty());
    let mut again = harness.add(ADD_A);
    harness.work();
    assert!(again.try_recv().unwrap().is_ok());
}

#[test]
fn what_nobody_waits_for_is_left_out() {
    let mut harness = harness();
    drop(harness.add(ADD_A));
    drop(harness.add_claim("n"));
    let (mut b, mut claim) = (harness.add(ADD_B), harness.add_claim("n"));
    harness.work();
    assert!(b.try_recv().unwrap().is_ok());
    assert!(claim.try_recv().unwrap().unwrap().pop().unwrap().unwrap().inserted);
    assert_eq!(harness.keys(), ["b"]);
}

#[test]
fn the_last_room_goes_to_who_asked_first() {
    let mut harness = harness();
    harness.writer.limits.quota_per_signer = 1;
    let (mut z, mut a) = (harness.add_claim("z"), harness.add_claim("a"));
    harness.work();
    assert!(z.try_recv().unwrap().unwrap().pop().unwrap().unwrap().inserted);
    let refused = a.try_recv().unwrap().unwrap().pop().unwrap().unwrap();
    assert_eq!(refused.refusal, Some(crate::domain::Refusal::ClaimQuotaReached));
}
