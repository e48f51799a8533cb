//! Verdicts on messages that belong to a session: it must be live, and the signer a party to it.
//! The claim that spends the nonce judges that.

use onceguard::domain::KeyType;
use rstest::rstest;
use serde_json::json;

use crate::sessions::time;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, TestApp, minutes};
use crate::verify::{PATH, now, order, session_of, verify, verify_in};

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_named_session_is_live_and_the_signers(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (agent, server) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::P256));
    let session = json!({
        "client_did": agent.did.as_str(),
        "server_did": server.did.as_str(),
        "max_claims": 10,
    });
    let session = app.open_with(session).await.text_of("id");
    for party in [&agent, &server] {
        let answer = verify_in(&app, &order().signed(party, now(&app)), &session).await.is(200);
        assert_eq!(answer["session_id"], session);
    }
    // In the head it must be signed; with it, the body may say the same, and nothing else.
    let named = order().with("x-session-id", &session).signed(&agent, now(&app));
    let covered = verify_in(&app, &named, &session).await.is(200)["covered"].to_string();
    assert!(covered.contains("x-session-id"), "{covered}");
    let added = order().signed(&agent, now(&app)).with("X-Session-Id", &session);
    verify_in(&app, &added, &session).await.refused(403, "signature_components_incomplete");
    let other = app.session().await;
    let twice = named.clone().with("x-session-id", &session);
    for (message, id) in [(&named, &other), (&twice, &session)] {
        verify_in(&app, message, id).await.names(&["/session_id"]);
    }
    let count = app.get(&format!("/v1/sessions/{session}")).await;
    assert_eq!(count["claims"], 3, "a verdict counts in the session that it names");

    app.delete(&format!("/v1/sessions/{session}")).await.is(204);
    let message = order().signed(&agent, now(&app));
    let ended = verify_in(&app, &message, &session).await.refused(403, "session_ended");
    assert_eq!(ended["end_reason"], "ended");
    time(&ended["ended_at"]);

    let short = json!({"client_did": agent.did.as_str(), "idle_timeout_seconds": 60});
    let short = app.open_with(short).await.text_of("id");
    app.store().pass(minutes(2)).await;
    let message = order().signed(&agent, now(&app));
    let expired = verify_in(&app, &message, &short).await.refused(403, "session_expired");
    assert_eq!(expired["end_reason"], "idle");
    verify(&app, &message).await.is(200);

    let one = json!({"client_did": agent.did.as_str(), "max_claims": 1});
    let one = app.open_with(one).await.text_of("id");
    verify_in(&app, &order().signed(&agent, now(&app)), &one).await.is(200);
    let last = verify_in(&app, &order().signed(&agent, now(&app)), &one).await;
    last.refused(403, "claim_quota_reached");
}

/// A session that the message names is judged, whether or not the caller of `/v1/verify` knows it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_message_names_is_never_ignored(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let counted = json!({"client_did": agent.did.as_str(), "max_claims": 10});
    let own = app.open_with(counted).await.text_of("id");
    let (theirs, unknown) = (app.session().await, "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55");
    let naming = |ids: &[&str]| {
        let message = ids.iter().fold(order(), |message, id| message.with("X-Session-Id", id));
        message.signed(&agent, now(&app))
    };
    let answer = verify(&app, &naming(&[&own])).await.is(200);
    assert_eq!(answer["session_id"], own);
    assert_eq!(app.get(&format!("/v1/sessions/{own}")).await["claims"], 1);

    let over = session_of(&app, &agent.did).await;
    app.delete(&format!("/v1/sessions/{over}")).await.is(204);
    let theirs_over = app.session().await;
    app.delete(&format!("/v1/sessions/{theirs_over}")).await.is(204);
    for (ids, code) in [
        (&[over.as_str()][..], "session_ended"),
        (&[&theirs], "signature_not_a_party"),
        // Of sessions of others, a stranger does not learn that they ended, or why.
        (&[&theirs_over], "signature_not_a_party"),
        (&[unknown], "session_not_found"),
        (&["nonsense"], "session_not_found"),
        (&[""], "session_not_found"),
        (&[&own, &own], "session_not_found"),
        (&[&own, &over], "session_not_found"),
    ] {
        let request = app.request("POST", PATH).json(&naming(ids).to_verify());
        app.refuses(request, 403, code).await;
    }
    // Not signed, it is not judged as if it were not there.
    let added = order().signed(&agent, now(&app)).with("x-session-id", &own);
    verify(&app, &added).await.refused(403, "signature_components_incomplete");
}

/// Of fifty verdicts, so that what the service asks the database for itself decides nothing.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_in_a_session_is_one_operation_on_the_database(
    #[values(Sqlite, Postgres)] on: Database,
) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let own = session_of(&app, &agent.did).await;
    let (theirs, unknown) = (app.session().await, "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55");
    verify(&app, &order().signed(&agent, now(&app))).await.is(200);
    for (session, refused) in [
        (own.as_str(), None),
        (theirs.as_str(), Some("signature_not_a_party")),
        (unknown, Some("session_not_found")),
    ] {
        let operations = async || app.metric("onceguard_database_operations_total", &[]).await;
        let before = operations().await;
        for _ in 0..50 {
            let answer = verify_in(&app, &order().signed(&agent, now(&app)), session).await;
            match refused {
                None => answer.is(200),
                Some(code) => answer.refused(403, code),
            };
        }
        let made = operations().await - before;
        assert!((50.0..75.0).contains(&made), "{refused:?}: {made} operations for 50 verdicts");
    }
}
