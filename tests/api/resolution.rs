//! DIDs that live elsewhere: read once for everybody, again when their time is over, and never
//! believed for longer than their home would have it.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use onceguard::domain::{Did, DidUrl, KeyType};
use rstest::rstest;
use serde_json::json;

use crate::dids::ed25519;
use crate::sessions::time;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{
    Agent, Message, Says, TestApp, Upstream, a_public_key, an_upstream_did, minutes,
    upstream_document,
};
use crate::verify::{PATH, now, order, verify};

fn path_of(did: &Did) -> String {
    format!("/v1/dids/{did}")
}

/// An agent whose DID lives upstream, with the key that it signs with.
fn agent_at(upstream: &Upstream) -> Agent {
    let mut agent = Agent::new(KeyType::Ed25519);
    agent.did = an_upstream_did();
    agent.signer.key_id = DidUrl::parse(agent.did.as_str()).unwrap();
    upstream.has(&agent.did, agent.signer.key.public_key());
    agent
}

async fn start(on: Database) -> (TestApp, Upstream) {
    let upstream = Upstream::start().await;
    let app = TestApp::start_with(on, |config| upstream.configure(config)).await;
    (app, upstream)
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_is_read_from_its_home_once(#[values(Sqlite, Postgres)] on: Database) {
    let (mut app, upstream) = start(on).await;
    let agent = agent_at(&upstream);
    let path = path_of(&agent.did);
    let first = app.get(&path).await.is(200);
    for member in ["did", "source", "key_type"] {
        let expected = json!({
            "did": agent.did.as_str(), "source": "universal", "key_type": "Ed25519",
        });
        assert_eq!(first[member], expected[member], "{member}");
    }
    assert_eq!((&first["revoked"], &first["deactivated"]), (&json!(false), &json!(false)));
    assert_eq!(
        first["verification_methods"],
        json!([{
            "id": format!("{}#k1", agent.did),
            "key_type": "Ed25519",
            "public_key": first["public_key"],
            "authentication": true,
        }])
    );
    let lifetime = time(&first["stale_at"]) - time(&first["fetched_at"]);
    assert_eq!(lifetime.num_seconds(), 300);
    assert_eq!(first.header("cache-control"), Some("private, max-age=300"));
    for _ in 0..3 {
        let again = app.get(&path).await.is(200);
        assert_eq!(again.json(), first.json());
        verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    }
    // What is stored serves a service that has just started, and another instance.
    app.restart().await;
    assert_eq!(app.get(&path).await.is(200)["fetched_at"], first["fetched_at"]);
    assert_eq!(upstream.asked(), 1);
    app.store().pass(minutes(3)).await;
    app.restart().await;
    let older = app.get(&path).await.is(200);
    let age: u32 = older.header("age").unwrap().parse().unwrap();
    assert!((180..300).contains(&age), "{age}");
    assert_eq!(upstream.asked(), 1);
    app.store().pass(minutes(3)).await;
    app.restart().await;
    assert_eq!(app.get(&path).await.is(200).header("age"), Some("0"));
    assert_eq!(upstream.asked(), 2);
}

/// What was read by a clock that was ahead is not believed until it is so late.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_by_a_clock_that_was_ahead_is_read_again(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let (mut app, upstream) = start(on).await;
    let agent = agent_at(&upstream);
    let path = path_of(&agent.did);
    let read = app.get(&path).await.is(200);
    let raw = app.store().raw();
    let [fetched, stale] = ["fetched_at", "stale_at"]
        .map(|member| raw.time(time(&read[member]) + chrono::Duration::days(2)));
    raw.execute(&format!("UPDATE dids SET fetched_at = {fetched}, stale_at = {stale}")).await;
    for _ in 0..2 {
        app.restart().await;
        let again = app.get(&path).await.is(200);
        assert!(
            time(&again["stale_at"]) - time(&read["stale_at"]) < chrono::Duration::minutes(5),
            "{again:?}"
        );
        assert_eq!(upstream.asked(), 2, "once, and what was read then stands");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_ask_once(#[values(Sqlite, Postgres)] on: Database) {
    let upstream = Upstream::start().await;
    let app = TestApp::start_with(on, |config| {
        upstream.configure(config);
        // They all connect before any of them shows its token, and a client may open more
        // connections than it makes calls.
        config.limits.stranger_connections_per_peer = 2000;
    })
    .await;
    let agent = agent_at(&upstream);
    upstream.hold();
    let path = path_of(&agent.did);
    let resume = async {
        // Everybody else waits by then, or comes to find the answer.
        crate::support::wait_for("the question", async || (upstream.asked() > 0).then_some(()))
            .await;
        upstream.resume();
    };
    let (answers, ()) = tokio::join!(join_all((0..1000).map(|_| app.get(&path))), resume);
    for answer in answers {
        assert_eq!(answer.is(200)["did"], agent.did.as_str());
    }
    assert_eq!(upstream.asked(), 1);
    assert_eq!(app.metric("onceguard_did_resolutions_total", &["universal", "found"]).await, 1.0);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_its_home_does_not_know_is_not_found(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let did = an_upstream_did();
    for _ in 0..3 {
        app.refuses(app.request("GET", &path_of(&did)), 404, "did_not_found").await;
    }
    assert_eq!(upstream.asked(), 1, "that is remembered");
    upstream.says(&did, Says::Document(json!({"id": "did:example:another"})));
    let refresh = format!("{}/refresh", path_of(&did));
    app.refuses(app.request("POST", &refresh), 422, "did_unresolvable").await;
    let mut agent = agent_at(&upstream);
    agent.did = did.clone();
    agent.signer.key_id = DidUrl::parse(did.as_str()).unwrap();
    verify(&app, &order().signed(&agent, now(&app))).await.refused(403, "signature_key_unknown");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_down_is_no_evidence(#[values(Sqlite, Postgres)] on: Database) {
    let (mut app, upstream) = start(on).await;
    let (known, unknown) = (agent_at(&upstream), agent_at(&upstream));
    app.get(&path_of(&known.did)).await.is(200);
    upstream.fails(true);
    // What was read holds for its time.
    verify(&app, &order().signed(&known, now(&app))).await.is(200);
    // Of what was never read nothing is said, and nothing is remembered.
    let message = order().signed(&unknown, now(&app));
    app.refuses(app.request("GET", &path_of(&unknown.did)), 503, "upstream_unavailable").await;
    let verdict = app.request("POST", PATH).json(&message.to_verify());
    app.refuses(verdict, 503, "signature_key_unavailable").await;
    upstream.fails(false);
    verify(&app, &message).await.is(200);

    // After its time it is shown as what it is, and may not sign.
    app.store().pass(minutes(6)).await;
    app.restart().await;
    upstream.fails(true);
    let stale = app.get(&path_of(&known.did)).await.is(200);
    let age: i64 = stale.header("age").unwrap().parse().unwrap();
    assert!(age >= 360, "{age}");
    assert_eq!((time(&stale["stale_at"]) - time(&stale["fetched_at"])).num_seconds(), 300);
    let message = order().signed(&known, now(&app));
    let verdict = app.request("POST", PATH).json(&message.to_verify());
    app.refuses(verdict, 503, "signature_revocation_stale").await;
    // A key that its home may have by now is not called unknown.
    let mut other = known.clone();
    other.signer.key_id = DidUrl::parse(&format!("{}#k2", known.did)).unwrap();
    let other = order().signed(&other, now(&app));
    verify(&app, &other).await.refused(503, "signature_key_unavailable");
    let fresh = format!("{}?max_age=300", path_of(&known.did));
    app.get(&fresh).await.refused(503, "upstream_unavailable");
    app.get(&format!("{}?max_age=86400", path_of(&known.did))).await.is(200);

    app.restart_with(|config| config.dids.max_stale = minutes(60)).await;
    verify(&app, &message).await.is(200);
    app.store().pass(minutes(60)).await;
    app.restart().await;
    let message = order().signed(&known, now(&app));
    verify(&app, &message).await.refused(503, "signature_revocation_stale");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_its_home_took_away_is_gone_at_once(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let (removed, deactivated, rotated) =
        (agent_at(&upstream), agent_at(&upstream), agent_at(&upstream));
    for agent in [&removed, &deactivated, &rotated] {
        verify(&app, &order().signed(agent, now(&app))).await.is(200);
    }
    upstream.says(&removed.did, Says::Status(404));
    upstream.says(&deactivated.did, Says::Deactivated);
    let new = Agent::new(KeyType::P256);
    upstream.has(&rotated.did, new.signer.key.public_key());
    let refresh = async |agent: &Agent| {
        app.request("POST", &format!("{}/refresh", path_of(&agent.did))).send().await
    };
    refresh(&removed).await.refused(404, "did_not_found");
    let gone = refresh(&deactivated).await.is(200);
    assert_eq!((&gone["deactivated"], &gone["revoked"]), (&json!(true), &json!(false)));
    refresh(&rotated).await.is(200);
    for (agent, code) in [
        (&removed, "signature_key_unknown"),
        (&deactivated, "signature_key_revoked"),
        (&rotated, "signature_alg_not_allowed"),
    ] {
        let message = order().signed(agent, now(&app)).to_verify();
        app.refuses(app.request("POST", PATH).json(&message), 403, code).await;
    }
    let mut signer = new.signer.clone();
    signer.key_id = rotated.signer.key_id.clone();
    let message = order().signed_with(&signer, "a-nonce-of-the-new-key", now(&app));
    verify(&app, &message).await.is(200);
    // What comes back is believed again: only a revocation is final.
    for agent in [&removed, &deactivated] {
        upstream.has(&agent.did, agent.signer.key.public_key());
        crate::support::wait_for("another refresh", async || {
            (refresh(agent).await.status == 200).then_some(())
        })
        .await;
        verify(&app, &order().signed(agent, now(&app))).await.is(200);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn freshness_is_forced_now_and_then(#[values(Sqlite, Postgres)] on: Database) {
    let upstream = Upstream::start().await;
    let app = TestApp::start_with(on, |config| {
        upstream.configure(config);
        config.dids.refresh_interval = minutes(60);
    })
    .await;
    let did = agent_at(&upstream).did;
    let (path, refresh) = (path_of(&did), format!("{}/refresh", path_of(&did)));
    // The first read of all is no forced one.
    app.request("POST", &refresh).send().await.is(200);
    app.get(&format!("{path}?max_age=60")).await.is(200);
    assert_eq!(upstream.asked(), 1);
    app.request("POST", &refresh).send().await.is(200);
    assert_eq!(upstream.asked(), 2);
    app.refuses(app.request("POST", &refresh), 429, "rate_limited").await;
    app.refuses(app.request("GET", &format!("{path}?max_age=0")), 429, "rate_limited").await;
    app.get(&path).await.is(200);
    assert_eq!(upstream.asked(), 2);
    // Another DID has its own turn.
    let other = agent_at(&upstream).did;
    app.get(&path_of(&other)).await.is(200);
    app.get(&format!("{}?max_age=0", path_of(&other))).await.is(200);
    assert_eq!(upstream.asked(), 4);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_outlives_what_its_home_says(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let agent = agent_at(&upstream);
    verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    let path = path_of(&agent.did);
    app.post(&format!("{path}/revoke"), &json!({})).await.is(200);
    let asked = upstream.asked();
    for _ in 0..2 {
        let refreshed = app.request("POST", &format!("{path}/refresh")).send().await.is(200);
        assert_eq!(refreshed["revoked"], true);
        verify(&app, &order().signed(&agent, now(&app)))
            .await
            .refused(403, "signature_key_revoked");
    }
    assert_eq!(upstream.asked(), asked, "its home has no more say");
    // Nor has it in a revocation that comes while it is asked.
    let other = agent_at(&upstream);
    upstream.hold();
    let revoke = async {
        let asks = async || (upstream.asked() > asked).then_some(());
        crate::support::wait_for("the question", asks).await;
        app.post(&format!("{}/revoke", path_of(&other.did)), &json!({})).await.is(200);
        upstream.resume();
    };
    let (path, ()) = (path_of(&other.did), ());
    let (read, ()) = tokio::join!(app.get(&path), revoke);
    assert_eq!(read.is(200)["revoked"], true);
    assert_eq!(app.get(&path).await.is(200)["revoked"], true);
    verify(&app, &order().signed(&other, now(&app))).await.refused(403, "signature_key_revoked");
}

/// Whatever reads, refreshes and changes run beside a revocation, in whichever order: a call that
/// begins after it has returned finds the DID revoked.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_beside_a_revocation_takes_it_back(#[values(Sqlite, Postgres)] on: Database) {
    const ROUNDS: u64 = 25;
    const READERS: u64 = 6;
    let upstream = Upstream::start().await;
    let app = TestApp::start_with(on, |config| {
        upstream.configure(config);
        config.dids.refresh_interval = Duration::from_millis(1);
    })
    .await;
    let mut after = 0;
    for round in 0..ROUNDS {
        let did = agent_at(&upstream).did;
        let (path, revoked) = (path_of(&did), Cell::new(false));
        let reader = async |number: u64| {
            let mut random = fastrand::Rng::with_seed(round * READERS + number);
            let mut seen = 0;
            while seen < 3 {
                let is_revoked = revoked.get();
                // In every other round, what is cached is never read again because somebody asks.
                let least = if round % 2 == 0 { 2 } else { 0 };
                let answer = match random.u8(least..4) {
                    0 => app.get(&format!("{path}?max_age=0")).await,
                    1 => app.request("POST", &format!("{path}/refresh")).send().await,
                    choice => {
                        if choice == 2 {
                            upstream.has(&did, &a_public_key(random.u8(1..100)));
                        }
                        app.get(&path).await
                    }
                };
                if answer.status == 429 {
                    continue;
                }
                let answer = answer.is(200);
                if is_revoked {
                    assert_eq!(answer["revoked"], true, "round {round}, reader {number}");
                    seen += 1;
                }
            }
            seen
        };
        let revoke = async {
            let wait = fastrand::Rng::with_seed(round).u64(..8);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            app.post(&format!("{path}/revoke"), &json!({})).await.is(200);
            revoked.set(true);
            assert_eq!(app.get(&path).await.is(200)["revoked"], true, "round {round}");
        };
        let (seen, ()) = tokio::join!(join_all((0..READERS).map(reader)), revoke);
        after += seen.into_iter().sum::<u64>();
    }
    assert_eq!(after, ROUNDS * READERS * 3);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_home_is_not_stored_by_hand(#[values(Sqlite, Postgres)] on: Database) {
    let (mut app, upstream) = start(on).await;
    let agent = agent_at(&upstream);
    let put = app.request("PUT", &path_of(&agent.did)).json(&ed25519(1));
    app.refuses(put, 422, "validation_failed").await.names(&["did"]);
    // What was stored while nobody read the method gives way to what its home says.
    app.restart_with(|config| config.resolvers.universal = None).await;
    app.put(&path_of(&agent.did), &ed25519(1)).await.is(201);
    assert_eq!(app.get(&path_of(&agent.did)).await.is(200)["source"], "stored");
    app.restart_with(|config| upstream.configure(config)).await;
    let read = app.get(&path_of(&agent.did)).await.is(200);
    assert_eq!(read["source"], "universal");
    assert_ne!(read["public_key"], ed25519(1)["public_key"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_keys_for_authentication_sign(#[values(Sqlite, Postgres)] on: Database) {
    let (app, upstream) = start(on).await;
    let agent = agent_at(&upstream);
    let key = agent.signer.key.public_key();
    let mut document = upstream_document(&agent.did, key);
    document["authentication"] = json!([]);
    document["assertionMethod"] = json!(["#k1"]);
    upstream.says(&agent.did, Says::Document(document));
    let read = app.get(&path_of(&agent.did)).await.is(200);
    assert_eq!(read["verification_methods"][0]["authentication"], false);
    assert_eq!(read["public_key"], json!(null));
    verify(&app, &order().signed(&agent, now(&app))).await.refused(403, "signature_key_unknown");
}

/// The two codes of a home that is down, in their places among the others.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_is_down_has_its_place_in_the_order(#[values(Sqlite, Postgres)] on: Database) {
    let (mut app, upstream) = start(on).await;
    let (known, unknown, revoked) = (agent_at(&upstream), agent_at(&upstream), agent_at(&upstream));
    for agent in [&known, &revoked] {
        app.get(&path_of(&agent.did)).await.is(200);
    }
    app.store().pass(minutes(6)).await;
    app.restart().await;
    upstream.fails(true);
    app.post(&format!("{}/revoke", path_of(&revoked.did)), &json!({})).await.is(200);
    let incomplete = |agent: &Agent| order().signed(agent, now(&app)).with("x-session-id", "x");
    let forged = |agent: &Agent| {
        let mut message = order().signed(agent, now(&app));
        message.url = message.url.replace("id=1", "id=2");
        message
    };
    let wrong_alg = |agent: &Agent| {
        let other = Agent::new(KeyType::P256);
        let mut signer = other.signer.clone();
        signer.key_id = agent.signer.key_id.clone();
        order().signed_with(&signer, "a-nonce-with-another-key", now(&app))
    };
    for (message, status, code) in [
        (incomplete(&unknown), 403, "signature_components_incomplete"),
        (forged(&unknown), 503, "signature_key_unavailable"),
        (incomplete(&known), 403, "signature_components_incomplete"),
        (wrong_alg(&known), 403, "signature_alg_not_allowed"),
        (forged(&known), 503, "signature_revocation_stale"),
        (forged(&revoked), 403, "signature_key_revoked"),
    ] {
        let request = app.request("POST", PATH).json(&message.to_verify());
        app.refuses(request, status, code).await;
    }
    // To the service itself, and to a proxy.
    for (agent, code) in
        [(&unknown, "signature_key_unavailable"), (&known, "signature_revocation_stale")]
    {
        let answer = agent.request(&app, "GET", "/v1/sessions").send().await;
        answer.refused(503, code);
        let message = Message::new("GET", "https://service.example/a").signed(agent, now(&app));
        let request = message
            .to_path(app.admin(), "/v1/forward-auth")
            .header("x-forwarded-method", "GET")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "service.example")
            .header("x-forwarded-uri", "/a");
        let answer = request.send().await.refused(503, code);
        assert_eq!(answer.header("x-onceguard-code"), Some(code));
    }
}
