//! Agents call the API by signing their requests: what they may do, and how they are refused.

use onceguard::domain::{KeyType, Timestamp};
use onceguard::signatures::Component;
use rstest::rstest;
use serde_json::{Value, json};

use crate::dids::ed25519;
use crate::support::Database::{self, Postgres, Sqlite};
use crate::support::{Agent, Answer, Message, TestApp, a_did};

const NONE: &str = "0198f2a4-5b1e-7c3a-9d42-6f0e8b7a1c55";

fn now(app: &TestApp) -> Timestamp {
    app.store().clock().now()
}

/// A session between the two, with a key.
async fn session(app: &TestApp, client: &Agent, server: &Agent) -> String {
    let body = json!({
        "client_did": client.did.as_str(),
        "server_did": server.did.as_str(),
        "session_key": "a2V5",
    });
    client.json(app, "POST", "/v1/sessions", &body).send().await.is(201).text_of("id")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_acts_in_its_own_sessions(
    #[values(Sqlite, Postgres)] on: Database,
    #[values(KeyType::Ed25519, KeyType::Secp256k1, KeyType::P256)] key_type: KeyType,
) {
    let app = TestApp::start(on).await;
    let (client, server) = (Agent::new(key_type), Agent::new(KeyType::Ed25519));
    for (party, role) in [(&client, "client_did"), (&server, "server_did")] {
        let id = session(&app, &client, &server).await;
        let path = format!("/v1/sessions/{id}");
        let read = party.request(&app, "GET", &path).send().await.is(200);
        assert_eq!(read[role], party.did.as_str());
        party.request(&app, "HEAD", &path).send().await.is(200);
        let key = party.request(&app, "GET", &format!("{path}/key")).send().await.is(200);
        assert_eq!(key["session_key"], "a2V5");
        let list = format!("/v1/sessions?{role}={}&limit=10", party.did);
        let list = party.request(&app, "GET", &list).send().await.is(200);
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        assert_eq!(list["items"][0]["id"], id);
        party.request(&app, "POST", &format!("{path}/touch")).send().await.is(204);

        let nonces = format!("{path}/nonces");
        let nonce = json!({"nonce": "n"});
        party.json(&app, "POST", &nonces, &nonce).send().await.is(201);
        party.json(&app, "POST", &nonces, &nonce).send().await.refused(409, "nonce_replayed");
        let claims = json!({"claims": [
            {"session_id": id, "nonce": "m"}, {"session_id": id, "nonce": "n"},
            {"session_id": NONE, "nonce": "n"},
        ]});
        let claimed = party.json(&app, "POST", "/v1/claims", &claims).send().await.is(200);
        let outcomes = claimed["results"].as_array().unwrap().iter();
        let outcomes: Vec<_> = outcomes.map(|one| one["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["accepted", "replayed", "session_not_found"]);

        party.request(&app, "DELETE", &path).send().await.is(204);
        party.request(&app, "GET", &path).send().await.refused(410, "session_ended");
        session(&app, &client, &server).await;
        let parties = json!({role: party.did.as_str()});
        let ended = party.json(&app, "POST", "/v1/sessions/end", &parties).send().await.is(200);
        assert_eq!(ended["ended"], 1);
    }
    assert_eq!(app.audited().await, ["session.key_read"; 2], "parties end what is theirs");
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_do_nothing_else(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let (one, other) = (Agent::new(KeyType::Ed25519), a_did());
    let own = session(&app, &agent, &one).await;
    let own = format!("/v1/sessions/{own}");
    let me = agent.did.as_str();
    let stranger = "signature_not_a_party";
    let signer = json!({"signer": me, "nonce": "n", "expires_at": "2026-01-01T00:00:00Z"});
    let verify = json!({"method": "GET", "url": "https://a.example", "headers": []});
    for (method, path, body, code) in [
        ("POST", "/v1/claims".into(), Some(json!({"claims": [signer]})), "forbidden"),
        (
            "POST",
            "/v1/sessions/end".into(),
            Some(json!({"client_did": one.did.as_str()})),
            stranger,
        ),
        (
            "POST",
            "/v1/sessions".into(),
            Some(json!({"client_did": other.as_str(), "server_did": me})),
            "forbidden",
        ),
        ("GET", "/v1/sessions".into(), None, "forbidden"),
        ("GET", format!("/v1/sessions?client_did={other}"), None, "forbidden"),
        ("PATCH", own.clone(), Some(json!({"metadata": {}})), "forbidden"),
        ("GET", format!("{own}/nonces/n"), None, "forbidden"),
        ("GET", "/v1/dids".into(), None, "forbidden"),
        ("GET", format!("/v1/dids/{me}"), None, "forbidden"),
        ("PUT", format!("/v1/dids/{me}"), Some(ed25519(1)), "forbidden"),
        ("DELETE", format!("/v1/dids/{me}"), None, "forbidden"),
        ("POST", format!("/v1/dids/{me}/refresh"), None, "forbidden"),
        ("POST", format!("/v1/dids/{other}/revoke"), None, "forbidden"),
        ("POST", "/v1/verify".into(), Some(verify), "forbidden"),
        ("GET", "/v1/search?q=example".into(), None, "forbidden"),
        ("GET", "/v1/stats".into(), None, "forbidden"),
        ("GET", "/v1/instances".into(), None, "forbidden"),
        ("GET", "/v1/events".into(), None, "forbidden"),
        ("POST", "/v1/events".into(), Some(json!({"type": "a", "subject": "b"})), "forbidden"),
    ] {
        let request = match &body {
            Some(body) => agent.json(&app, method, &path, body),
            None => agent.request(&app, method, &path),
        };
        let before = state(&app).await;
        // A token does not add to what the signer may do.
        let request = request.header("authorization", &format!("Bearer {}", app.token_text()));
        request.send().await.refused(403, code);
        assert_eq!(before, state(&app).await, "{method} {path}");
    }
}

/// An agent cannot tell a session of others from one that does not exist, whatever became of it.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_others_do_not_exist_for_an_agent(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let own = session(&app, &agent, &Agent::new(KeyType::Ed25519)).await;
    let open = || app.open_with(json!({"session_key": "a2V5", "idle_timeout_seconds": 10}));
    let (live, ended) = (open().await.text_of("id"), open().await.text_of("id"));
    app.delete(&format!("/v1/sessions/{ended}")).await.is(204);
    let calls = |id: &str| {
        let path = format!("/v1/sessions/{id}");
        let nonce = json!({"nonce": "n"});
        [
            agent.request(&app, "GET", &path),
            agent.request(&app, "GET", &format!("{path}/key")),
            agent.request(&app, "POST", &format!("{path}/touch")),
            agent.request(&app, "DELETE", &path),
            agent.json(&app, "POST", &format!("{path}/nonces"), &nonce),
        ]
    };
    let claim = |ids: &[&str]| {
        let claims: Vec<_> = ids.iter().map(|id| json!({"session_id": id, "nonce": "n"})).collect();
        agent.json(&app, "POST", "/v1/claims", &json!({"claims": claims}))
    };
    let said = |answer: &Answer| {
        let mut problem = answer.json().clone();
        problem["request_id"] = Value::Null;
        problem
    };
    let before = state(&app).await;
    for (at, missing) in calls(NONE).into_iter().enumerate() {
        let missing = missing.send().await.refused(404, "session_not_found");
        for theirs in [&live, &ended] {
            let theirs = calls(theirs).into_iter().nth(at).unwrap();
            // A token does not add to what the signer may do.
            let theirs = theirs.header("authorization", &format!("Bearer {}", app.token_text()));
            let theirs = theirs.send().await.refused(404, "session_not_found");
            assert_eq!(said(&theirs), said(&missing));
        }
        // On its own API, too, a session that a request names is judged.
        for (named, status, code) in [
            (NONE, 404, "session_not_found"),
            (&live, 404, "session_not_found"),
            (&ended, 404, "session_not_found"),
            ("nonsense", 404, "session_not_found"),
        ] {
            let url = format!("{}/v1/sessions/{own}", app.base());
            let message = Message::new("GET", &url).with("x-session-id", named);
            let message = message.signed(&agent, now(&app));
            message.to_http(&app.anybody()).send().await.refused(status, code);
        }
    }
    assert_eq!(before, state(&app).await);

    // In a batch each claim has its own outcome.
    let answer = claim(&[&live, &own, NONE, &ended, &own]).send().await.is(200);
    let outcomes: Vec<_> =
        answer["results"].as_array().unwrap().iter().map(|one| one["outcome"].clone()).collect();
    let none = "session_not_found";
    assert_eq!(outcomes, [none, "accepted", none, none, "replayed"]);
    for path in [format!("/v1/sessions/{live}/nonces/n"), format!("/v1/sessions/{ended}/nonces/n")]
    {
        app.get(&path).await.refused(404, "nonce_unused");
    }
    app.get(&format!("/v1/sessions/{live}")).await.is(200);
}

/// A signed call of the service belongs to the session that it names, and does not count in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_may_name_its_session() {
    let app = TestApp::start(Sqlite).await;
    let agent = Agent::new(KeyType::Ed25519);
    let counted = json!({"client_did": agent.did.as_str(), "max_claims": 1});
    let own = app.open_with(counted).await.text_of("id");
    let path = format!("/v1/sessions/{own}");
    let read = || {
        let message = Message::new("GET", &format!("{}{path}", app.base()));
        let message = message.with("x-session-id", &own).signed(&agent, now(&app));
        message.to_http(&app.anybody())
    };
    assert_eq!(read().send().await.is(200)["claims"], 0);
    assert_eq!(app.get(&path).await["claims"], 0);
    app.delete(&path).await.is(204);
    read().send().await.refused(410, "session_ended");
}

/// What an agent could change: everything but the nonces that its signatures spend.
async fn state(app: &TestApp) -> Vec<String> {
    let data = app.data().await;
    let mut of_signers = false;
    let mut kept = Vec::new();
    for line in data.lines() {
        if line.ends_with(':') && !line.contains(' ') {
            of_signers = line.contains("signer");
        }
        if !of_signers {
            kept.push(line.to_owned());
        }
    }
    assert!(kept.len() > 6, "{data}");
    kept
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_revokes_itself(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    // The path is signed as it is sent, encoded or not.
    for encoded in [false, true] {
        let (agent, other) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::Ed25519));
        let id = session(&app, &agent, &other).await;
        let did = agent.did.to_string();
        let did = if encoded { did.replace(':', "%3A") } else { did };
        let revoke = format!("/v1/dids/{did}/revoke");
        let revoked = agent.request(&app, "POST", &revoke).send().await.is(200);
        assert_eq!(revoked["sessions_ended"], 1);
        let events = app.store().newest_events(2).await.unwrap();
        let actions: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(actions, ["onceguard.sessions.ended", "onceguard.did.revoked"]);
        assert!(
            events.iter().all(|event| event.actor.as_deref() == Some(agent.did.as_str())),
            "{events:?}"
        );
        let path = format!("/v1/sessions/{id}");
        let refused = agent.request(&app, "GET", &path);
        app.refuses(refused, 403, "signature_key_revoked").await;
        let ended = other.request(&app, "GET", &path).send().await.refused(410, "session_ended");
        assert_eq!(ended["end_reason"], "did_revoked");
        let body = json!({"client_did": other.did.as_str(), "server_did": agent.did.as_str()});
        let open = other.json(&app, "POST", "/v1/sessions", &body).send().await;
        open.refused(403, "did_revoked");
    }
}

/// Whatever token comes with it: a broken signature is no reason to look for something else.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_signature_is_refused(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let path = format!("/v1/sessions/{}", app.session().await);
    let nonces = format!("{}{path}/nonces", app.base());
    let message = Message::new("POST", &nonces).json(&json!({"nonce": "n"}));
    let signed = || message.clone().signed(&agent, now(&app));
    let mut uncovered = agent.clone();
    uncovered.signer.profile.coverage.always = vec![vec![vec![Component::Method]]];
    let mut other_body = signed();
    other_body.body = json!({"nonce": "m"}).to_string().into_bytes();
    let mut other_method = signed();
    other_method.method = "PUT".to_owned();
    other_method.url = format!("{}/v1/dids/did:web:a.example", app.base());
    let used = signed();
    used.to_http(&app.anybody()).send().await.refused(404, "session_not_found");
    let hour = chrono::Duration::hours(1);
    for (message, code) in [
        (message.clone().with("signature", ""), "signature_malformed"),
        (signed().without("signature"), "signature_malformed"),
        (signed().without("signature-input"), "signature_malformed"),
        (signed().edit("signature-input", "\"onceguard\"", "\"other\""), "signature_tag_invalid"),
        (message.clone().signed(&agent, now(&app) - hour), "signature_window_invalid"),
        (message.clone().signed(&agent, now(&app) + hour), "signature_window_invalid"),
        (message.clone().signed(&uncovered, now(&app)), "signature_components_incomplete"),
        (signed().edit("signature-input", "did:key:z6Mk", "did:key:z6Mx"), "signature_key_unknown"),
        (other_method, "signature_invalid"),
        (other_body, "signature_digest_mismatch"),
        (used, "signature_replayed"),
    ] {
        for caller in [app.anybody(), app.admin().clone()] {
            let path = message.url.strip_prefix(app.base()).unwrap();
            app.refuses(message.to_path(&caller, path), 401, code).await;
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_judged_in_its_turn(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let agent = Agent::new(KeyType::Ed25519);
    let url = |path: &str| format!("{}{path}", app.base());
    let send = |message: &Message| message.to_http(&app.anybody());
    let broken = |message: Message| message.signed(&agent, now(&app)).edit("signature", ":", "");
    let mut large = Message::new("POST", &url("/v1/sessions")).json(&json!({}));
    large.body = vec![b' '; 256 * 1024 + 1];
    let large = broken(large);
    app.refuses(send(&large), 413, "payload_too_large").await;
    let nothing = broken(Message::new("GET", &url("/v1/nothing")));
    app.refuses(send(&nothing), 404, "not_found").await;
    let text = || {
        let mut message = Message::new("POST", &url("/v1/sessions"));
        message.body = b"x".to_vec();
        message.with("content-type", "text/plain")
    };
    app.refuses(send(&broken(text())), 401, "signature_malformed").await;
    let signed = text().signed(&agent, now(&app));
    send(&signed).send().await.refused(415, "unsupported_media_type");
    let json = text().without("content-type").with("content-type", "application/json");
    let signed = json.signed(&agent, now(&app));
    send(&signed).send().await.refused(400, "invalid_request");
    let signed = Message::new("POST", &url("/v1/sessions")).json(&json!({"client_did": "x"}));
    let signed = signed.signed(&agent, now(&app));
    send(&signed).send().await.names(&["/client_did", "/server_did"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_accepted_once(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start_with(on, |config| config.claims.quota_per_signer = 3).await;
    let agent = Agent::new(KeyType::Ed25519);
    let list = format!("{}/v1/sessions?client_did={}", app.base(), agent.did);
    let message = Message::new("GET", &list).signed(&agent, now(&app));
    let sent = (0..20).map(|_| message.to_http(&app.anybody()).send());
    let answers = futures_util::future::join_all(sent).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.into_iter().filter(|answer| answer.status != 200) {
        answer.refused(401, "signature_replayed");
    }
    // Beyond what a signer may hold, nothing is evicted.
    for _ in 0..2 {
        Message::new("GET", &list)
            .signed(&agent, now(&app))
            .to_http(&app.anybody())
            .send()
            .await
            .is(200);
    }
    let more = Message::new("GET", &list).signed(&agent, now(&app)).to_http(&app.anybody());
    let full = app.refuses(more, 429, "claim_quota_reached").await;
    assert!(full.header("retry-after").is_some(), "some of the signer's nonces expire");
    message.to_http(&app.anybody()).send().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_repeats_with_its_idempotency_key(#[values(Sqlite, Postgres)] on: Database) {
    let app = TestApp::start(on).await;
    let (agent, other) = (Agent::new(KeyType::Ed25519), Agent::new(KeyType::Ed25519));
    let path = format!("/v1/sessions/{}/nonces", session(&app, &agent, &other).await);
    let claim = |agent: &Agent| {
        agent.json(&app, "POST", &path, &json!({"nonce": "n"})).header("idempotency-key", "k")
    };
    let first = claim(&agent).send().await.is(201);
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = claim(&agent).send().await.is(201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again["used_at"], first["used_at"]);
    claim(&other).send().await.refused(409, "nonce_replayed");
}

/// A request may have a signature or a token; with neither it learns of both.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_credential_both_ways_are_told() {
    let app = TestApp::start(Sqlite).await;
    let refused = app.anybody().get("/v1/sessions").await.refused(401, "unauthenticated");
    let challenges: Vec<Value> = refused
        .headers
        .get_all("www-authenticate")
        .iter()
        .map(|value| value.to_str().unwrap().into())
        .collect();
    assert_eq!(challenges, [r#"Bearer realm="onceguard""#, r#"Signature error="unauthenticated""#]);
}
