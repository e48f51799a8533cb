//! What was answered is kept: across restarts, lost connections and clocks that are set back.

use onceguard::domain::{Claim, Outcome, Session, SessionState, Timestamp};
use onceguard::storage::{PurgeStep, Store, StoreError};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    ChaosProxy, Cut, Limits, TestStore, a_did, a_nonce, a_session, ask_all, by_signer, claim,
    database_url, in_seconds, in_session, minutes, opened, outcome, purge_batch, read, store_at,
    with_key,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_nothing(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store_with(Limits { quota_per_signer: 1 }).await;
    let mut new = a_session();
    (new.max_claims, new.idle_timeout_seconds) = (Some(1), Some(600));
    let session = opened(&store, new).await;
    let expires_at = in_seconds(&store, 300).await;
    let spent =
        [in_session(session.id, a_nonce()), by_signer(&session.client_did, a_nonce(), expires_at)];
    for claimed in &spent {
        assert_eq!(claim(&store, claimed).await.as_str(), "accepted");
    }
    let before = read(&store, session.id).await;
    store.close().await;

    let store = store.another().await;
    for claimed in &spent {
        assert_eq!(claim(&store, claimed).await.as_str(), "replayed");
    }
    for claimed in
        [in_session(session.id, a_nonce()), by_signer(&session.client_did, a_nonce(), expires_at)]
    {
        assert_eq!(claim(&store, &claimed).await.as_str(), "claim_quota_reached");
    }
    let mut after = read(&store, session.id).await;
    after.observed_at = before.observed_at;
    assert_eq!(after, before);
    store.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_accepts_nothing(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    store.close().await;
    let asked = ask_all(&store, &[in_session(session.id, a_nonce())]).await;
    assert!(matches!(asked[0], Err(StoreError::Unavailable(_))), "{asked:?}");
    assert!(matches!(store.session(session.id).await, Err(StoreError::Unavailable(_))));
}

/// A signer's claim that expired and was purged, after which the clock was set back.
async fn purged_claim(store: &TestStore) -> Claim {
    let spent = by_signer(&a_did(), a_nonce(), in_seconds(store, 60).await);
    assert_eq!(claim(store, &spent).await.as_str(), "accepted");
    store.pass(minutes(10)).await;
    let step = PurgeStep::DeleteSignerNonces { margin: minutes(1) };
    assert_eq!(purge_batch(store, step, 10).await.signer_nonces_deleted, 1);
    store.clock().shift(chrono::Duration::minutes(-30));
    spent
}

/// SQLite has no clock of its own. A nonce that the purge removed as expired must not become
/// acceptable because the machine's clock was set back.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_reopens_nothing(#[values(Sqlite, Memory)] on: Database) {
    let store = on.store().await;
    let spent = purged_claim(&store).await;
    assert_eq!(claim(&store, &spent).await.as_str(), "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_reopens_nothing_after_a_restart() {
    let store = Sqlite.store().await;
    let spent = purged_claim(&store).await;
    store.close().await;
    let store = store.another().await;
    assert_eq!(claim(&store, &spent).await.as_str(), "expired");
    store.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_revives_no_session(#[values(Sqlite, Memory)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    store.pass(minutes(61)).await;
    assert_ne!(read(&store, session.id).await.state(), SessionState::Active);
    store.clock().shift(chrono::Duration::minutes(-30));
    assert_ne!(read(&store, session.id).await.state(), SessionState::Active);
    let outcome = claim(&store, &in_session(session.id, a_nonce())).await;
    assert_eq!(outcome.as_str(), "session_expired");
}

/// A store on a fresh PostgreSQL database through a proxy, and the proxy.
async fn behind_a_proxy(direct: &TestStore) -> (Store, ChaosProxy) {
    let url = direct.postgres_url();
    let proxy = ChaosProxy::in_front_of(&url).await;
    let store = store_at(&database_url(&proxy.url(&url))).await;
    (store, proxy)
}

/// One claim of each kind, with keys, and what commits it: its one statement, or a `COMMIT`.
struct Kinds {
    plain: Session,
    counted: Session,
    expires_at: Timestamp,
}

impl Kinds {
    async fn open(store: &Store) -> Self {
        let mut counted = a_session();
        counted.max_claims = Some(10);
        let kinds = Self {
            plain: opened(store, a_session()).await,
            counted: opened(store, counted).await,
            expires_at: in_seconds(store, 300).await,
        };
        // Prepares their statements.
        for (claimed, _) in kinds.claims(1) {
            assert_eq!(claim(store, &claimed).await.as_str(), "accepted");
        }
        kinds
    }

    fn claims(&self, key: u8) -> [(Claim, Vec<u8>); 3] {
        let statement = with_key(in_session(self.plain.id, a_nonce()), key);
        let committed_by = statement.nonce.as_str().into();
        let signer = &self.plain.client_did;
        [
            (statement, committed_by),
            (with_key(in_session(self.counted.id, a_nonce()), key), b"COMMIT".into()),
            (with_key(by_signer(signer, a_nonce(), self.expires_at), key), b"COMMIT".into()),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_an_unknown_outcome_and_a_repeat_tells_the_truth() {
    let direct = Postgres.store().await;
    let (store, proxy) = behind_a_proxy(&direct).await;
    let kinds = Kinds::open(&store).await;
    for (number, (claimed, committed_by)) in kinds.claims(2).into_iter().enumerate() {
        proxy.lose_answer_to(&committed_by);
        let asked = ask_all(&store, std::slice::from_ref(&claimed)).await;
        assert_eq!(proxy.answers_lost(), number as u64 + 1, "kind {number} was sent");
        assert!(matches!(asked[0], Err(StoreError::OutcomeUnknown(_))), "{number}: {asked:?}");
        // The store recovers by itself, and whatever happened, the repeat is told.
        let repeated = claim(&store, &claimed).await;
        let Outcome::Accepted(accepted) = repeated else { panic!("{number}: {repeated:?}") };
        assert!(accepted.repeated, "it was committed");
        let without_key = Claim { idempotency: None, ..claimed };
        let first_used_at = accepted.used_at;
        assert_eq!(claim(&direct, &without_key).await, Outcome::Replayed { first_used_at });
    }
    assert_eq!(read(&direct, kinds.counted.id).await.claims, 2, "counted once each");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_lost_before_the_commit_leaves_nothing() {
    let direct = Postgres.store().await;
    let (store, proxy) = behind_a_proxy(&direct).await;
    let kinds = Kinds::open(&store).await;
    let [_, (counted, _), (by_signer, _)] = kinds.claims(2);
    // A claim in a session is sent twice: that the session is counted is found out first.
    for (claimed, skip) in [(counted, 1), (by_signer, 0)] {
        proxy.cut_at(claimed.nonce.as_str().as_bytes(), skip, Cut::BeforeTheAnswer);
        let asked = ask_all(&store, std::slice::from_ref(&claimed)).await;
        assert!(matches!(asked[0], Err(StoreError::Unavailable(_))), "{asked:?}");
        let again = claim(&store, &claimed).await;
        assert!(matches!(again, Outcome::Accepted(a) if !a.repeated), "{again:?}");
    }
    assert_eq!(read(&direct, kinds.counted.id).await.claims, 2);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_are_replaced() {
    let direct = Postgres.store().await;
    let (store, proxy) = behind_a_proxy(&direct).await;
    let session = opened(&store, a_session()).await;
    for round in 0..3 {
        proxy.cut();
        let claimed = with_key(in_session(session.id, a_nonce()), 1);
        // The first may meet the dead connection; then it says so, and nothing is accepted twice.
        let mut asked = ask_all(&store, std::slice::from_ref(&claimed)).await.remove(0);
        for _ in 0..5 {
            if asked.is_ok() {
                break;
            }
            asked = ask_all(&store, std::slice::from_ref(&claimed)).await.remove(0);
        }
        let facts = asked.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(outcome(&claimed, &facts).as_str(), "accepted");
        let stored = direct.session_nonce(session.id, &claimed.nonce).await.unwrap();
        assert_eq!(stored, facts.row);
    }
    store.close().await;
}
