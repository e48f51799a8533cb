//! What was answered is kept: across restarts, lost connections and clocks that are set back.

use onceguard::config::{DatabaseUrl, SqliteLocation};
use onceguard::domain::{Claim, Outcome, Scope, Session, SessionState, Timestamp};
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

/// What a process that was killed left in the WAL may be in the system's memory only: it is in the
/// database, and synced, before anything is answered from it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_is_durable_before_it_is_answered_from() {
    let killed = Sqlite.store().await;
    let spent = in_session(opened(&killed, a_session()).await.id, a_nonce());
    assert_eq!(claim(&killed, &spent).await.as_str(), "accepted");
    let DatabaseUrl::Sqlite(SqliteLocation::File(from)) = killed.url() else { panic!("a file") };
    let (left, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = |folder: &tempfile::TempDir| folder.path().join("test.db");
    let open = async |folder: &tempfile::TempDir| {
        store_at(&DatabaseUrl::Sqlite(SqliteLocation::File(file(folder)))).await
    };
    std::fs::copy(from, file(&left)).unwrap();
    std::fs::copy(from.with_extension("db-wal"), left.path().join("test.db-wal")).unwrap();

    let store = open(&left).await;
    std::fs::copy(file(&left), file(&cut)).unwrap();
    let without_its_wal = open(&cut).await;
    for store in [store, without_its_wal] {
        assert_eq!(claim(&store, &spent).await.as_str(), "replayed");
        store.close().await;
    }
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
    store.clock().step(chrono::Duration::minutes(-30));
    spent
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_records_the_latest_expiry_of_what_it_removed(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let expiries = [60, 90, 70, 7200];
    for seconds in expiries {
        let claimed = by_signer(&a_did(), a_nonce(), in_seconds(&store, seconds).await);
        assert_eq!(claim(&store, &claimed).await.as_str(), "accepted");
    }
    let before = store.history().await.unwrap().purged_until;
    let now = store.now().await.unwrap();
    assert!(before.is_none_or(|until| until < now), "{before:?}");
    store.pass(minutes(10)).await;
    let step = PurgeStep::DeleteSignerNonces { margin: minutes(1) };
    assert_eq!(purge_batch(&store, step, 10).await.signer_nonces_deleted, 3);
    let until = store.steady(store.history().await.unwrap().purged_until.unwrap());
    let after = (until - now).num_seconds();
    assert!((89..=95).contains(&after), "{after}");
    // Another purge, which removes what had expired earlier, lowers nothing.
    let later = claim(&store, &by_signer(&a_did(), a_nonce(), in_seconds(&store, 1).await)).await;
    assert_eq!(later.as_str(), "accepted");
    store.pass(minutes(2)).await;
    assert_eq!(purge_batch(&store, step, 10).await.signer_nonces_deleted, 1);
    assert!(store.steady(store.history().await.unwrap().purged_until.unwrap()) > until);
}

/// Whatever the clock says: on PostgreSQL the database's may have been ahead, too.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_expires_no_later_than_what_was_purged_is_refused(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let client = &session.client_did;
    let until = in_seconds(&store, 60).await;
    let after = until + chrono::Duration::microseconds(1);
    let kept = by_signer(client, a_nonce(), after);
    assert_eq!(claim(&store, &kept).await.as_str(), "accepted");
    let literal = store.raw().time(until);
    store.raw().execute(&format!("UPDATE history SET purged_until = {literal}")).await;
    let in_the_session = |expires_at| Claim {
        scope: Scope::Signer { did: client.clone(), expires_at, session: Some(session.id) },
        ..by_signer(client, a_nonce(), expires_at)
    };
    let strangers = [a_did(), a_did()];
    for (claimed, outcome) in [
        (&by_signer(&strangers[0], a_nonce(), until), "expired"),
        (&by_signer(client, a_nonce(), until), "expired"),
        (&in_the_session(until), "expired"),
        (&kept, "replayed"),
        (&by_signer(&strangers[1], a_nonce(), after), "accepted"),
        (&by_signer(client, a_nonce(), after), "accepted"),
        (&in_the_session(after), "accepted"),
    ] {
        assert_eq!(claim(&store, claimed).await.as_str(), outcome, "{claimed:?}");
    }
    // What is refused leaves nothing behind.
    let key = store.raw().signer(strangers[0].signer_key());
    let counters = format!("count(*) FROM signers WHERE signer = {key}");
    assert_eq!(store.raw().number(&counters).await, 0);
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
    store.clock().step(chrono::Duration::minutes(-30));
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
