//! What another transaction holds is in the way of the sessions that need it, and of nothing else;
//! and once it is free again, they go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use onceguard::domain::{Actor, Changed, Did, NewSession, Opened, Outcome, Session, SessionId};
use onceguard::services::{Claims, ServiceError, Sessions};
use onceguard::storage::StoreError;
use rstest::rstest;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::services::claims;
use crate::support::Database::Postgres;
use crate::support::{
    TestStore, a_did, a_nonce, a_session, asked, in_session, minutes, opened, sessions_of, wait_for,
};

/// Only a test that fails waits so long.
const AT_ONCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Party,
    Session,
}

/// Sessions and parties of which the first is held.
struct Scene {
    store: TestStore,
    sessions: Sessions,
    claims: Claims,
    parties: [Did; 2],
    idle: [SessionId; 2],
}

impl Scene {
    async fn open() -> Self {
        let store = Postgres.store().await;
        let (sessions, claims) = (sessions_of(&store), claims(&store));
        let idle = [opened(&store, a_session()).await.id, opened(&store, a_session()).await.id];
        // Their activity must be written down.
        store.pass(minutes(2)).await;
        Self { store, sessions, claims, parties: [a_did(), a_did()], idle }
    }

    async fn hold(&self, held: Held) {
        let raw = self.store.raw();
        let lock = match held {
            Held::Party => {
                format!("SELECT pg_advisory_xact_lock(hashtextextended('{}', 0))", self.parties[0])
            }
            Held::Session => format!(
                "UPDATE sessions SET metadata = metadata WHERE id = {}",
                raw.id(self.idle[0])
            ),
        };
        raw.execute(&format!("BEGIN; {lock}")).await;
    }

    fn new_with(&self, party: usize) -> NewSession {
        NewSession { server_did: self.parties[party].clone(), ..a_session() }
    }

    async fn open_with(&self, party: usize) -> Result<Session, ServiceError> {
        match self.sessions.open(asked(self.new_with(party))).await? {
            Opened::Created(session) => Ok(session),
            other => panic!("it was not opened: {other:?}"),
        }
    }

    /// Opens, reads, touches, claims in and ends a session that has nothing to do with the first.
    async fn unrelated(&self) {
        let session = self.open_with(1).await.unwrap().id;
        assert!(self.sessions.read(session).await.unwrap().is_some());
        assert!(self.sessions.read(self.idle[0]).await.unwrap().is_some(), "it needs no lock");
        for id in [session, self.idle[1]] {
            let touched = self.sessions.touch(id).await.unwrap();
            assert!(matches!(touched, Changed::Done(_)), "{touched:?}");
        }
        let claimed = self.claims.claim(vec![in_session(session, a_nonce())]).await.unwrap();
        assert!(matches!(claimed[..], [Outcome::Accepted(_)]), "{claimed:?}");
        let ended = self.sessions.end(session, Some(&Actor::Operator)).await.unwrap();
        assert!(matches!(ended, Changed::Done(_)), "{ended:?}");
    }

    /// What needs what is held.
    async fn related(&self, held: Held) -> Vec<Result<(), ServiceError>> {
        let changed = |changed| match changed {
            Changed::Done(_) => (),
            other => panic!("it is live: {other:?}"),
        };
        match held {
            Held::Party => {
                let openings = join_all((0..3).map(|_| self.open_with(0))).await;
                openings.into_iter().map(|opened| opened.map(drop)).collect()
            }
            Held::Session => {
                let (id, ended) = (self.idle[0], Some(&Actor::Operator));
                let calls = join(self.sessions.touch(id), self.sessions.end(id, ended)).await;
                vec![calls.0.map(changed), calls.1.map(changed)]
            }
        }
    }
}

fn is_locked(answer: &Result<(), ServiceError>) -> bool {
    matches!(answer, Err(ServiceError::Store(StoreError::Locked(_))))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_holds_up_its_own_calls_only(
    #[values(Held::Party, Held::Session)] held: Held,
) {
    let scene = Arc::new(Scene::open().await);
    scene.hold(held).await;
    let (over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut hammering = JoinSet::new();
    for _ in 0..32 {
        let (scene, over, refused) = (scene.clone(), over.clone(), refused.clone());
        hammering.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                for answer in scene.related(held).await {
                    assert!(is_locked(&answer), "{answer:?}");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let others = async {
        for _ in 0..40 {
            join_all((0..4).map(|_| scene.unrelated())).await;
            let waiting = "count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                AND datname = current_database()";
            scene.store.raw().execute("SELECT pg_stat_clear_snapshot()").await;
            let waiting = scene.store.raw().number(waiting).await;
            assert!(waiting <= 4, "{waiting} connections wait for what is held");
        }
    };
    timeout(AT_ONCE, others).await.expect("what does not need what is held waited for it");
    wait_for("calls that need it to be refused", async || {
        (refused.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = hammering.join_next().await {
        ended.unwrap();
    }
    let left = "count(*) FROM sessions WHERE ended_at IS NULL";
    let before = scene.store.raw().number(left).await;
    scene.store.raw().execute("ROLLBACK").await;
    assert_eq!(scene.store.raw().number(left).await, before, "what was refused came later");
    match held {
        Held::Party => assert!(scene.related(held).await.iter().all(Result::is_ok)),
        Held::Session => {
            let ended = scene.sessions.end(scene.idle[0], None).await.unwrap();
            assert!(matches!(ended, Changed::Done(_)), "{ended:?}");
        }
    }
}

/// The lock is free again while the calls wait for it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_goes_on_when_the_lock_is_free(
    #[values(Held::Party, Held::Session)] held: Held,
) {
    let scene = Scene::open().await;
    scene.hold(held).await;
    let raw = scene.store.raw();
    let release = async {
        wait_for("a call to wait for the lock", async || {
            raw.execute("SELECT pg_stat_clear_snapshot()").await;
            let waiting = "count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                AND datname = current_database()";
            (raw.number(waiting).await > 0).then_some(())
        })
        .await;
        raw.execute("ROLLBACK").await;
    };
    let calls = async {
        match held {
            Held::Party => scene.related(held).await,
            Held::Session => vec![scene.sessions.touch(scene.idle[0]).await.map(drop)],
        }
    };
    let (answers, ()) = join(calls, release).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// Too many wait: one more is refused at once, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_line_refuses_at_once() {
    let scene = Arc::new(Scene::open().await);
    scene.store.raw().execute("BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE").await;
    let mut calls = JoinSet::new();
    for _ in 0..9_000 {
        let scene = scene.clone();
        calls.spawn(async move { scene.sessions.touch(scene.idle[0]).await.map(drop) });
    }
    let (mut overloaded, mut locked) = (0, 0);
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Err(ServiceError::Overloaded) => overloaded += 1,
            other if is_locked(&other) => locked += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(overloaded > 0 && locked > 0, "{overloaded} and {locked}");
    scene.store.raw().execute("ROLLBACK").await;
    scene.unrelated().await;
    scene.sessions.close().await;
    let refused = scene.sessions.touch(scene.idle[0]).await;
    assert_eq!(refused.map(drop), Err(ServiceError::Overloaded), "it is closed");
}
