//! The connection to the database is lost during a claim. The caller is told that the outcome is
//! unknown, and learns it by its `Idempotency-Key`.

use onceguard::domain::{
    Actor, Changed, Claim, Did, NewSession, Nonce, Opened, Outcome, Scope, SessionId, Timestamp,
};
use onceguard::services::{ServiceError, Sessions};
use onceguard::storage::{Store, StoreError};
use rstest::rstest;
use serde_json::json;

use crate::load::{caller, ops};
use crate::services::claims;
use crate::support::{
    Caller, ChaosProxy, Cut, Database, Home, PostgresDatabase, RawSql, a_did, a_nonce, a_session,
    asked, by_signer, claim, database_url, in_seconds, in_session, nonce, opened, sessions_of,
    store_at, wait_for, with_key,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_with_the_same_key_gets_the_true_outcome() {
    let database = PostgresDatabase::create(true).await;
    let proxy = ChaosProxy::in_front_of(&database.url()).await;
    let home = Home::at(&proxy.url(&database.url()));
    let process = home.start().await;
    let caller = caller(&home, &process);
    let nonces = format!("/v1/sessions/{}/nonces", caller.session().await);
    let claim = async |nonce: &str, key: Option<&str>| {
        let request = caller.request("POST", &nonces).json(&json!({ "nonce": nonce }));
        match key {
            Some(key) => request.header("idempotency-key", key).send().await,
            None => request.send().await,
        }
    };
    claim("warm", None).await.is(201);

    for round in 0..5 {
        // Committed, but the answer is lost.
        let (nonce, key) = (format!("lost-{round}"), format!("key-{round}-9d1c4a7b"));
        proxy.lose_answer_to(nonce.as_bytes());
        claim(&nonce, Some(&key)).await.refused(503, "outcome_unknown");
        proxy.wait_for_lost_answers(round + 1).await;
        let repeated = claim(&nonce, Some(&key)).await.is(201);
        assert_eq!(repeated.header("idempotency-replayed"), Some("true"), "{repeated:?}");
        claim(&nonce, Some("another-key-2f6e")).await.refused(409, "nonce_replayed");
        claim(&nonce, None).await.refused(409, "nonce_replayed");
        let again = claim(&nonce, Some(&key)).await.is(201);
        assert_eq!(again["used_at"], repeated["used_at"], "one use, however often it is told");

        // Without a key, the repeat cannot tell its own first try from another caller's.
        let nonce = format!("keyless-{round}");
        proxy.lose_answer_to(nonce.as_bytes());
        claim(&nonce, None).await.refused(503, "outcome_unknown");
        claim(&nonce, None).await.refused(409, "nonce_replayed");
    }
    for round in 0..5 {
        // Lost on the way. The database never saw it.
        let (nonce, key) = (format!("unseen-{round}"), format!("unseen-key-{round}"));
        proxy.cut_at(nonce.as_bytes(), 0, Cut::BeforeTheMessage);
        claim(&nonce, Some(&key)).await.refused(503, "outcome_unknown");
        let repeated = claim(&nonce, Some(&key)).await.is(201);
        assert_eq!(repeated.header("idempotency-replayed"), None, "{repeated:?}");
        claim(&nonce, None).await.refused(409, "nonce_replayed");
    }
    a_batch_gets_the_true_outcomes(&proxy, &caller, &nonces).await;
    assert_eq!(process.stop().await.code(), 0);
}

async fn a_batch_gets_the_true_outcomes(proxy: &ChaosProxy, caller: &Caller, nonces: &str) {
    let id = nonces.split('/').nth(3).unwrap();
    let one = |nonce: &str| json!({ "session_id": id, "nonce": nonce });
    let batch = json!({ "claims": [one("batch-1"), one("warm"), one("batch-2"), one("batch-1")] });
    let claim = async || {
        let request = caller.request("POST", "/v1/claims").json(&batch);
        request.header("idempotency-key", "batch-key-77").send().await
    };
    proxy.lose_answer_to(b"batch-2");
    claim().await.refused(503, "outcome_unknown");
    let answer = claim().await.is(200);
    assert_eq!(answer.header("idempotency-replayed"), Some("true"));
    let outcomes: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|result| &result["outcome"]).collect();
    assert_eq!(outcomes, ["accepted", "replayed", "accepted", "replayed"]);
}

/// Cuts the connection at the first message of a claim, at the second, and so on, before and after
/// PostgreSQL has received it, until there are no more messages. Each answer is compared with the
/// database.
#[rstest]
#[case::of_one_claim(1)]
#[case::of_claims_of_every_kind(4)]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_message_is_cut_the_answer_is_true(#[case] kinds: usize) {
    let home = Home::on(Database::Postgres).await;
    let targets = Targets::open(&home).await;
    let proxy = ChaosProxy::in_front_of(&home.url()).await;
    let store = store_at(&database_url(&proxy.url(&home.url()))).await;
    let queue = claims(&store);

    let mut unknown_and_used = 0;
    for cut in [Cut::BeforeTheMessage, Cut::BeforeTheAnswer] {
        let (mut skip, mut hits_elsewhere) = (0, 0);
        loop {
            settle(&store, targets.session).await;
            let name = format!("{cut:?}-{skip}-{hits_elsewhere}");
            let batch = targets.batch(&name, kinds);
            proxy.cut_at(b"", skip, cut);
            let told = queue.claim(batch.clone()).await;
            let done = proxy.never_mind();

            let used = targets.used(&batch).await;
            match &told {
                Ok(outcomes) => {
                    assert_eq!(words(outcomes), EXPECTED[..kinds]);
                    assert!(used.iter().all(|used| *used), "{cut:?} {skip}: accepted, not there");
                }
                Err(ServiceError::Store(StoreError::Unavailable(why))) => {
                    let changed = used.iter().zip(EXPECTED).any(|(u, e)| *u && e == "accepted");
                    assert!(!changed, "{cut:?} {skip}: said to have changed nothing: {why}");
                }
                Err(ServiceError::Store(StoreError::OutcomeUnknown(_))) => {
                    unknown_and_used += u32::from(used[0]);
                }
                Err(error) => panic!("{cut:?} {skip}: {error:?}"),
            }
            settle(&store, targets.session).await;
            let repeated = queue.claim(batch).await.unwrap();
            assert_eq!(words(&repeated), EXPECTED[..kinds], "{cut:?} {skip}");
            for (outcome, used) in repeated.iter().zip(used) {
                if let Outcome::Accepted(accepted) = outcome {
                    assert_eq!(accepted.repeated, used, "{cut:?} {skip}");
                }
            }
            if done {
                assert!(told.is_ok(), "nothing was cut");
                break;
            }
            // The pool opens connections by itself, and one of those may have been hit instead.
            if told.is_ok() && hits_elsewhere < 5 {
                hits_elsewhere += 1;
            } else {
                (skip, hits_elsewhere) = (skip + 1, 0);
            }
            assert!(skip < 50, "claims never need so many messages");
        }
    }
    assert!(unknown_and_used > 0, "no cut hit a committed claim before its answer");
}

/// The outcomes of [`Targets::batch`].
const EXPECTED: [&str; 4] = ["accepted", "replayed", "accepted", "accepted"];

fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(Outcome::as_str).collect()
}

/// Scopes of every kind, and a connection to the database that is never cut.
struct Targets {
    direct: Store,
    raw: RawSql,
    session: SessionId,
    counted: SessionId,
    signer: Did,
    expires_at: Timestamp,
    used: Nonce,
}

impl Targets {
    async fn open(home: &Home) -> Self {
        let direct = store_at(&database_url(&home.url())).await;
        let session = opened(&direct, a_session()).await.id;
        let mut counted = a_session();
        counted.max_claims = Some(1_000_000);
        let counted = opened(&direct, counted).await.id;
        let used = nonce("used");
        assert_eq!(claim(&direct, &in_session(session, used.clone())).await.as_str(), "accepted");
        let expires_at = in_seconds(&direct, 3_600).await;
        Self { direct, raw: home.raw().await, session, counted, signer: a_did(), expires_at, used }
    }

    /// Up to four claims: a fresh nonce, a used one, one in a session that counts, a signer's.
    fn batch(&self, name: &str, kinds: usize) -> Vec<Claim> {
        let name = nonce(name);
        let all = [
            in_session(self.session, name.clone()),
            in_session(self.session, self.used.clone()),
            in_session(self.counted, name.clone()),
            by_signer(&self.signer, name, self.expires_at),
        ];
        all.into_iter().take(kinds).map(|claim| with_key(claim, 7)).collect()
    }

    /// Whether the database has each of these nonces.
    async fn used(&self, batch: &[Claim]) -> Vec<bool> {
        let mut used = Vec::new();
        for Claim { scope, nonce, .. } in batch {
            used.push(match scope {
                Scope::Session(id) => {
                    self.direct.session_nonce(*id, nonce).await.unwrap().is_some()
                }
                Scope::Signer { .. } | Scope::Namespace { .. } => {
                    let rows = format!("count(*) FROM signer_nonces WHERE nonce = '{nonce}'");
                    self.raw.number(&rows).await > 0
                }
            });
        }
        used
    }
}

/// Claims until that works, so that every connection is open and has prepared its statements.
async fn settle(store: &Store, session: SessionId) {
    let queue = claims(store);
    wait_for("the connections to come back", async || {
        let mut good = 0;
        for _ in 0..4 {
            let claim = in_session(session, a_nonce());
            good += u32::from(queue.claim(vec![claim]).await.is_ok());
        }
        (good == 4).then_some(())
    })
    .await;
    queue.close().await;
}

/// What is asked of a session while the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Open,
    End,
}

/// A session is opened, or ended, while the connection is cut.
struct Calls {
    _home: Home,
    deed: Deed,
    sessions: Sessions,
    proxy: ChaosProxy,
    /// Ways to the database that are never cut.
    direct: Store,
    raw: RawSql,
}

/// What came of one call.
struct Called {
    told: Result<bool, ServiceError>,
    /// What the database says.
    done: bool,
    nothing_was_cut: bool,
}

impl Calls {
    async fn to(deed: Deed) -> Self {
        let home = Home::on(Database::Postgres).await;
        let direct = store_at(&database_url(&home.url())).await;
        let raw = home.raw().await;
        let proxy = ChaosProxy::in_front_of(&home.url()).await;
        let sessions = sessions_of(&store_at(&database_url(&proxy.url(&home.url()))).await);
        Self { _home: home, deed, sessions, proxy, direct, raw }
    }

    /// Cuts at the message with this text, after so many others. What is said is true, and so is
    /// what is said when the call is repeated.
    async fn cut(&self, cut: Cut, text: &[u8], skip: usize) -> Called {
        settle_sessions(&self.sessions).await;
        let new = a_session();
        let id = new.id;
        if self.deed == Deed::End {
            opened(&self.direct, new.clone()).await;
        }
        self.proxy.cut_at(text, skip, cut);
        let told = ask(&self.sessions, self.deed, &new).await;
        let nothing_was_cut = self.proxy.never_mind();

        let done = match self.direct.session(id).await.unwrap() {
            None => false,
            Some(session) => self.deed == Deed::Open || session.end.is_some(),
        };
        match &told {
            Ok(first) => assert!(*first && done, "{cut:?} {skip}: said to be done"),
            Err(ServiceError::Store(StoreError::Unavailable(why))) => {
                assert!(!done, "{cut:?} {skip}: said to have changed nothing: {why}");
            }
            Err(ServiceError::Store(StoreError::OutcomeUnknown(_))) => {}
            Err(error) => panic!("{cut:?} {skip}: {error:?}"),
        }
        settle_sessions(&self.sessions).await;
        assert_eq!(ask(&self.sessions, self.deed, &new).await, Ok(!done), "{cut:?} {skip}");
        let events = format!("count(*) FROM events WHERE subject = '{id}'");
        assert_eq!(self.raw.number(&events).await, i64::from(self.deed == Deed::End));
        Called { told, done, nothing_was_cut }
    }
}

/// The same cuts while a session is opened, or ended.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_message_is_cut_the_answer_about_a_session_is_true(
    #[values(Deed::Open, Deed::End)] deed: Deed,
) {
    let calls = Calls::to(deed).await;
    for cut in [Cut::BeforeTheMessage, Cut::BeforeTheAnswer] {
        let (mut skip, mut hits_elsewhere) = (0, 0);
        loop {
            let Called { told, nothing_was_cut, .. } = calls.cut(cut, b"", skip).await;
            if nothing_was_cut {
                assert!(told.is_ok(), "nothing was cut");
                break;
            }
            if told.is_ok() && hits_elsewhere < 5 {
                hits_elsewhere += 1;
            } else {
                (skip, hits_elsewhere) = (skip + 1, 0);
            }
            assert!(skip < 50, "a session never needs so many messages");
        }
        let Called { told, done, .. } = calls.cut(cut, b"COMMIT", 0).await;
        let unknown = matches!(told, Err(ServiceError::Store(StoreError::OutcomeUnknown(_))));
        assert!(unknown, "{cut:?}: {told:?}");
        assert_eq!(done, cut == Cut::BeforeTheAnswer);
    }
}

/// Whether this opened or ended the session, and not an earlier call.
async fn ask(sessions: &Sessions, deed: Deed, new: &NewSession) -> Result<bool, ServiceError> {
    Ok(match deed {
        Deed::Open => matches!(sessions.open(asked(new.clone())).await?, Opened::Created(_)),
        Deed::End => {
            let ended = sessions.end(new.id, Some(&Actor::Operator)).await?;
            matches!(ended, Changed::Done(_))
        }
    })
}

/// Opens and ends sessions until that works, so that every connection is open and has prepared
/// its statements.
async fn settle_sessions(sessions: &Sessions) {
    wait_for("the connections to come back", async || {
        let mut good = 0;
        for _ in 0..4 {
            let new = a_session();
            let opened = ask(sessions, Deed::Open, &new).await;
            good += u32::from(opened.is_ok() && ask(sessions, Deed::End, &new).await.is_ok());
        }
        (good == 4).then_some(())
    })
    .await;
}

/// The connection stays open, but nothing comes: the network loses everything, or the server hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_falls_silent_is_an_unknown_outcome() {
    let database = PostgresDatabase::create(true).await;
    let proxy = ChaosProxy::in_front_of(&database.url()).await;
    let home = Home::at(&proxy.url(&database.url()))
        .set("database.claim_statement_timeout_seconds", 1)
        .set("database.pool.acquire_timeout_seconds", 1);
    let process = home.start().await;
    let caller = caller(&home, &process);
    let path = format!("/v1/sessions/{}/nonces", caller.session().await);
    let claim = async |nonce: &str| {
        let request = caller.request("POST", &path).json(&json!({ "nonce": nonce }));
        request.header("idempotency-key", nonce).send().await
    };
    claim("warm").await.is(201);
    proxy.freeze(true);
    claim("silence").await.refused(503, "outcome_unknown");
    proxy.freeze(false);
    let repeated = wait_for("the database to be back", async || {
        let answer = claim("silence").await;
        (answer.status != 503).then_some(answer)
    });
    repeated.await.is(201);
    claim("afterwards").await.is(201);
    assert_eq!(process.stop().await.code(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_database_fell_silent_still_stops() {
    let database = PostgresDatabase::create(true).await;
    let proxy = ChaosProxy::in_front_of(&database.url()).await;
    let home = Home::at(&proxy.url(&database.url()))
        .set("database.claim_statement_timeout_seconds", 1)
        .set("jobs.sample_interval_seconds", 1);
    let process = home.start().await;
    let (caller, ops) = (caller(&home, &process), ops(&process));
    let path = format!("/v1/sessions/{}/nonces", caller.session().await);
    caller.post(&path, &json!({ "nonce": "warm" })).await.is(201);
    proxy.freeze(true);
    let request = caller.request("POST", &path).json(&json!({ "nonce": "silence" }));
    let waiting = tokio::spawn(request.send());
    wait_for("the claim to be on its way", async || {
        (ops.metric("onceguard_http_requests_in_flight", &[]).await >= 1.0).then_some(())
    })
    .await;
    let stopped = process.stop().await;
    assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
    waiting.await.unwrap().refused(503, "outcome_unknown");
}
