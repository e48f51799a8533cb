//! An operator's transaction, or an instance that froze, keeps a row locked in PostgreSQL. That
//! delays only the work that needs the row. When the row is free again, nothing was lost.
//!
//! Statements may take a minute here, and what must not wait has half of that: only a test that
//! fails waits so long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use onceguard::clock::Clock;
use onceguard::domain::{Ask, Claim, Did, Outcome, Refusal, SessionId, Timestamp};
use onceguard::services::{Claims, ServiceError};
use onceguard::storage::{Asked, ClaimLimits, OnLock, Store, StoreError};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::instances::Pair;
use crate::services::{claims, metrics};
use crate::support::Database::Postgres;
use crate::support::{
    Caller, Home, TestStore, a_did, a_nonce, a_session_between, by_signer, database_config,
    in_seconds, in_session, naming, nonce, opened, wait_for,
};

const STATEMENT_TIMEOUT: Duration = Duration::from_mins(1);
const AT_ONCE: Duration = Duration::from_secs(30);

/// Scopes of every kind. Those of one lie still while the other's row is locked.
struct Scene {
    store: TestStore,
    queue: Claims,
    plain: SessionId,
    counted: [SessionId; 2],
    signers: [Did; 2],
    expires_at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
enum Row {
    CountedSession,
    Signer,
}

impl Scene {
    async fn open() -> Self {
        let store = Postgres.store().await;
        let mut config = database_config(store.url().clone());
        config.claim_statement_timeout = STATEMENT_TIMEOUT;
        let limits = ClaimLimits { quota_per_signer: 1_000_000, quota_per_namespace: 1_000_000 };
        let patient = Store::open(&config, limits, metrics(), Clock::system()).await.unwrap();
        let queue = claims(&patient);
        let signers = [a_did(), a_did()];
        let between = || a_session_between(&signers[0], &signers[1]);
        let plain = opened(&store, between()).await.id;
        let mut counted = Vec::new();
        for _ in 0..2 {
            let mut new = between();
            new.max_claims = Some(1_000_000);
            counted.push(opened(&store, new).await.id);
        }
        let counted = [counted[0], counted[1]];
        let expires_at = in_seconds(&store, 3_000).await;
        let scene = Self { store, queue, plain, counted, signers, expires_at };
        // Every signer has its counter.
        accepted(&scene.queue, [0, 1].map(|which| scene.signed(which)).to_vec()).await;
        scene
    }

    fn signed(&self, which: usize) -> Claim {
        by_signer(&self.signers[which], a_nonce(), self.expires_at)
    }

    fn strangers(&self) -> Claim {
        by_signer(&a_did(), a_nonce(), self.expires_at)
    }

    /// A claim of every kind that needs nothing of the first scopes, and some of one kind.
    fn unrelated(&self) -> Vec<Claim> {
        vec![
            in_session(self.plain, a_nonce()),
            in_session(self.counted[1], a_nonce()),
            in_session(self.counted[1], a_nonce()),
            self.signed(1),
            self.signed(1),
            self.strangers(),
            naming(self.signed(1), self.plain),
            naming(self.signed(1), self.counted[1]),
        ]
    }

    /// Claims that need the locked row of the first scopes.
    fn of(&self, row: Row) -> Vec<Claim> {
        match row {
            Row::CountedSession => {
                vec![
                    in_session(self.counted[0], a_nonce()),
                    naming(self.signed(1), self.counted[0]),
                ]
            }
            Row::Signer => {
                vec![
                    self.signed(0),
                    naming(self.signed(0), self.plain),
                    naming(self.signed(0), self.counted[1]),
                ]
            }
        }
    }

    async fn lock(&self, row: Row) {
        let raw = self.store.raw();
        raw.execute(&match row {
            Row::CountedSession => format!(
                "BEGIN; UPDATE sessions SET metadata = metadata WHERE id = {}",
                raw.id(self.counted[0])
            ),
            Row::Signer => format!(
                "BEGIN; UPDATE signers SET live = live WHERE signer = {}",
                raw.signer(self.signers[0].signer_key())
            ),
        })
        .await;
    }
}

/// Claims each in a call of its own, all at once.
async fn each(queue: &Claims, claims: Vec<Claim>) -> Vec<Result<Outcome, ServiceError>> {
    let calls = claims.into_iter().map(|claim| queue.claim(vec![claim]));
    join_all(calls).await.into_iter().map(|answer| answer.map(|mut all| all.remove(0))).collect()
}

async fn accepted(queue: &Claims, claims: Vec<Claim>) {
    for outcome in each(queue, claims.clone()).await {
        assert!(matches!(outcome, Ok(Outcome::Accepted(a)) if !a.repeated), "{outcome:?}");
    }
    for outcome in each(queue, claims).await {
        assert!(matches!(outcome, Ok(Outcome::Replayed { .. })), "{outcome:?}");
    }
}

fn is_locked(outcome: &Result<Outcome, ServiceError>) -> bool {
    matches!(outcome, Err(ServiceError::Store(StoreError::Locked(_))))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_holds_up_its_own_claims_only(
    #[values(Row::CountedSession, Row::Signer)] row: Row,
) {
    let scene = Arc::new(Scene::open().await);
    scene.lock(row).await;
    let (over, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut hammering = JoinSet::new();
    for _ in 0..32 {
        let (scene, over, refused) = (scene.clone(), over.clone(), refused.clone());
        hammering.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                for outcome in each(&scene.queue, scene.of(row)).await {
                    assert!(is_locked(&outcome), "{outcome:?}");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let others = async {
        for _ in 0..50 {
            accepted(&scene.queue, scene.unrelated()).await;
            let together = scene.queue.claim(scene.unrelated()).await.unwrap();
            assert!(together.iter().all(|o| matches!(o, Outcome::Accepted(_))), "{together:?}");
            scene.store.raw().execute("SELECT pg_stat_clear_snapshot()").await;
            let waiting = "count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                AND datname = current_database()";
            let waiting = scene.store.raw().number(waiting).await;
            assert!(waiting <= 4, "{waiting} connections wait for the row");
        }
    };
    timeout(AT_ONCE, others).await.expect("what does not need the row waited for it");
    wait_for("claims that need the row to be refused", async || {
        (refused.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = hammering.join_next().await {
        ended.unwrap();
    }
    // In one call with others, it fails the call and is not accepted later.
    let late = scene.of(row);
    let mut mixed = scene.unrelated();
    mixed.extend(late.clone());
    let told = scene.queue.claim(mixed.clone()).await;
    let unknown = Err(ServiceError::Store(StoreError::OutcomeUnknown(String::new())));
    assert_eq!(told.map_err(without_text), unknown, "some were accepted");
    scene.store.raw().execute("ROLLBACK").await;
    accepted(&scene.queue, late).await;
    accepted(&scene.queue, scene.of(row)).await;
}

/// It locks none either: it would wait for one that is locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_waits_for_no_session() {
    let scene = Scene::open().await;
    scene.lock(Row::CountedSession).await;
    let claim = naming(scene.strangers(), scene.counted[0]);
    for on_lock in [OnLock::Skip, OnLock::Wait] {
        let ask = Ask { claim: &claim, wants_row: false, counted: false };
        let asked = scene.store.claim(&[ask], on_lock).await.remove(0).unwrap();
        let Asked::Decided(facts) = asked else { panic!("not decided: {asked:?}") };
        assert_eq!(facts.refusal, Some(Refusal::NotAParty));
    }
}

fn without_text(error: ServiceError) -> ServiceError {
    match error {
        ServiceError::Store(StoreError::OutcomeUnknown(_)) => {
            ServiceError::Store(StoreError::OutcomeUnknown(String::new()))
        }
        other => other,
    }
}

/// Two stores that share rows delay each other all the time, for a moment each.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_only_busy_refuses_nobody() {
    let scene = Arc::new(Scene::open().await);
    let queues = [scene.queue.clone(), claims(&scene.store.another().await)];
    let mut workers = JoinSet::new();
    for worker in 0..16 {
        let (scene, queue) = (scene.clone(), queues[worker % 2].clone());
        workers.spawn(async move {
            for _ in 0..40 {
                let mut claims = scene.of(Row::CountedSession);
                claims.extend(scene.of(Row::Signer));
                accepted(&queue, claims).await;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let counted = scene.store.raw().id(scene.counted[0]);
    let claims = format!("claims FROM sessions WHERE id = {counted}");
    assert_eq!(scene.store.raw().number(&claims).await, 16 * 40 * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncommitted_nonce_holds_up_its_own_claims_only() {
    let scene = Scene::open().await;
    let raw = scene.store.raw();
    raw.execute(&format!(
        "BEGIN; INSERT INTO nonces (session_id, nonce, used_at, expires_at) \
         SELECT id, 'open', now(), deadline FROM sessions WHERE id = {}",
        raw.id(scene.plain)
    ))
    .await;
    let mut claims: Vec<_> = (0..200).map(|_| in_session(scene.plain, a_nonce())).collect();
    claims.insert(100, in_session(scene.plain, nonce("open")));
    let mut outcomes = timeout(AT_ONCE, each(&scene.queue, claims)).await.unwrap();
    let open = outcomes.remove(100);
    assert!(is_locked(&open), "{open:?}");
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(Outcome::Accepted(_))), "{outcome:?}");
    }
    raw.execute("ROLLBACK").await;
    accepted(&scene.queue, vec![in_session(scene.plain, nonce("open"))]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_in_the_way_for_a_bounded_time_and_heals() {
    let scene = Scene::open().await;
    let raw = scene.store.raw();
    raw.execute("BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE").await;
    let late: Vec<_> = (0..20)
        .flat_map(|_| {
            [
                in_session(scene.plain, a_nonce()),
                in_session(scene.counted[0], a_nonce()),
                naming(scene.signed(0), scene.plain),
            ]
        })
        .collect();
    let outcomes = timeout(AT_ONCE, each(&scene.queue, late.clone())).await.unwrap();
    for outcome in outcomes {
        assert!(is_locked(&outcome), "{outcome:?}");
    }
    // These need no session.
    let signed = vec![scene.signed(0), scene.strangers()];
    timeout(AT_ONCE, accepted(&scene.queue, signed)).await.unwrap();
    raw.execute("ROLLBACK").await;
    accepted(&scene.queue, late).await;
}

/// Behaves like an instance that freezes while it holds the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    ClaimInCountedSession,
    ClaimBySigner,
    Change,
}

/// A statement that waits, in the middle of its transaction, until it is released.
const LINGER: &str = "
    CREATE TABLE let_go (whatever int);
    CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        WHILE NOT EXISTS (SELECT FROM let_go) LOOP PERFORM pg_sleep(0.01); END LOOP;
        RETURN NEW;
    END $$;
    CREATE TRIGGER linger BEFORE INSERT ON nonces
        FOR EACH ROW WHEN (NEW.nonce = 'frozen') EXECUTE FUNCTION linger();
    CREATE TRIGGER linger BEFORE INSERT ON signer_nonces
        FOR EACH ROW WHEN (NEW.nonce = 'frozen') EXECUTE FUNCTION linger();
    CREATE TRIGGER linger BEFORE UPDATE ON sessions
        FOR EACH ROW WHEN (NEW.metadata ? 'frozen') EXECUTE FUNCTION linger();";

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_froze_with_a_row_holds_up_its_own_claims_only(
    #[values(Deed::ClaimInCountedSession, Deed::ClaimBySigner, Deed::Change)] deed: Deed,
) {
    let home = Home::on(Postgres)
        .await
        .set("database.claim_statement_timeout_seconds", STATEMENT_TIMEOUT.as_secs())
        .set("database.statement_timeout_seconds", STATEMENT_TIMEOUT.as_secs());
    let raw = home.raw().await;
    raw.execute(LINGER).await;
    let pair = Pair::start(home).await;
    let [freezing, other] = &pair.callers;
    let frozen = other.open_with(json!({ "max_claims": 100_000 })).await.text_of("id");
    let scopes = Scopes::open(other).await;
    let signer = scopes.signer_with_counter(other).await;
    let of_session = |nonce: &str| json!({ "session_id": frozen, "nonce": nonce });
    let of_signer =
        |nonce: &str| json!({ "signer": signer, "nonce": nonce, "expires_at": scopes.expires_at });
    let claim = async |caller: &Caller, claim: Value| {
        caller.post("/v1/claims", &json!({ "claims": [claim] })).await
    };
    let needs_the_row = |nonce: &str| match deed {
        Deed::ClaimBySigner => of_signer(nonce),
        Deed::ClaimInCountedSession | Deed::Change => of_session(nonce),
    };

    let deed_done = {
        let (caller, path) = (freezing.clone(), format!("/v1/sessions/{frozen}"));
        let body = json!({ "claims": [needs_the_row("frozen")] });
        tokio::spawn(async move {
            match deed {
                Deed::Change => {
                    caller.patch(&path, &json!({ "metadata": { "frozen": true } })).await
                }
                _ => caller.post("/v1/claims", &body).await,
            }
        })
    };
    let in_database = async |what: &str, condition: &str| {
        let count = format!(
            "count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
        );
        wait_for(what, async || (raw.number(&count).await > 0).then_some(())).await;
    };
    in_database("the statement", "wait_event = 'PgSleep'").await;
    pair.freeze_first().await;
    raw.execute("INSERT INTO let_go VALUES (1)").await;

    let others = async {
        for _ in 0..30 {
            scopes.claims_are_accepted(other).await;
        }
    };
    timeout(AT_ONCE, others).await.expect("what does not need the row waited for it");
    wait_for("the row to be free again", async || {
        let answer = claim(other, needs_the_row(a_nonce().as_str())).await;
        if answer.status == 200 {
            assert_eq!(answer["results"][0]["outcome"], "accepted");
            return Some(());
        }
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
        answer.refused(503, "storage_unavailable");
        None
    })
    .await;

    pair.thaw_first();
    let told = deed_done.await.unwrap();
    assert_eq!(told.status, 503, "it lost its transaction: {told:?}");
    match deed {
        Deed::Change => {
            let session = other.get(&format!("/v1/sessions/{frozen}")).await.is(200);
            assert_eq!(session["metadata"], json!({}), "nothing was changed");
        }
        _ => {
            for outcome in ["accepted", "replayed"] {
                let answer = claim(other, needs_the_row("frozen")).await.is(200);
                assert_eq!(answer["results"][0]["outcome"], outcome);
            }
        }
    }
    // The one that was frozen goes on.
    scopes.claims_are_accepted(freezing).await;
}

/// Scopes that the frozen instance has nothing to do with.
struct Scopes {
    plain: String,
    counted: String,
    signer: Did,
    expires_at: String,
}

impl Scopes {
    async fn open(caller: &Caller) -> Self {
        let opened = caller.open_with(json!({})).await;
        let counted = caller.open_with(json!({ "max_claims": 100_000 })).await.text_of("id");
        let (plain, expires_at) = (opened.text_of("id"), opened.text_of("expires_at"));
        Self { plain, counted, signer: a_did(), expires_at }
    }

    async fn signer_with_counter(&self, caller: &Caller) -> String {
        let signer = a_did().to_string();
        let claim = json!({ "signer": signer, "nonce": "first", "expires_at": self.expires_at });
        caller.post("/v1/claims", &json!({ "claims": [claim] })).await.is(200);
        signer
    }

    /// Of each kind, in calls of their own.
    async fn claims_are_accepted(&self, caller: &Caller) {
        let nonce = a_nonce();
        let claims = [
            json!({ "session_id": self.plain, "nonce": nonce.as_str() }),
            json!({ "session_id": self.counted, "nonce": nonce.as_str() }),
            json!({
                "signer": self.signer.as_str(),
                "nonce": nonce.as_str(),
                "expires_at": self.expires_at,
            }),
        ];
        let calls = claims.map(|claim| async move {
            let answer = caller.post("/v1/claims", &json!({ "claims": [claim] })).await.is(200);
            assert_eq!(answer["results"][0]["outcome"], "accepted", "{answer:?}");
        });
        join_all(calls).await;
    }
}
