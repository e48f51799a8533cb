//! The synchronous standby is away. No call reports a row that only the primary has, however often
//! it is asked.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join, join_all};
use onceguard::clock::Clock;
use onceguard::domain::{
    Claim, Did, EndReason, NewSession, NewToken, Parties, SessionId, TokenHash, TokenScope,
    TokenScopes,
};
use onceguard::metrics::Metrics;
use onceguard::storage::{ClaimLimits, Result, Store};
use serde_json::json;
use uuid::Uuid;

use crate::load::{caller, caller_with};
use crate::support::{
    Caller, Home, PrivatePostgres, a_did, a_new_did, a_nonce, a_session, an_event, ask_all,
    by_signer, claim, database_config, database_url, in_seconds, in_session, naming, opened,
    outcome, unique, wait_for, with_key,
};

const SECOND: Duration = Duration::from_secs(1);

/// A primary, and the standby that its commits wait for.
async fn pair() -> (PrivatePostgres, PrivatePostgres) {
    let primary = PrivatePostgres::start();
    let standby = primary.standby();
    primary.wait_for_standby().await;
    (primary, standby)
}

async fn post(caller: &Caller, session: &str, nonce: &str, key: Option<&str>) -> u16 {
    let request = caller.request("POST", &format!("/v1/sessions/{session}/nonces"));
    let request = request.json(&json!({ "nonce": nonce }));
    let request = match key {
        Some(key) => request.header("idempotency-key", key),
        None => request,
    };
    request.send().await.status
}

/// The primary is restarted, and shows rows that only it has. Then it is lost for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_that_only_the_primary_has_was_never_accepted() {
    let (primary, standby) = pair().await;
    let home = Home::at(primary.url()).set("database.claim_statement_timeout_seconds", 1);
    home.run(&["migrate", "up"]).await.success();
    let process = home.start().await;
    let first = caller(&home, &process);
    let session = first.session().await;
    assert_eq!(post(&first, &session, "warm", Some("w")).await, 201);

    standby.stop();
    let request = first.request("POST", &format!("/v1/sessions/{session}/nonces"));
    let request = request.json(&json!({ "nonce": "lost" })).header("idempotency-key", "k");
    request.send().await.refused(503, "outcome_unknown");
    primary.crash();
    primary.restart();
    let raw = primary.raw().await;
    assert_eq!(raw.number("count(*) FROM nonces WHERE nonce = 'lost'").await, 1);
    wait_for("the database to answer", async || {
        (first.get(&format!("/v1/sessions/{session}")).await.status == 200).then_some(())
    })
    .await;
    for key in [Some("k"), None, Some("another")] {
        assert_eq!(post(&first, &session, "lost", key).await, 503, "{key:?}");
    }

    primary.crash();
    standby.restart();
    standby.promote();
    let moved = Home::at(standby.url()).set("recovery.replication", "synchronous");
    let other = moved.start().await;
    let second = caller_with(&home.token(), &other);
    assert_eq!(post(&second, &session, "lost", None).await, 201, "accepted for the first time");
    assert_eq!(post(&second, &session, "warm", None).await, 409);
    drop(process);
    assert_eq!(other.stop().await.code(), 0);
}

/// Every change of the database that a caller may ask for twice.
struct Asked {
    claims: Vec<Claim>,
    opened: NewSession,
    /// With a party that was revoked while the standby was there.
    barred: NewSession,
    ended: SessionId,
    parties: Parties,
    revoked: Did,
    forgotten: Did,
    token: NewToken,
    revoked_token: Uuid,
}

/// A row, once the primary has it completely. A change that timed out was cancelled, and is then
/// visible, as after a restart.
const ALL_OF_IT: &str = "FROM (SELECT 1) AS one
    WHERE (SELECT count(*) FROM nonces) = 2
        AND (SELECT count(*) FROM signer_nonces) = 3
        AND (SELECT count(*) FROM sessions) = 5
        AND (SELECT count(*) FROM sessions WHERE ended_at IS NOT NULL) = 2
        AND (SELECT count(*) FROM dids WHERE revoked) = 2
        AND (SELECT count(*) FROM dids) = 2
        AND (SELECT count(*) FROM api_tokens) = 2
        AND (SELECT count(*) FROM api_tokens WHERE revoked_at IS NULL) = 1
        AND (SELECT string_agg(key_id, ' ') FROM sealing_keys) = 'added'";

/// The outcome of each: a word, or an error.
type Told = Vec<(String, Result<String>)>;

impl Asked {
    async fn prepare(store: &Store) -> Self {
        let mut counted = a_session();
        counted.max_claims = Some(10);
        let (plain, counted) = (opened(store, a_session()).await, opened(store, counted).await);
        let expires_at = in_seconds(store, 600).await;
        let signer = a_did();
        // It has a counter before the standby is away.
        claim(store, &by_signer(&signer, a_nonce(), expires_at)).await;
        let claims = [
            in_session(plain.id, a_nonce()),
            in_session(counted.id, a_nonce()),
            by_signer(&signer, a_nonce(), expires_at),
            naming(by_signer(&plain.client_did, a_nonce(), expires_at), plain.id),
        ];
        let barred = a_session();
        let event = an_event("onceguard.did.revoked", &"x");
        store.revoke_did(&barred.client_did, event).await.unwrap();
        let forgotten = a_new_did();
        store.put_did(forgotten.clone(), an_event("onceguard.did.stored", &"x")).await.unwrap();
        let client = opened(store, a_session()).await.client_did;
        let token = a_token();
        store
            .create_token(token.clone(), an_event("onceguard.token.created", &token.id))
            .await
            .unwrap();
        store.add_sealing_key("retired", b"check").await.unwrap();
        Self {
            claims: claims.into_iter().map(|claim| with_key(claim, 1)).collect(),
            opened: a_session(),
            barred,
            ended: opened(store, a_session()).await.id,
            parties: Parties { client_did: Some(client), server_did: None },
            revoked: a_did(),
            forgotten: forgotten.did,
            token: a_token(),
            revoked_token: token.id,
        }
    }

    /// Asks for all changes at once.
    async fn ask(&self, store: &Store) -> Told {
        let event = || an_event("test", &"test");
        let claims = join_all(self.claims.iter().map(async |claim| {
            let facts = ask_all(store, std::slice::from_ref(claim)).await.remove(0);
            let with_key = facts.clone().map(|facts| outcome(claim, &facts).as_str());
            let without = Claim { idempotency: None, ..claim.clone() };
            let without_key = facts.map(|facts| outcome(&without, &facts).as_str());
            with_key.and_then(|with| without_key.map(|without| format!("{with}, {without}")))
        }));
        let others: Vec<(&str, BoxFuture<'_, Result<String>>)> = vec![
            ("open", store.open_session(self.opened.clone()).map(word).boxed()),
            ("open, revoked", store.open_session(self.barred.clone()).map(word).boxed()),
            ("end", store.end_session(self.ended, EndReason::Ended, None).map(word).boxed()),
            (
                "end all",
                store.end_sessions(&self.parties, EndReason::Ended, None, 9).map(word).boxed(),
            ),
            ("revoke", store.revoke_did(&self.revoked, event()).map(word).boxed()),
            (
                "forget",
                store
                    .forget_did(&self.forgotten, an_event("onceguard.did.forgotten", &"x"))
                    .map(word)
                    .boxed(),
            ),
            ("create token", store.create_token(self.token.clone(), event()).map(word).boxed()),
            ("revoke token", store.revoke_token(self.revoked_token, event()).map(word).boxed()),
            ("add key", store.add_sealing_key("added", b"check").map(word).boxed()),
            ("retire key", store.retire_sealing_key("retired").map(word).boxed()),
        ];
        let others = others.into_iter().map(async |(name, call)| (name.to_owned(), call.await));
        let (claims, others) = join(claims, join_all(others)).await;
        let claims = claims.into_iter().enumerate();
        claims.map(|(number, told)| (format!("claim {number}"), told)).chain(others).collect()
    }
}

/// The first word of an answer's text.
fn word<T: Debug>(answer: Result<T>) -> Result<String> {
    answer.map(|answer| {
        let text = format!("{answer:?}");
        text.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned()
    })
}

fn a_token() -> NewToken {
    let mut hash = [9; 32];
    hash[..8].copy_from_slice(&unique().to_be_bytes());
    let scopes = TokenScopes::new(vec![TokenScope::Nonces]);
    let id = Uuid::now_v7();
    let name = "agent".into();
    NewToken { id, name, hash: TokenHash(hash), scopes, binding: None, ttl_seconds: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_primary_has_is_not_so_already() {
    let (primary, standby) = pair().await;
    let mut config = database_config(database_url(primary.url()));
    (config.statement_timeout, config.claim_statement_timeout) = (SECOND, SECOND);
    config.pool.max = 16;
    let limits = ClaimLimits { quota_per_signer: 100, quota_per_namespace: 100 };
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = Store::open(&config, limits, metrics, Clock::system()).await.unwrap();
    store.migrate_up().await.unwrap();
    let asked = Asked::prepare(&store).await;
    let raw = primary.raw().await;

    standby.stop();
    // Until the primary has all changes. Some wait for others, because commits that notify
    // listeners take turns.
    wait_for("the primary to show all of it", async || {
        for (name, told) in asked.ask(&store).await {
            assert!(told.is_err(), "{name}: {told:?}");
        }
        (raw.number(&format!("count(*) {ALL_OF_IT}")).await == 1).then_some(())
    })
    .await;
    for (name, told) in asked.ask(&store).await {
        assert!(told.is_err(), "{name}: {told:?}");
    }

    standby.restart();
    let told = wait_for("every answer", async || {
        let told = asked.ask(&store).await;
        told.iter().all(|(_, told)| told.is_ok()).then_some(told)
    })
    .await;
    let told: Vec<_> =
        told.iter().map(|(name, told)| (name.as_str(), told.as_deref().unwrap())).collect();
    let repeated = "accepted, replayed";
    assert_eq!(
        told,
        [
            ("claim 0", repeated),
            ("claim 1", repeated),
            ("claim 2", repeated),
            ("claim 3", repeated),
            ("open", "Exists"),
            ("open, revoked", "Revoked"),
            ("end", "Over"),
            ("end all", "0"),
            ("revoke", "DidRevoked"),
            ("forget", "NotFound"),
            ("create token", "ApiToken"),
            ("revoke token", "Some"),
            ("add key", ""),
            ("retire key", "true"),
        ]
    );
    store.close().await;
}
