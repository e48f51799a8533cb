//! The connection to the database is lost while a claim is on its way: the caller is told that
//! nobody can know, and learns the truth by its `Idempotency-Key`.

use onceguard::domain::Outcome;
use onceguard::services::ServiceError;
use onceguard::storage::{Store, StoreError};
use serde_json::json;

use crate::load::caller;
use crate::services::claims;
use crate::support::{
    Caller, ChaosProxy, Cut, Home, PostgresDatabase, a_nonce, a_session, database_url, in_session,
    nonce, opened, store_at, wait_for, with_key,
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
        // Committed, and the answer lost.
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

        // Without a key, the repeat cannot tell its own first try from somebody else's.
        let nonce = format!("keyless-{round}");
        proxy.lose_answer_to(nonce.as_bytes());
        claim(&nonce, None).await.refused(503, "outcome_unknown");
        claim(&nonce, None).await.refused(409, "nonce_replayed");
    }
    for round in 0..5 {
        // Lost on the way: the database never saw it.
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

/// Cuts the connection at the first message of a claim, at the second, and so on, before and
/// after PostgreSQL has got it, until a claim needs no more messages. What is said each time is
/// held against what the database has.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_message_is_cut_the_answer_is_true() {
    let database = PostgresDatabase::create(true).await;
    let direct = store_at(&database_url(&database.url())).await;
    let session = opened(&direct, a_session()).await.id;
    let proxy = ChaosProxy::in_front_of(&database.url()).await;
    let store = store_at(&database_url(&proxy.url(&database.url()))).await;
    let queue = claims(&store);

    let mut unknown_and_used = 0;
    for cut in [Cut::BeforeTheMessage, Cut::BeforeTheAnswer] {
        for skip in 0.. {
            // A connection that has sent this statement before, so that only its own messages
            // are counted.
            settle(&store, session).await;
            let name = nonce(&format!("{cut:?}-{skip}"));
            let claim = with_key(in_session(session, name.clone()), 7);
            proxy.cut_at(b"", skip, cut);
            let told = queue.claim(vec![claim.clone()]).await;
            let done = proxy.never_mind();

            let used = direct.session_nonce(session, &name).await.unwrap().is_some();
            match &told {
                Ok(outcomes) => {
                    assert!(matches!(outcomes[..], [Outcome::Accepted(_)]), "{outcomes:?}");
                    assert!(used, "{cut:?} {skip}: accepted, and not there");
                }
                Err(ServiceError::Store(StoreError::Unavailable(why))) => {
                    assert!(
                        !used,
                        "{cut:?} {skip}: said to have changed nothing, and is used: {why}"
                    );
                }
                Err(ServiceError::Store(StoreError::OutcomeUnknown(_))) => {
                    unknown_and_used += u32::from(used);
                }
                Err(error) => panic!("{cut:?} {skip}: {error:?}"),
            }
            settle(&store, session).await;
            let repeated = queue.claim(vec![claim]).await.unwrap();
            let [Outcome::Accepted(repeated)] = repeated[..] else {
                panic!("{cut:?} {skip}: {repeated:?}")
            };
            assert_eq!(repeated.repeated, used, "{cut:?} {skip}");
            let other = queue.claim(vec![in_session(session, name)]).await.unwrap();
            assert!(matches!(other[..], [Outcome::Replayed { .. }]), "{cut:?} {skip}: {other:?}");
            if done {
                assert!(told.is_ok(), "nothing was cut");
                break;
            }
            assert!(skip < 20, "a claim never needs so many messages");
        }
    }
    assert!(unknown_and_used > 0, "no cut hit a committed claim before its answer");
}

/// Claims until that works, so that every connection is open and has prepared its statements.
async fn settle(store: &Store, session: onceguard::domain::SessionId) {
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

/// Nothing is cut, and nothing comes: a network that swallows, or a server that hangs.
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
