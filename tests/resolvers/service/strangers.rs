//! Messages whose signatures do not verify: they may name any DID, and cost others nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use onceguard::domain::{Did, KeyType};
use onceguard::resolvers::did_key;
use onceguard::signatures::SigningKey;
use rstest::rstest;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Keyholder, VERIFY, forged, now, order, reads_here, verify};
use crate::site::{Site, json as json_answer};
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Authority, TestApp, did, wait_for};

/// What takes a connection, and says nothing, on so many ports of `localhost`.
async fn silent_ports(count: usize) -> Vec<TcpListener> {
    let mut ports = Vec::new();
    for _ in 0..count {
        ports.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    ports
}

/// Two hundred silent hosts of one name, named in more messages than there are places for: every
/// honest DID that is read for the first time meanwhile is read, and every known one again.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_slow_hosts_of_one_name_keep_no_honest_did_from_being_read() {
    const HONEST: usize = 60;
    /// More than there are places, all of them named.
    const ATTACKERS: usize = 100;
    let (authority, keyholder) = (Authority::new(), Keyholder::new());
    let documents = keyholder.documents();
    // Its name is its address, which is that of the silent ones, too.
    let honest =
        Site::start(&authority, move |did| json_answer(&documents(&by_address(did)))).await;
    let silent = silent_ports(200).await;
    let app = TestApp::start_with(Sqlite, |config| {
        reads_here(config, &authority);
        config.dids.refresh_interval = Duration::from_millis(1);
    })
    .await;
    let known = keyholder.named(&by_address(&honest.did(":known")));
    verify(&app, &order().signed(&known, now(&app))).await.is(200);

    let slow: Arc<Vec<Did>> = Arc::new(
        silent
            .iter()
            .map(|socket| socket.local_addr().unwrap().port())
            .map(|port| did(&format!("did:web:localhost%3A{port}:agents:a")))
            .collect(),
    );
    let over = Arc::new(AtomicBool::new(false));
    let mut attackers = JoinSet::new();
    for first in 0..ATTACKERS {
        let (slow, over) = (Arc::clone(&slow), Arc::clone(&over));
        let messages: Vec<_> = slow
            .iter()
            .cycle()
            .skip(first * 2)
            .take(8)
            .map(|did| forged(&keyholder.named(did), now(&app)).to_verify())
            .collect();
        let caller = app.admin().clone();
        attackers.spawn(async move {
            for message in messages.iter().cycle() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                caller.post(VERIFY, message).await.refused(503, "signature_key_unavailable");
                // Each alone sends some thirty messages a second.
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        });
    }
    let full = || app.metric("onceguard_resolver_refusals_total", &["web", "host"]);
    wait_for("the attack", async || (full().await > 100.0).then_some(())).await;
    for number in 0..HONEST {
        let agent = keyholder.named(&by_address(&honest.did(&format!(":agents:{number}"))));
        verify(&app, &order().signed(&agent, now(&app))).await.is(200);
        let again = wait_for("an answer that is not limited", async || {
            let path = format!("/v1/dids/{}/refresh", known.did);
            let answer = app.request("POST", &path).send().await;
            (answer.status != 429).then_some(answer)
        });
        again.await.is(200);
    }
    assert!(full().await > 100.0);
    over.store(true, Ordering::SeqCst);
    drop(silent);
    attackers.join_all().await;
}

/// The DID at this site by the address of `localhost`.
fn by_address(named: &Did) -> Did {
    did(&named.as_str().replace("localhost", "127.0.0.1"))
}

/// Invalid signatures of fresh DIDs, whose documents are many times what is remembered of
/// strangers: nothing is stored. A signature that verifies is what has its DID stored.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_sign_is_not_stored(#[values(Sqlite, Postgres)] on: Database) {
    const OF_WEB: usize = 40;
    const OF_KEY: usize = 160;
    let (authority, keyholder) = (Authority::new(), Keyholder::new());
    let documents = keyholder.documents();
    let site = Site::start(&authority, move |did| {
        let mut document = documents(did);
        document["service"] =
            json!([{"id": "#s", "type": "T", "serviceEndpoint": "x".repeat(56_000)}]);
        json_answer(&document)
    })
    .await;
    let app = TestApp::start_with(on, |config| {
        reads_here(config, &authority);
        // The least that may be configured: a few of these documents.
        config.dids.new_bytes = 1 << 20;
    })
    .await;
    let raw = app.store().raw();
    let before = raw.data().await;
    // The same DID over and over: its host is asked once for it. (A memory that is full may not take
    // a new one in at once.)
    let did = site.did(":agents:of-a-flood");
    let agent = keyholder.named(&did);
    for _ in 0..20 {
        verify(&app, &forged(&agent, now(&app))).await.refused(403, "signature_invalid");
    }
    assert_eq!(site.requests().len(), 1);
    assert_eq!(raw.data().await, before, "something is stored");

    // What verifies is stored, with what was read already.
    verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    assert_eq!(raw.number("count(*) FROM dids").await, 1);
    let stored = app.get(&format!("/v1/dids/{did}")).await.is(200);
    assert!(stored["created_at"].is_string(), "{stored:?}");
    assert_eq!(site.requests().len(), 1);

    let before = raw.data().await;
    let of_key = (0..OF_KEY).map(|_| {
        let key =
            SigningKey::from_bytes(KeyType::Ed25519, &std::array::from_fn(|_| fastrand::u8(..)));
        did_key::encode(key.unwrap().public_key()).unwrap()
    });
    let of_web: Vec<_> = (0..OF_WEB).map(|number| site.did(&format!(":agents:{number}"))).collect();
    let dids = of_web.iter().cloned().chain(of_key);
    let verdicts = stream::iter(dids.map(|did| {
        let agent = keyholder.named(&did);
        let (app, message) = (&app, forged(&agent, now(&app)));
        async move { verify(app, &message).await }
    }))
    .buffer_unordered(4);
    let invalid = verdicts
        .filter(|verdict| {
            let is_invalid = verdict.code() == "signature_invalid";
            assert!(is_invalid, "{verdict:?}");
            std::future::ready(is_invalid)
        })
        .count()
        .await;
    assert_eq!(invalid, OF_WEB + OF_KEY);
    assert_eq!(raw.data().await, before, "something is stored");

    // So is what a caller with a token asks for by its name, in whichever way.
    for (number, call) in [("GET", ""), ("POST", "/refresh")].iter().enumerate() {
        let did = site.did(&format!(":asked-for:{number}"));
        let agent = keyholder.named(&did);
        verify(&app, &forged(&agent, now(&app))).await.refused(403, "signature_invalid");
        assert_eq!(raw.number("count(*) FROM dids").await, 1 + i64::try_from(number).unwrap());
        let asked_for = app.request(call.0, &format!("/v1/dids/{did}{}", call.1)).send().await;
        assert!(asked_for.is(200)["created_at"].is_string());
        assert_eq!(raw.number("count(*) FROM dids").await, 2 + i64::try_from(number).unwrap());
    }
    let resolved = site.did(":resolved");
    app.get(&format!("/1.0/identifiers/{resolved}")).await.is(200);
    assert_eq!(raw.number("count(*) FROM dids").await, 4);
}

/// A revocation, whoever made it and whenever, holds for a DID of which only a message was seen.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_did_that_was_only_seen_can_be_revoked(#[values(Sqlite, Postgres)] on: Database) {
    let (authority, keyholder) = (Authority::new(), Keyholder::new());
    let documents = keyholder.documents();
    let site = Site::start(&authority, move |did| json_answer(&documents(did))).await;
    let app = TestApp::start_with(on, |config| reads_here(config, &authority)).await;
    for did in [site.did(":agents:a"), keyholder.agent.did.clone()] {
        let agent = keyholder.named(&did);
        verify(&app, &forged(&agent, now(&app))).await.refused(403, "signature_invalid");
        app.post(&format!("/v1/dids/{did}/revoke"), &json!({})).await.is(200);
        let message = order().signed(&agent, now(&app));
        verify(&app, &message).await.refused(403, "signature_key_revoked");
        assert_eq!(app.get(&format!("/v1/dids/{did}")).await.is(200)["revoked"], true);
    }
}
