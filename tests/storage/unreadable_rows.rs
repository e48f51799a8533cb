//! A row that cannot be read fails what needs it, and nothing that is asked together with it.

use std::fmt::Debug;

use onceguard::domain::{
    Claim, Cursor, DidFilter, End, EndReason, EventFilter, Page, PageRequest, Scope, SessionFilter,
    SessionState, StateFilter,
};
use onceguard::storage::{PurgeStep, StoreError};
use rstest::rstest;

use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    TestStore, a_did, a_nonce, a_reading, a_session, an_event, ask_all, by_signer, claim_all, days,
    in_seconds, in_session, naming, nonce, opened, purge_batch, read,
};

/// Makes a change that the schema's rules forbid.
async fn break_rows(store: &TestStore, on: Database, sql: &str) {
    let (before, after) = match on {
        Postgres => (
            "ALTER TABLE nonces DROP CONSTRAINT IF EXISTS nonces_idempotency_length;
             ALTER TABLE signer_nonces DROP CONSTRAINT IF EXISTS signer_nonces_idempotency_length;
             ALTER TABLE sessions DROP CONSTRAINT IF EXISTS sessions_end_reason_known;
             ALTER TABLE dids DROP CONSTRAINT IF EXISTS dids_key_length",
            "SELECT 1",
        ),
        _ => ("PRAGMA ignore_check_constraints = ON", "PRAGMA ignore_check_constraints = OFF"),
    };
    for sql in [before, sql, after] {
        store.raw().execute(sql).await;
    }
}

type Claiming = Box<dyn Fn(&str) -> Claim>;

/// A claim of every kind, with this nonce.
struct Scopes(Vec<Claiming>);

impl Scopes {
    async fn open(store: &TestStore) -> Self {
        let plain = opened(store, a_session()).await.id;
        let mut new = a_session();
        new.max_claims = Some(100);
        let counted = opened(store, new).await;
        let expires_at = in_seconds(store, 300).await;
        let (one, another, counted) = (a_did(), counted.client_did, counted.id);
        Self(vec![
            Box::new(move |text| in_session(plain, nonce(text))),
            Box::new(move |text| in_session(counted, nonce(text))),
            Box::new(move |text| by_signer(&one, nonce(text), expires_at)),
            Box::new(move |text| naming(by_signer(&another, nonce(text), expires_at), counted)),
        ])
    }

    fn claims(&self, nonce: &str) -> Vec<Claim> {
        self.0.iter().map(|claim| claim(nonce)).collect()
    }
}

#[rstest]
#[case(Sqlite, "digest")]
#[case(Sqlite, "time")]
#[case(Postgres, "digest")]
#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_that_cannot_be_read_fails_its_own_claim(
    #[case] on: Database,
    #[case] broken: &str,
) {
    let store = on.store().await;
    let scopes = Scopes::open(&store).await;
    claim_all(&store, &scopes.claims("broken")).await;
    claim_all(&store, &scopes.claims("used")).await;
    for table in [store.raw().session_nonces(), "signer_nonces"] {
        let set = match (on, broken) {
            (_, "time") => "used_at = -9223372036854775807",
            (Postgres, _) => r"idempotency = '\x00'",
            _ => "idempotency = x'00'",
        };
        let sql = format!("UPDATE {table} SET {set} WHERE nonce = 'broken'");
        break_rows(&store, on, &sql).await;
    }
    let mut claims = scopes.claims("used");
    claims.extend(scopes.claims("broken"));
    claims.extend(scopes.claims("fresh"));
    let answers = ask_all(&store, &claims).await;
    for (claim, answer) in claims.iter().zip(answers) {
        match claim.nonce.as_str() {
            "broken" => {
                assert!(matches!(answer, Err(StoreError::Unexpected(_))), "{claim:?}: {answer:?}");
            }
            nonce => {
                let inserted = answer.as_ref().map(|facts| facts.inserted);
                assert_eq!(inserted, Ok(nonce == "fresh"), "{claim:?}: {answer:?}");
            }
        }
    }
    for outcome in claim_all(&store, &scopes.claims("fresh")).await {
        assert_eq!(outcome.as_str(), "replayed");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_read_fails_its_own_claims(
    #[values(Sqlite, Postgres)] on: Database,
    #[values(None, Some(10))] max_claims: Option<u64>,
) {
    let store = on.store().await;
    let mut new = a_session();
    new.max_claims = max_claims;
    let broken = opened(&store, new).await;
    let (party, broken) = (broken.client_did, broken.id);
    let whole = Scopes::open(&store).await;
    let id = store.raw().id(broken);
    let sql = match on {
        Postgres => {
            format!("UPDATE sessions SET ended_at = now(), end_reason = 'boredom' WHERE id = {id}")
        }
        _ => format!(
            "UPDATE sessions SET ended_at = created_at + 1, end_reason = 'boredom' WHERE id = {id}"
        ),
    };
    break_rows(&store, on, &sql).await;
    let expires_at = in_seconds(&store, 300).await;
    let mut claims = whole.claims("n");
    claims.push(in_session(broken, a_nonce()));
    claims.push(naming(by_signer(&party, a_nonce(), expires_at), broken));
    let is_broken = |claim: &Claim| match &claim.scope {
        Scope::Session(id) => *id == broken,
        Scope::Signer { session, .. } => *session == Some(broken),
        Scope::Namespace { .. } => false,
    };
    let answers = ask_all(&store, &claims).await;
    for (claim, answer) in claims.iter().zip(answers) {
        if is_broken(claim) {
            assert!(matches!(answer, Err(StoreError::Unexpected(_))), "{claim:?}: {answer:?}");
        } else {
            assert!(answer.as_ref().is_ok_and(|facts| facts.inserted), "{claim:?}: {answer:?}");
        }
    }
}

/// Everything that a list has, in pages of one item.
async fn pages<T: Debug, F>(list: impl Fn(PageRequest) -> F) -> Vec<T>
where
    F: Future<Output = Page<T>>,
{
    let (mut items, mut after): (_, Option<Cursor>) = (Vec::new(), None);
    for _ in 0..100 {
        let page = list(PageRequest { limit: 1, after }).await;
        assert!(page.items.len() <= 1, "{page:?}");
        items.extend(page.items);
        let Some(next) = page.next else { return items };
        after = Some(next);
    }
    panic!("a list that never ends: {items:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_without_the_rows_that_cannot_be_read(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let store = on.store().await;
    let (mut sessions, mut dids) = (Vec::new(), Vec::new());
    for number in 0..4 {
        sessions.push(opened(&store, a_session()).await.id);
        let did = a_did();
        store.record_did(a_reading(&store, &did, number).await).await.unwrap();
        dids.push(did);
    }
    // The second, and the last, which no cursor may stop at.
    for broken in [3, 1] {
        let id = store.raw().id(sessions.remove(broken));
        let did = dids.remove(broken);
        let sql = format!("UPDATE sessions SET client_did = 'nonsense' WHERE id = {id}");
        break_rows(&store, on, &sql).await;
        let sql = format!("UPDATE dids SET key_type = 'riddle' WHERE did = '{did}'");
        break_rows(&store, on, &sql).await;
    }
    let all = SessionFilter { client_did: None, server_did: None, state: StateFilter::All };
    let listed = pages(async |page| store.list_sessions(&all, &page).await.unwrap()).await;
    sessions.reverse();
    assert_eq!(listed.iter().map(|session| session.id).collect::<Vec<_>>(), sessions);
    let all = DidFilter::default();
    let listed = pages(async |page| store.list_dids(&all, &page).await.unwrap()).await;
    assert_eq!(listed.into_iter().map(|record| record.did).collect::<Vec<_>>(), dids);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_that_cannot_be_read_can_be_revoked(#[values(Sqlite, Postgres)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let did = &session.client_did;
    store.record_did(a_reading(&store, did, 1).await).await.unwrap();
    let sql = format!("UPDATE dids SET key_type = 'riddle' WHERE did = '{did}'");
    break_rows(&store, on, &sql).await;
    for first in [true, false] {
        let event = an_event("onceguard.did.revoked", did);
        assert_eq!(store.revoke_did(did, event).await.unwrap().first, first);
    }
    assert_eq!(store.end_sessions_of_revoked(Some(did), None, 10).await, Ok(1));
    let state = read(&store, session.id).await.state();
    assert!(
        matches!(state, SessionState::Over(End { reason: EndReason::DidRevoked, .. })),
        "{state:?}"
    );
}

/// On PostgreSQL the purge reads no row.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_read_does_not_stop_the_purge() {
    let store = Sqlite.store().await;
    let broken = opened(&store, a_session()).await.id;
    let whole = opened(&store, a_session()).await.id;
    store.pass(days(1)).await;
    let id = store.raw().id(broken);
    let sql = "UPDATE sessions SET last_activity = -9223372036854775807 WHERE id = ";
    break_rows(&store, Sqlite, &format!("{sql}{id}")).await;
    let purged = purge_batch(&store, PurgeStep::EndOverdueSessions, 10).await;
    assert_eq!((purged.sessions_expired, purged.sessions_idle), (1, 0));
    let state = read(&store, whole).await.state();
    assert!(
        matches!(state, SessionState::Over(End { reason: EndReason::Expired, .. })),
        "{state:?}"
    );
}

/// A log that leaves an event out would look whole. PostgreSQL's types have no event that cannot be read.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_read_fails_the_reading_of_the_log() {
    let store = Sqlite.store().await;
    for subject in ["one", "two", "three"] {
        store.publish(vec![an_event("test", &subject)]).await.unwrap();
    }
    assert_eq!(store.newest_events(10).await.unwrap().len(), 3);
    store.raw().execute("DROP TRIGGER events_are_append_only").await;
    let broken = "UPDATE events SET at = -9223372036854775807 WHERE subject = 'two'";
    break_rows(&store, Sqlite, broken).await;
    let read = store.events(&EventFilter::default(), 0, 10).await;
    assert!(matches!(read, Err(StoreError::Unexpected(_))), "{read:?}");
    let before = store.events(&EventFilter::default(), 0, 1).await.unwrap();
    assert_eq!(before[0].subject.as_deref(), Some("one"));
}
