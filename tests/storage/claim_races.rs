//! Claims that meet each other, ends, revocations and the purge.

use onceguard::domain::{Claim, EndReason, Outcome, Scope};
use onceguard::storage::{PurgeStep, Purged, Store, StoreError};
use rstest::rstest;

use crate::support::Database::{self, Memory, Postgres, Sqlite};
use crate::support::{
    TestStore, a_did, a_nonce, a_session, an_event, ask_all, by_signer, claim, in_seconds,
    in_session, minutes, nonce, opened, outcome, purge_batch, read,
};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_64_claims_of_one_nonce_one_wins(#[values(Sqlite, Memory, Postgres)] on: Database) {
    let store = on.store().await;
    let session = opened(&store, a_session()).await;
    let (signer, expires_at) = (a_did(), in_seconds(&store, 3_000).await);
    for round in 0..40 {
        let claimed = if round % 2 == 0 {
            in_session(session.id, a_nonce())
        } else {
            by_signer(&signer, a_nonce(), expires_at)
        };
        let tasks: Vec<_> = (0..64)
            .map(|_| {
                let (store, claimed) = ((*store).clone(), claimed.clone());
                tokio::spawn(async move { claim(&store, &claimed).await })
            })
            .collect();
        let mut winners = Vec::new();
        let mut first_uses = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                Outcome::Accepted(accepted) => winners.push(accepted.used_at),
                Outcome::Replayed { first_used_at } => {
                    first_uses.push(first_used_at);
                }
                Outcome::Refused(refusal) => panic!("{refusal:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert!(first_uses.iter().all(|at| *at == winners[0]), "round {round}");
    }
}

/// Two instances of the service, each with batches that hold the same nonces in another order.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn crossing_batches_neither_deadlock_nor_accept_twice(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let mut scopes = Vec::new();
    for number in 0..6 {
        let mut new = a_session();
        new.idle_timeout_seconds = Some(60);
        if number % 2 == 0 {
            new.max_claims = Some(10_000);
        }
        scopes.push(opened(&store, new).await);
    }
    let expires_at = in_seconds(&store, 3_000).await;
    let others: Vec<Store> = match on {
        Postgres => vec![(*store).clone(), store.another().await],
        Sqlite | Memory => vec![(*store).clone(), (*store).clone()],
    };
    for round in 0..20 {
        // Everybody's activity is due, so that the rows of sessions are written too.
        store.pass(std::time::Duration::from_secs(10)).await;
        let claims: Vec<Claim> = (0..48)
            .map(|number| {
                let session = &scopes[number % scopes.len()];
                let nonce = nonce(&format!("{round}-{number}"));
                if number % 3 == 0 {
                    by_signer(&session.client_did, nonce, expires_at)
                } else {
                    in_session(session.id, nonce)
                }
            })
            .collect();
        let tasks: Vec<_> = (0..8)
            .map(|task| {
                let store = others[task % others.len()].clone();
                let mut claims = claims.clone();
                claims.rotate_left(task * 5);
                if task % 2 == 0 {
                    claims.reverse();
                }
                tokio::spawn(async move {
                    let facts = ask_all(&store, &claims).await;
                    claims.into_iter().zip(facts).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut accepted = std::collections::BTreeMap::<_, u32>::new();
        for task in tasks {
            for (claimed, facts) in task.await.unwrap() {
                let facts = facts.unwrap_or_else(|error| panic!("round {round}: {error}"));
                let outcome = outcome(&claimed, &facts);
                match outcome.as_str() {
                    "accepted" => *accepted.entry(claimed.nonce).or_default() += 1,
                    word => assert_eq!(word, "replayed", "round {round}"),
                }
            }
        }
        assert_eq!(accepted.len(), claims.len(), "round {round}");
        assert!(accepted.values().all(|times| *times == 1), "round {round}: {accepted:?}");
    }
    for session in &scopes {
        let claims = read(&store, session.id).await.claims;
        if session.max_claims.is_some() {
            // 20 rounds of 48 claims, two in three of them in the 6 sessions by turns.
            let in_this = (0..48).filter(|n| n % 3 != 0 && scopes[n % 6].id == session.id).count();
            assert_eq!(claims, 20 * in_this as u64);
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_claim_is_accepted_after_the_end_was_told(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for _ in 0..30 {
        let session = opened(&store, a_session()).await;
        let ending = {
            let store = (*store).clone();
            tokio::spawn(async move {
                store.end_session(session.id, EndReason::Ended, None).await.unwrap();
            })
        };
        let claiming: Vec<_> = (0..4)
            .map(|_| {
                let store = (*store).clone();
                let claimed = in_session(session.id, a_nonce());
                tokio::spawn(async move { claim(&store, &claimed).await })
            })
            .collect();
        ending.await.unwrap();
        assert_eq!(
            claim(&store, &in_session(session.id, a_nonce())).await.as_str(),
            "session_ended"
        );
        for task in claiming {
            let word = task.await.unwrap().as_str();
            assert!(["accepted", "session_ended"].contains(&word), "{word}");
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn no_claim_is_accepted_after_the_revocation_was_told(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    for _ in 0..20 {
        let session = opened(&store, a_session()).await;
        let did = session.client_did.clone();
        let expires_at = in_seconds(&store, 300).await;
        let revoking = {
            let (store, did) = ((*store).clone(), did.clone());
            tokio::spawn(async move {
                store.revoke_did(&did, an_event("onceguard.did.revoked", &did)).await.unwrap();
            })
        };
        let claiming: Vec<_> = (0..4)
            .map(|number| {
                let store = (*store).clone();
                let claimed = if number % 2 == 0 {
                    in_session(session.id, a_nonce())
                } else {
                    by_signer(&did, a_nonce(), expires_at)
                };
                tokio::spawn(async move { claim(&store, &claimed).await })
            })
            .collect();
        revoking.await.unwrap();
        for claimed in [in_session(session.id, a_nonce()), by_signer(&did, a_nonce(), expires_at)] {
            assert_eq!(claim(&store, &claimed).await.as_str(), "did_revoked");
        }
        for task in claiming {
            let word = task.await.unwrap().as_str();
            assert!(["accepted", "did_revoked"].contains(&word), "{word}");
        }
    }
}

/// A claim that waits for a session's row which the purge deletes finds no session: it is told
/// so, and is not an error (23503).
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn claims_and_the_purge_do_not_disturb_each_other(
    #[values(Sqlite, Memory, Postgres)] on: Database,
) {
    let store = on.store().await;
    let live = opened(&store, a_session()).await;
    for round in 0..10 {
        let mut dead = Vec::new();
        let mut live_before = Vec::new();
        let expires_at = in_seconds(&store, 30).await;
        for _ in 0..10 {
            let session = opened(&store, a_session()).await;
            claim(&store, &in_session(session.id, a_nonce())).await;
            live_before.push(by_signer(&session.client_did, a_nonce(), expires_at));
            store.end_session(session.id, EndReason::Ended, None).await.unwrap();
            dead.push(session.id);
        }
        ask_all(&store, &live_before).await;
        if round % 2 == 0 {
            store.pass(minutes(1)).await;
        }
        let purging: Vec<_> = [
            PurgeStep::DeleteEndedSessions { retention: std::time::Duration::ZERO },
            PurgeStep::DeleteSignerNonces { margin: std::time::Duration::ZERO },
            PurgeStep::EndOverdueSessions,
        ]
        .into_iter()
        .map(|step| {
            let store = (*store).clone();
            tokio::spawn(
                async move { while purge_batch(&store, step, 3).await != Purged::default() {} },
            )
        })
        .collect();
        let expires_at = in_seconds(&store, 300).await;
        let tasks: Vec<_> = dead
            .iter()
            .zip(&live_before)
            .map(|(id, signer)| {
                let Scope::Signer { did, .. } = &signer.scope else { unreachable!() };
                let claims = [
                    in_session(*id, a_nonce()),
                    in_session(live.id, a_nonce()),
                    by_signer(did, a_nonce(), expires_at),
                ];
                let store = (*store).clone();
                tokio::spawn(async move {
                    let facts = ask_all(&store, &claims).await;
                    claims
                        .iter()
                        .zip(facts)
                        .map(|(claimed, facts)| {
                            facts.map(|facts| outcome(claimed, &facts).as_str())
                        })
                        .collect::<Result<Vec<_>, StoreError>>()
                })
            })
            .collect();
        for task in tasks {
            let words = task.await.unwrap().unwrap();
            assert!(["session_ended", "session_not_found"].contains(&words[0]), "{words:?}");
            assert_eq!(words[1..], ["accepted", "accepted"]);
        }
        for task in purging {
            task.await.unwrap();
        }
    }
}

/// The purge may remove a counter after it was added and before it was locked. Here it comes in
/// between as often as the trigger says.
async fn remove_added_counters(store: &TestStore, times: u32) {
    store
        .raw()
        .execute(&format!(
            "CREATE SEQUENCE added;
             CREATE FUNCTION remove_added() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('added') <= {times} THEN RETURN NULL; END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER remove_added BEFORE INSERT ON signers
                 FOR EACH ROW EXECUTE FUNCTION remove_added()"
        ))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_the_purge_removes_at_once_is_added_again() {
    let store = Postgres.store().await;
    let expires_at = in_seconds(&store, 3_000).await;
    let known = a_did();
    claim(&store, &by_signer(&known, a_nonce(), expires_at)).await;
    remove_added_counters(&store, 3).await;
    let batch = [
        by_signer(&known, a_nonce(), expires_at),
        by_signer(&a_did(), a_nonce(), expires_at),
        by_signer(&a_did(), a_nonce(), in_seconds(&store, -60).await),
    ];
    let answers = ask_all(&store, &batch).await;
    let words: Vec<_> =
        batch.iter().zip(answers).map(|(c, a)| outcome(c, &a.unwrap()).as_str()).collect();
    assert_eq!(words, ["accepted", "accepted", "expired"]);
    assert_eq!(store.raw().number("count(*) FROM signer_nonces").await, 3);
    assert_eq!(store.raw().number("sum(live) FROM signers").await, 3);
    assert!(store.raw().number("last_value FROM added").await > 3, "it was not removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_whose_counter_cannot_be_had_leave_nothing_and_fail_alone() {
    let store = Postgres.store().await;
    let expires_at = in_seconds(&store, 3_000).await;
    let known = a_did();
    claim(&store, &by_signer(&known, a_nonce(), expires_at)).await;
    remove_added_counters(&store, 1_000).await;
    let batch = [&known, &a_did()].map(|signer| by_signer(signer, a_nonce(), expires_at));
    let answers = ask_all(&store, &batch).await;
    assert!(answers[0].as_ref().is_ok_and(|facts| facts.inserted), "{answers:?}");
    assert!(matches!(answers[1], Err(StoreError::Unavailable(_))), "{answers:?}");
    assert_eq!(store.raw().number("count(*) FROM signer_nonces").await, 2);
    assert_eq!(store.raw().number("sum(live) FROM signers").await, 2);
}
